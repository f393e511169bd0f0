"""The DAG of a config, whose nodes are the same whoever does the work of a component."""

from pathlib import Path
from typing import Any

import pytest
from tfx.components.transform import executor as stock_transform

from components.transform.component import BatchedExecutor
from pipeline.config import pipeline_config
from pipeline.create_pipeline import create_pipeline
from tests.conftest import CENSUS_CONFIG


def nodes(implementation: Any) -> dict[str, Any]:
    config = pipeline_config.load(CENSUS_CONFIG).model_copy(update={"implementation": implementation})
    registry = config.registry_settings(Path("registry"))
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
    assert transform in (stock_transform.Executor, BatchedExecutor)


def test_only_rewritten_components_have_two_implementations() -> None:
    with pytest.raises(ValueError, match="implementation"):
        pipeline_config.PipelineConfig.model_validate(
            {**pipeline_config.load(CENSUS_CONFIG).model_dump(), "implementation": {"ExampleGen": "stock"}}
        )
