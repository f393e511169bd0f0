"""The constructors take the arguments of stock TFX with its defaults, in its order, each by itself."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tfx import components as stock
from tfx import types
from tfx.components.example_gen import input_processor
from tfx.dsl.components.base import executor_spec
from tfx.orchestration import data_types
from tfx.proto import evaluator_pb2, example_gen_pb2, infra_validator_pb2, pusher_pb2, range_config_pb2, transform_pb2
from tfx.types import standard_artifacts

from components.config import Evaluation
from components.evaluator.component import Evaluator
from components.example_gen.csv_example_gen import CsvExampleGen
from components.infra_validator.component import InfraValidator
from components.pusher.component import Pusher
from components.statistics_gen.component import StatisticsGen
from components.transform.component import Transform
from schemas.features import FeatureSet

EXAMPLES, SCHEMA = types.Channel(type=standard_artifacts.Examples), types.Channel(type=standard_artifacts.Schema)
MODEL = types.Channel(type=standard_artifacts.Model)
BLESSING = types.Channel(type=standard_artifacts.ModelBlessing)
INFRA = types.Channel(type=standard_artifacts.InfraBlessing)
DESTINATION = pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory="/serving"))
SERVING = infra_validator_pb2.ServingSpec(
    tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["latest"]),
    local_docker=infra_validator_pb2.LocalDockerConfig(),
)
SPLIT = example_gen_pb2.Input.Split(name="train", pattern="train/*")
BUCKETS = example_gen_pb2.SplitConfig(splits=[example_gen_pb2.SplitConfig.Split(name="all", hash_buckets=1)])
FEATURES = FeatureSet.model_validate(
    {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
)
# By component: the arguments that it needs, and values of the others.
ARGUMENTS: dict[Callable[..., Any], tuple[dict[str, Any], dict[str, Any]]] = {
    CsvExampleGen: (
        {"input_base": "/data"},
        {
            "input_config": example_gen_pb2.Input(splits=[SPLIT]),
            "output_config": example_gen_pb2.Output(split_config=BUCKETS),
            "range_config": range_config_pb2.RangeConfig(
                static_range=range_config_pb2.StaticRange(start_span_number=1, end_span_number=1)
            ),
        },
    ),
    StatisticsGen: (
        {"examples": EXAMPLES},
        {"schema": SCHEMA, "stats_options": tfdv.StatsOptions(num_top_values=3), "exclude_splits": ["eval"]},
    ),
    Transform: (
        {"examples": EXAMPLES, "schema": SCHEMA, "preprocessing_fn": "module.function"},
        {
            "splits_config": transform_pb2.SplitsConfig(analyze=["train"], transform=["eval"]),
            "analyzer_cache": types.Channel(type=standard_artifacts.TransformCache),
            "materialize": False,
            "disable_analyzer_cache": True,
            "force_tf_compat_v1": True,
            "custom_config": {"a": 1},
            "disable_statistics": True,
            "stats_options_updater_fn": "module.updater",
        },
    ),
    Evaluator: (
        {"examples": EXAMPLES},
        {
            "model": MODEL,
            "baseline_model": MODEL,
            "feature_slicing_spec": evaluator_pb2.FeatureSlicingSpec(),
            "fairness_indicator_thresholds": [0.5],
            "example_splits": ["test"],
            "eval_config": tfma.EvalConfig(slicing_specs=[tfma.SlicingSpec()]),
            "schema": SCHEMA,
            "module_file": None,
            "module_path": "module",
        },
    ),
    InfraValidator: (
        {"model": MODEL, "serving_spec": SERVING},
        {
            "examples": EXAMPLES,
            "request_spec": infra_validator_pb2.RequestSpec(num_examples=2),
            "validation_spec": infra_validator_pb2.ValidationSpec(num_tries=2),
        },
    ),
    Pusher: (
        {"model": MODEL, "push_destination": DESTINATION},
        {
            "model_blessing": BLESSING,
            "infra_blessing": INFRA,
            "custom_config": {"a": 1},
            "custom_executor_spec": executor_spec.ExecutorClassSpec(Pusher.EXECUTOR_SPEC.executor_class),
        },
    ),
}


def stock_of(component: Callable[..., Any]) -> Any:
    return getattr(stock, component.__name__)


def parameters(component: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(component).parameters)


@pytest.mark.parametrize("component", ARGUMENTS)
def test_the_signature_begins_with_that_of_stock_tfx_and_goes_on_with_optional_names(
    component: Callable[..., Any],
) -> None:
    own, theirs = parameters(component), parameters(stock_of(component))
    assert [*own][: len(theirs)] == [*theirs]
    for name, parameter in theirs.items():
        assert (own[name].default, own[name].kind) == (parameter.default, parameter.kind), name
    for name in own.keys() - theirs.keys():
        assert own[name].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert own[name].default is not inspect.Parameter.empty, name


def test_every_argument_of_stock_tfx_has_a_value_here() -> None:
    for component, (needed, others) in ARGUMENTS.items():
        missing = parameters(stock_of(component)).keys() - needed.keys() - others.keys()
        # Tested by TFX's own tests of the executors: the file is packaged into a wheel at once.
        assert missing <= {"module_file"}, component


def record_of(component: Any) -> tuple[dict[str, Any], ...]:
    """Return what a component records for its execution, by the names that stock TFX has."""
    return (
        {name: value for name, value in component.exec_properties.items() if value is not None},
        {name: channel.type for name, channel in component.inputs.items()},
        {name: channel.type for name, channel in component.outputs.items()},
    )


@pytest.mark.parametrize(
    ("component", "name"),
    [(component, name) for component, (_, others) in ARGUMENTS.items() for name in (None, *others)],
)
def test_an_argument_is_recorded_as_stock_tfx_does(component: Callable[..., Any], name: str | None) -> None:
    needed, others = ARGUMENTS[component]
    arguments = {**needed, **({} if name is None else {name: others[name]})}
    if name == "custom_executor_spec":
        del arguments["push_destination"]
    properties, *channels = record_of(component(**arguments))
    expected_properties, *expected_channels = record_of(stock_of(component)(**arguments))
    assert expected_properties.items() <= properties.items()
    assert channels == expected_channels


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Evaluator(EXAMPLES, MODEL, evaluation=Evaluation()), "evaluation needs label"),
        (
            lambda: Evaluator(EXAMPLES, MODEL, eval_config=tfma.EvalConfig(), evaluation=Evaluation(), label="binary"),
            "eval_config, feature_slicing_spec and evaluation exclude each other",
        ),
        (lambda: Evaluator(EXAMPLES, module_file="a", module_path="b"), "module_file and module_path exclude"),
        (lambda: Pusher(MODEL), "needs one of registry, push_destination and custom_executor_spec"),
        (lambda: Pusher(MODEL, registry="{}", push_destination=DESTINATION), "needs one of registry"),
        (lambda: Pusher(push_destination=DESTINATION), "Pusher needs model"),
        (lambda: CsvExampleGen("/data", max_bad_rows=1), "max_bad_rows need features"),
        (
            lambda: CsvExampleGen(
                "/data", output_config=example_gen_pb2.Output(split_config=BUCKETS), features=FEATURES, max_bad_rows=1
            ),
            "max_bad_rows are not for stock TFX, and the hash buckets divide several inputs, or none of them is 'train'",
        ),
    ],
)
def test_arguments_that_exclude_each_other_are_named(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def spans(first: int, last: int) -> range_config_pb2.RangeConfig:
    static = range_config_pb2.StaticRange(start_span_number=first, end_span_number=last)
    return range_config_pb2.RangeConfig(static_range=static)


@pytest.mark.parametrize(("range_config", "expected"), [(None, "12/v2"), (spans(3, 3), "3/v10")])
def test_spans_and_versions_are_those_of_stock_tfx(range_config: Any, expected: str, tmp_path: Path) -> None:
    for folder in ("3/v1", "3/v10", "12/v2"):
        (tmp_path / "span-" / folder).mkdir(parents=True)
        (tmp_path / "span-" / folder / "rows.csv").write_text("x,y\n1,0\n")
    pattern = example_gen_pb2.Input.Split(name="train", pattern="span-/{SPAN}/v{VERSION}/*")
    arguments = {"input_config": example_gen_pb2.Input(splits=[pattern]), "range_config": range_config}
    # The other split is a share of the rows.
    component = CsvExampleGen(str(tmp_path), **arguments, features=FEATURES)
    recorded = json_format.Parse(component.exec_properties["input_config"], example_gen_pb2.Input())
    assert [split.pattern for split in recorded.splits] == [f"span-/{expected}/*"]
    stock_processor = input_processor.FileBasedInputProcessor(str(tmp_path), [pattern], range_config)
    assert (
        stock_processor.get_pattern_for_span_version(pattern.pattern, *stock_processor.resolve_span_and_version())
        == f"span-/{expected}/*"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"range_config": spans(1, 2)}, "range_config is not a static range of one span"),
        ({"output_config": example_gen_pb2.Output(split_config=BUCKETS)}, "the hash buckets divide several inputs"),
        ({"output_config": data_types.RuntimeParameter("o", str)}, "output_config is a runtime parameter"),
    ],
)
def test_what_the_fast_component_does_not_support_is_handed_over(
    arguments: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    component = CsvExampleGen("/data", **arguments, features=FEATURES)
    assert isinstance(component, stock.CsvExampleGen)
    assert f"CsvExampleGen: the executor of stock TFX does the work, since {reason}" in caplog.text
