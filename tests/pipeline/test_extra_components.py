"""Components of the user's own in the DAG: their place, and the one line for those that do not fit."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.errors import ConfigError
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import describe_code
from pipeline.create_pipeline import create_pipeline
from pipeline.vertex.compiler import compile_job
from serving.registry.settings import LocalRegistrySettings
from tests.conftest import CENSUS_CONFIG

_MODULE = """
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import base_component
from tfx.types import standard_artifacts


@component
def Card(
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    card: OutputArtifact[standard_artifacts.String],
    title: Parameter[str] = "",
) -> None:
    with open(card.uri, "w") as file:
        file.write(title)


@component
def Reader(card: InputArtifact[standard_artifacts.String]) -> None:
    pass


class Abstract(base_component.BaseComponent):
    def __init__(self, evaluation, title):
        pass


NOT_A_COMPONENT = 1
"""
_CARD = {"component": "own_cards.Card", "inputs": {"evaluation": "Evaluator.evaluation"}, "parameters": {"title": "t"}}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the module `own_cards`, which can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_cards", raising=False)
    (tmp_path / "own_cards.py").write_text(_MODULE)
    return tmp_path / "own_cards.py"


def load(*components: dict[str, Any]) -> PipelineConfig:
    values = {**pipeline_config.load(CENSUS_CONFIG).model_dump(), "extra_components": components}
    return PipelineConfig.model_validate(values)


def build(config: PipelineConfig) -> Any:
    registry = LocalRegistrySettings(model_name="m", folder="registry")
    return create_pipeline(config, pipeline_root="root", registry=registry, run_id="1")


def test_a_component_runs_once_what_it_waits_for_has_run(module: Path) -> None:
    reader = {"component": "own_cards.Reader", "inputs": {"card": "Card.card"}, "after": "Trainer", "before": "Pusher"}
    config = load(reader, _CARD)
    names = config.node_names
    assert names[names.index("Evaluator") :] == ("Evaluator", "Card", "Reader", "InfraValidator", "Pusher")
    nodes = {node.id: node for node in build(config).components}
    assert nodes["Pusher"].upstream_nodes >= {nodes["Reader"]}
    assert nodes["Reader"].upstream_nodes >= {nodes["Card"], nodes["Trainer"]}


def test_its_code_is_part_of_the_key_of_the_cache(module: Path) -> None:
    def read_flags() -> list[str]:
        return next(node for node in build(load(_CARD)).components if node.id == "Card").executor_spec.extra_flags

    before = read_flags()
    assert read_flags() == before
    module.write_text(_MODULE + "# changed")
    assert read_flags() != before


def test_it_is_a_task_of_the_compiled_job(module: Path) -> None:
    tasks = compile_job(load({**_CARD, "before": "Pusher"}))["pipelineSpec"]["root"]["dag"]["tasks"]
    assert tasks["Card"]["inputs"]["artifacts"]["evaluation"]["taskOutputArtifact"]["producerTask"] == "Evaluator"
    assert "Card" in tasks["Pusher"]["dependentTasks"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": {"evaluation": "Evaluatr.x"}},
            "inputs.evaluation: there is no node 'Evaluatr'; did you mean 'Eval",
        ),
        (
            {"inputs": {"evaluation": "Evaluator.x"}},
            "inputs.evaluation: 'Evaluator' has no output 'x'; expected one of",
        ),
        ({"after": "Pushr"}, "after: there is no node 'Pushr'; did you mean 'Pusher'?"),
        ({"name": "Trainer"}, "name: 'Trainer' is another node; give it another name"),
    ],
)
def test_a_channel_or_node_that_does_not_exist_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"extra_components.0.{message}")):
        load({**_CARD, **changes})


def test_a_circle_is_named() -> None:
    message = "extra_components: nodes wait for each other: .*Card.*; change the inputs, `after` or `before`"
    with pytest.raises(ValueError, match=message):
        load({**_CARD, "before": "Transform"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"component": "nowhere.Card"},
            "extra_components.0.component: nowhere: there is no module 'nowhere'; install its package or put its folder "
            "on PYTHONPATH",
        ),
        ({"component": "own_cards.Cart"}, "extra_components.0.component: own_cards has no Cart; did you mean 'Card'?"),
        (
            {"component": "own_cards.NOT_A_COMPONENT"},
            "own_cards.NOT_A_COMPONENT is not a TFX component but of type int",
        ),
        ({"inputs": {}}, "extra_components.0: own_cards.Card needs evaluation; give channels in inputs and values in"),
        (
            {"component": "own_cards.Abstract"},
            "own_cards.Abstract does not take its inputs and parameters: Can't instan",
        ),
        ({"parameters": {"title": 3}}, "does not take its inputs and parameters: Expected type <class 'str'> for para"),
        (
            {"inputs": {"evaluations": "Evaluator.evaluation"}},
            "extra_components.0.inputs.evaluations: own_cards.Card has no argument 'evaluations'; did you mean 'evaluation'?",
        ),
        (
            {"inputs": {"evaluation": "Trainer.model"}},
            "extra_components.0.inputs.evaluation: Trainer.model has the type Model, and own_cards.Card takes "
            "ModelEvaluation; expected Evaluator.evaluation",
        ),
    ],
)
def test_a_component_that_cannot_be_built_is_one_line(module: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        build(load({**_CARD, "name": "Card", **changes}))
    assert "\n" not in str(error.value)
    assert "name a file" not in str(error.value)


def test_beams_options_are_for_components_that_run_on_beam(module: Path) -> None:
    more = {
        "component": "tfx.components.StatisticsGen",
        "name": "More",
        "inputs": {"examples": "Transform.transformed_examples"},
    }

    def load_with(beam: dict[str, Any]) -> PipelineConfig:
        values = {**pipeline_config.load(CENSUS_CONFIG).model_dump(), "extra_components": [more, _CARD]}
        return PipelineConfig.model_validate({**values, "beam": {"components": beam}})

    nodes: dict[str, Any] = {node.id: node for node in build(load_with({"More": {"workers": 3}})).components}
    assert "--direct_num_workers=3" in nodes["More"].executor_spec.beam_pipeline_args
    with pytest.raises(ConfigError, match=r"beam.components.Card: Card does not run on Beam; remove the entry"):
        build(load_with({"Card": {"workers": 3}}))
    with pytest.raises(ValueError, match=r"beam.components: 'Mor' does not run on Beam; did you mean 'More'"):
        load_with({"Mor": {"workers": 3}})


def test_a_compiled_job_names_how_the_code_travels(module: Path, tmp_path: Path) -> None:
    (tmp_path / "features.py").write_text("def preprocessing_fn(inputs): return inputs")
    config = load(_CARD)
    config = PipelineConfig.model_validate(
        {**config.model_dump(), "transform": {"module": str(tmp_path / "features.py")}, "beam": {"runner": "dataflow"}}
    )
    assert describe_code(config) == [
        "transform.module: the file features.py travels in the job, as text",
        "extra_components.0: own_cards does not travel; the package own_cards must be in vertex.image and in "
        "beam.sdk_image or beam.setup_file",
    ]
