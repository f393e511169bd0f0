"""Models that a `run_fn` of the user's own has exported: the models beside them, the plots and the verdict."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.config import Evaluation
from components.evaluator.challengers import Encoder
from components.evaluator.component import CHALLENGERS_PROPERTY, CONSTANT_PROPERTY
from components.evaluator.evaluation import EvaluationReport
from components.evaluator.own_columns import find_columns
from components.evaluator.own_model import JudgingExecutor, build_own_eval_config
from schemas.features import FeatureSet

pytestmark = pytest.mark.integration

NUMBERS = random.Random(7)
ROWS = {
    split: [(size, float(NUMBERS.random() < 1 / (1 + np.exp(-2 * size)))) for size in map(NUMBERS.gauss, [0] * 300)]
    for split in ("train", "test")
}
SIZES, BOUGHT = (np.array(column) for column in zip(*ROWS["test"], strict=True))
SHARE = np.mean([bought for _, bought in ROWS["train"]])
SCHEMA = " ".join(
    f'feature {{ name: "{name}" type: {kind} presence {{ min_fraction: 1 }} shape {{ dim {{ size: 1 }} }} }}'
    for name, kind in {"size": "FLOAT", "bought": "FLOAT", "color": "BYTES"}.items()
)
# As an inferred schema has it: a column without a shape is sparse.
SCHEMA += 'feature { name: "price" type: FLOAT presence { min_fraction: 1 } }'
FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "size": {"kind": "numeric", "scale": "z_score"},
            "color": {"kind": "vocabulary_list", "values": ["blue"]},
        },
        "label": {"column": "bought", "kind": "regression"},
    }
)
SPEC = {name: tf.io.FixedLenFeature([1], tf.float32) for name in ("size", "bought", "price")}


class Exported(tf.Module):
    """Applies a function to the sizes of serialized tf.Example."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def call(self, examples: Any) -> Any:
        outputs = self._function(tf.io.parse_example(examples, SPEC)["size"])
        return outputs if isinstance(outputs, dict) else {"output_0": outputs}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    for split, rows in ROWS.items():
        (folder / f"Split-{split}").mkdir()
        with tf.io.TFRecordWriter(str(folder / f"Split-{split}" / "data.gz"), "GZIP") as writer:
            for size, bought in rows:
                values = {"size": size, "bought": bought, "price": 3 * size + 5}
                feature = {
                    name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                    for name, value in values.items()
                }
                feature["color"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"red"]))
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    (folder / "schema").mkdir()
    (folder / "schema" / "schema.pbtxt").write_text(SCHEMA)
    examples, schema = standard_artifacts.Examples(), standard_artifacts.Schema()
    examples.uri, examples.split_names = str(folder), '["train", "test"]'
    schema.uri = str(folder / "schema")
    return {"examples": [examples], "schema": [schema]}


def write_graph(preprocessing_fn: Callable[[Any], Any], folder: Path) -> Any:
    """Return the graph of a `preprocessing_fn`, analyzed on a few rows."""
    metadata = dataset_metadata.DatasetMetadata(text_format.Parse(SCHEMA, schema_pb2.Schema()))
    metadata_io.write_metadata(metadata, str(folder / "graph" / "metadata"))
    rows = [{"size": [0.5], "bought": [1.0], "price": [6.5], "color": [color]} for color in (b"red", b"green")]
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        graph = (rows, metadata) | tft_beam.AnalyzeDataset(preprocessing_fn)
        graph | tft_beam.WriteTransformFn(str(folder / "graph"))
    artifact = standard_artifacts.TransformGraph()
    artifact.uri = str(folder / "graph")
    return artifact


def encode_all(inputs: Any) -> dict[str, Any]:
    """Return columns of all types, and two of the label."""
    return {
        "size": (inputs["size"] - 0.5) / 2,
        "color": tft.compute_and_apply_vocabulary(inputs["color"]),
        "rounded": tf.cast(tf.round(inputs["size"]), tf.int64),
        "sizes": tf.concat([inputs["size"], inputs["size"] ** 2], axis=1),
        "color_text": inputs["color"],
        "colors": tf.sparse.from_dense(inputs["color"]),
        "bought": inputs["bought"],
        "leak": 1 - inputs["bought"],
        "price_leak": tf.reshape(tf.sparse.to_dense(inputs["price"]), [-1, 1]),
    }


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_graph(encode_all, tmp_path_factory.mktemp("transform"))


def evaluate(
    data: dict[str, Any], function: Any, folder: Path, label: str = "bought", **evaluation: Any
) -> tuple[EvaluationReport, Any]:
    """Export a model and evaluate it; return the summary and the outputs."""
    exported = Exported(function)
    tf.saved_model.save(
        exported, str(folder / "model" / "Format-Serving"), signatures={"serving_default": exported.call}
    )
    outputs = {"evaluation": standard_artifacts.ModelEvaluation(), "blessing": standard_artifacts.ModelBlessing()}
    for name, artifact in outputs.items():
        artifact.uri = str(folder / name)
        (folder / name).mkdir()
    model = standard_artifacts.Model()
    model.uri = str(folder / "model")
    declared = Evaluation.model_validate({"split": "test", **evaluation})
    properties = {
        "eval_config": proto_utils.proto_to_json(build_own_eval_config(declared, label)),
        "requirements": declared.model_dump_json(),
        "example_splits": json_utils.dumps(["test"]),
        "fairness_indicator_thresholds": "null",
        "pipeline": "own",
        "features": FEATURES.model_dump_json(),
    }
    artifacts = {name: [artifact] for name, artifact in outputs.items()}
    JudgingExecutor().Do({**data, "model": [model]}, artifacts, properties)
    blessed = outputs["blessing"].get_int_custom_property("blessed")
    assert [file.name for file in (folder / "blessing").iterdir()] == ["BLESSED" if blessed else "NOT_BLESSED"]
    return EvaluationReport.read(str(folder / "evaluation")), outputs


def test_probabilities_are_compared_with_the_class_shares_and_drawn(data: dict[str, Any], tmp_path: Path) -> None:
    summary, outputs = evaluate(data, lambda size: tf.sigmoid(2 * size), tmp_path)
    assert (summary.failures, summary.warnings) == ([], [])
    comparison = summary.constant_predictor
    assert comparison["candidate"] == pytest.approx(log_loss(BOUGHT, 1 / (1 + np.exp(-2 * SIZES))), rel=1e-4)
    assert comparison["constant"] == pytest.approx(log_loss(BOUGHT, np.full_like(BOUGHT, SHARE)), rel=1e-4)
    assert comparison["text"].endswith("of the class shares of train")
    reason = "not compared: Evaluator has no graph of Transform"
    assert {name: entry["text"] for name, entry in summary.challengers.items()} == {"linear": reason, "trees": reason}
    assert outputs["evaluation"].get_string_custom_property(CONSTANT_PROPERTY)
    assert {*summary.plots} == {"roc", "precision_recall", "confusion", "calibration", "predictions"}
    rows = np.array(summary.plots["confusion"]["rows"])
    assert rows.sum(axis=1).tolist() == [(BOUGHT == 0).sum(), (BOUGHT == 1).sum()]
    assert rows.trace() == ((SIZES > 0) == (BOUGHT == 1)).sum()


def test_logits_are_recognized_and_drawn_as_probabilities(data: dict[str, Any], tmp_path: Path) -> None:
    summary, _ = evaluate(data, lambda size: 2 * size, tmp_path)
    assert summary.failures == []
    probabilities = 1 / (1 + np.exp(-2 * SIZES))
    assert summary.constant_predictor["candidate"] == pytest.approx(log_loss(BOUGHT, probabilities), rel=1e-4)
    assert np.array(summary.plots["confusion"]["rows"]).trace() == ((SIZES > 0) == (BOUGHT == 1)).sum()


def test_several_outputs_are_classes(data: dict[str, Any], tmp_path: Path) -> None:
    summary, _ = evaluate(data, lambda size: tf.concat([tf.zeros_like(size), 2 * size], axis=1), tmp_path)
    assert summary.failures == []
    probabilities = 1 / (1 + np.exp(-2 * SIZES))
    assert summary.constant_predictor["candidate"] == pytest.approx(log_loss(BOUGHT, probabilities), rel=1e-4)
    assert summary.plots["confusion"]["classes"] == ["0", "1"]
    assert np.array(summary.plots["confusion"]["rows"]).trace() == ((SIZES > 0) == (BOUGHT == 1)).sum()


@pytest.mark.parametrize("label", ["price", "bought"])
def test_numbers_are_compared_with_the_mean(data: dict[str, Any], tmp_path: Path, label: str) -> None:
    spec = {"predictions": "numbers"} if label == "bought" else {}
    summary, _ = evaluate(data, lambda size: size, tmp_path, label, model_spec=spec, insignificant_gain="warn")
    labels = BOUGHT if label == "bought" else 3 * SIZES + 5
    trained = [bought if label == "bought" else 3 * size + 5 for size, bought in ROWS["train"]]
    comparison = summary.constant_predictor
    assert comparison["candidate"] == pytest.approx(np.mean((SIZES - labels) ** 2), rel=1e-4)
    assert comparison["constant"] == pytest.approx(np.mean((np.mean(trained) - labels) ** 2), rel=1e-4)
    assert summary.plots == {}
    assert len(summary.failures) == 1 and "must be better; the model has learned nothing" in summary.failures[0]


def test_a_model_that_knows_nothing_is_not_blessed_though_it_keeps_its_thresholds(
    data: dict[str, Any], tmp_path: Path
) -> None:
    bounds = {"metrics": ["MeanPrediction"], "thresholds": [{"metric": "mean_prediction", "upper_bound": 0.6}]}
    summary, outputs = evaluate(data, lambda size: tf.zeros_like(size) + 0.5, tmp_path, **bounds)
    assert outputs["blessing"].get_int_custom_property("blessed") == 0
    assert len(summary.failures) == 1
    assert "the model predicts the same for every row" in summary.failures[0]


def test_a_slice_is_large_enough_by_its_rows_whatever_they_weigh(data: dict[str, Any], tmp_path: Path) -> None:
    summary, _ = evaluate(
        data,
        lambda size: tf.sigmoid(2 * size),
        tmp_path,
        model_spec={"example_weight_key": "bought"},
        slice_by=[["color"], ["bought"]],
        min_rows_per_slice=int((BOUGHT == 0).sum()),
        insignificant_gain="warn",
    )
    assert summary.weight_column == "bought"
    assert {*summary.metrics} >= {"overall", "color=red", "bought=0.0"}
    assert summary.metrics["bought=0.0"]["example_count"] == (BOUGHT == 0).sum()


def test_too_few_rows_are_not_judged(data: dict[str, Any], tmp_path: Path) -> None:
    summary, _ = evaluate(data, lambda size: tf.sigmoid(2 * size), tmp_path, min_rows=301)
    assert summary.failures == ["rows of test: 300, must be at least 301 (evaluation.min_rows); give 'test' more rows"]


@pytest.mark.parametrize(
    ("label", "function", "spec", "problem"),
    [
        ("color", lambda size: size, {}, "the labels are not numbers, one in each row"),
        (
            "price",
            lambda size: tf.concat([size, size], axis=1),
            {},
            "the model has 2 outputs, and the labels of train are not the numbers from 0 to 1",
        ),
        (
            "bought",
            lambda size: size,
            {"predictions": "probabilities"},
            "the outputs are not probabilities of the labels of train, as evaluation.model_spec.predictions declares",
        ),
        (
            "bought",
            lambda size: {"a": size, "b": size},
            {},
            "the model's output is not one tensor of numbers; name one in evaluation.model_spec.prediction_key",
        ),
    ],
)
def test_outputs_that_cannot_be_compared_are_named(
    data: dict[str, Any], tmp_path: Path, label: str, function: Any, spec: dict[str, Any], problem: str
) -> None:
    summary, _ = evaluate(data, function, tmp_path, label, model_spec=spec)
    assert summary.warnings == [f"constant predictor: not compared: {problem}"]
    assert summary.plots == {}


def test_the_columns_are_those_of_transform_without_the_label(graph: Any) -> None:
    columns, left_out = find_columns(FEATURES, graph.uri, ("bought",))
    assert left_out == "color_text (strings), colors (not dense)"
    # The IDs of `color` are others than its declaration has.
    assert ([*columns.features.features], columns.raw) == (["size"], {"size", "color"})
    own = {column.name: (column.width, column.num_ids) for column in columns.features.own_columns}
    numbers = {"leak": 1, "price_leak": 1, "rounded": 1, "sizes": 2}
    assert own == {"color": (1, 3), **{name: (width, None) for name, width in numbers.items()}}
    values = [(2.5, 1.0, "green"), (-1.5, 0.0, "mauve")]
    examples = []
    for size, bought, color in values:
        feature = {
            name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
            for name, value in {"size": size, "bought": bought, "price": bought}.items()
        }
        feature["color"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[color.encode()]))
        examples.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    encoder = Encoder(columns)
    ids, encoded = encoder.encode(tf.constant(examples))
    encoder.encode(tf.constant(examples[:1]))
    # Beam changes the size of batches as it likes: to trace each was nine tenths of the time.
    assert encoder._encode.experimental_get_tracing_count() == 1
    # A color that is not in the vocabulary has the ID -1, and here 0.
    assert ids.tolist() == [[2], [0]]
    names = [column.name for column in columns.features.number_columns for _ in range(column.width)]
    by_name = dict(zip(names, encoded.T.tolist(), strict=False))
    assert (by_name["size"], by_name["rounded"]) == ([1, -1], [2, -2])
    assert len({*by_name["leak"]}) == len({*by_name["price_leak"]}) == 1


def test_a_model_is_compared_with_challengers_that_know_the_same_labels(
    data: dict[str, Any], graph: Any, tmp_path: Path
) -> None:
    summary, outputs = evaluate(
        {**data, "transform_graph": [graph]},
        lambda size: tf.sigmoid(0.2 * size),
        tmp_path,
        slice_by=[["color"]],
        challengers={"trees": False},
    )
    sizes, bought = (np.array(column) for column in zip(*ROWS["train"], strict=True))
    expected = LogisticRegression().fit(sizes[:, None], bought).predict_proba(SIZES[:, None])[:, 1]
    loss = log_loss(BOUGHT, expected)
    linear = summary.challengers["linear"]
    gain, low, high = linear["gains"]["overall"]
    assert gain == pytest.approx(loss - log_loss(BOUGHT, 1 / (1 + np.exp(-0.2 * SIZES))), abs=0.01)
    assert low < gain < high < 0
    assert linear["gains"]["color=red"] == pytest.approx(linear["gains"]["overall"])
    assert ", without color_text (strings), colors (not dense)" in linear["text"]
    (failure,) = summary.failures
    assert failure.startswith("linear model: by log loss on test the model is worse by")
    assert "significantly worse on color=red; must not be" in failure and "model.architecture" not in failure
    for name in ("evaluation", "blessing"):
        stored = json.loads(outputs[name].get_string_custom_property(CHALLENGERS_PROPERTY))
        assert stored["linear"]["gains"] == {"overall": [gain, low, high]}


def test_challengers_have_the_classes_of_the_outputs(data: dict[str, Any], graph: Any, tmp_path: Path) -> None:
    """The labels are the numbers 0 and 1, and the model has three classes."""
    summary, _ = evaluate(
        {**data, "transform_graph": [graph]},
        lambda size: tf.concat([tf.zeros_like(size), 2 * size, -9 + tf.zeros_like(size)], axis=1),
        tmp_path,
        model_spec={"predictions": "logits"},
    )
    assert summary.failures == []
    for name in ("linear", "trees"):
        assert summary.challengers[name]["gains"]["overall"][0] > 0
        assert summary.challengers[name]["text"].startswith("log loss 0.")


def test_challengers_of_a_number_are_judged_by_squared_error(data: dict[str, Any], graph: Any, tmp_path: Path) -> None:
    summary, _ = evaluate(
        {**data, "transform_graph": [graph]}, lambda size: 3 * size + 4, tmp_path, "price", challengers={"trees": False}
    )
    assert summary.challengers["linear"]["text"].startswith("squared error 0.0")
    assert summary.challengers["linear"]["gains"]["overall"][0] == pytest.approx(-1, abs=0.05)
    assert summary.failures[0].startswith("linear model: by squared error on test the model is worse by")


@pytest.mark.parametrize(
    ("preprocessing_fn", "problem"),
    [
        (
            lambda inputs: {"text": inputs["color"], "bought": inputs["bought"]},
            "Transform gives no dense column of numbers beside the label: text (strings)",
        ),
        (
            lambda inputs: {"size": tf.debugging.check_numerics(1 / inputs["bought"], "bought is 0")},
            "Transform does not encode rows without the label: InvalidArgumentError: ",
        ),
    ],
)
def test_a_challenger_that_cannot_be_fitted_has_the_reason(
    data: dict[str, Any], tmp_path: Path, preprocessing_fn: Any, problem: str
) -> None:
    artifact = write_graph(preprocessing_fn, tmp_path)
    summary, _ = evaluate({**data, "transform_graph": [artifact]}, lambda size: tf.sigmoid(2 * size), tmp_path)
    assert (summary.failures, summary.warnings) == ([], [])
    assert summary.constant_predictor["low"] > 0
    for entry in summary.challengers.values():
        assert entry["text"].startswith(f"not compared: {problem}")
