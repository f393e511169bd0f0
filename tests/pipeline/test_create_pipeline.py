"""The DAG of a config, whose nodes are the same whoever does the work of a component."""

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.components.transform import executor as stock_transform

from cli.errors import ConfigError
from components.transform.component import BatchedTransformExecutor
from pipeline.config import pipeline_config
from pipeline.create_pipeline import create_pipeline
from tests.conftest import CENSUS_CONFIG, ROOT


def nodes(implementation: Any) -> dict[str, Any]:
    config = pipeline_config.load(CENSUS_CONFIG).model_copy(update={"implementation": implementation})
    registry = config.build_registry_settings(Path("registry"))
    return {
        node.id: node for node in create_pipeline(config, pipeline_root="", registry=registry, run_id="1").components
    }


@pytest.mark.parametrize(
    ("implementation", "stock"),
    [
        ("fast", set()),
        ("stock", {"StatisticsGen", "Transform", "Evaluator"}),
        ({"Transform": "stock"}, {"Transform"}),
        ({"Evaluator": "stock", "Transform": "fast"}, {"Evaluator"}),
    ],
)
def test_stock_executors_are_chosen_for_all_or_by_component(implementation: Any, stock: set[str]) -> None:
    made = nodes(implementation)
    assert made.keys() == nodes("fast").keys()
    chosen = {
        name for name in ("StatisticsGen", "Evaluator") if made[name].exec_properties["implementation"] == "stock"
    }
    transform = made["Transform"].executor_spec.executor_class
    chosen |= {"Transform"} if transform is stock_transform.Executor else set()
    assert chosen == stock
    assert transform in (stock_transform.Executor, BatchedTransformExecutor)


def test_a_replay_has_the_registry_and_the_slices_and_on_vertex_a_bucket() -> None:
    log = {"infra_validation": {"replay": {"log": "/requests", "max_changed": 0.02}}}
    config = pipeline_config.PipelineConfig.model_validate({**pipeline_config.load(CENSUS_CONFIG).model_dump(), **log})
    registry = config.build_registry_settings(Path("registry"))
    for on_vertex, folder in ((False, "/requests"), (True, "gs://bucket/requests")):
        replay = config.infra_validation.replay
        assert replay is not None
        section = config.infra_validation.model_copy(update={"replay": replay.model_copy(update={"log": folder})})
        dag = create_pipeline(
            config.model_copy(update={"infra_validation": section}),
            pipeline_root="",
            registry=registry,
            run_id="run-7",
            on_vertex=on_vertex,
        )
        (validator,) = [node for node in dag.components if node.id == "InfraValidator"]
        context = json.loads(validator.exec_properties["replay_context"])
        assert (context["run_id"], context["registry"]) == ("run-7", registry.model_dump_json())
        assert [tuple(columns) for columns in context["slice_by"]] == list(config.evaluation.slice_by)
    assert nodes("fast")["InfraValidator"].exec_properties.get("replay_context") is None
    with pytest.raises(ConfigError, match=r"^infra_validation\.replay\.log: /requests is a folder of this machine; on"):
        create_pipeline(config, pipeline_root="", registry=registry, run_id="1", on_vertex=True)


def test_a_replay_reads_the_log_of_monitoring_unless_it_names_one() -> None:
    settings = ["infra_validation.replay={max_changed: 0.02}", "monitoring.request_log=../requests"]
    replay = pipeline_config.load(CENSUS_CONFIG, settings).infra_validation.replay
    assert (replay and (replay.log, replay.max_changed)) == (str(ROOT / "requests"), 0.02)
    replay = pipeline_config.load(
        CENSUS_CONFIG, [*settings, "infra_validation.replay.log=/copy"]
    ).infra_validation.replay
    assert replay and replay.log == "/copy"
    with pytest.raises(ConfigError, match=r"infra_validation\.replay\.log: .*"):
        pipeline_config.load(CENSUS_CONFIG, settings[:1])
    with pytest.raises(ConfigError, match=r"replay\.log: is missing, and so is monitoring\.request_log; give one the"):
        pipeline_config.load(CENSUS_CONFIG, settings[:1])


def test_only_rewritten_components_have_two_implementations() -> None:
    with pytest.raises(ValueError, match="implementation"):
        pipeline_config.PipelineConfig.model_validate(
            {**pipeline_config.load(CENSUS_CONFIG).model_dump(), "implementation": {"ExampleGen": "stock"}}
        )
