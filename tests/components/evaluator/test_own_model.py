"""Models that a `run_fn` of the user's own has exported: the constant predictor, the plots and the verdict."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from components.config import Evaluation
from components.evaluator.component import CONSTANT_PROPERTY
from components.evaluator.evaluation import Summary
from components.evaluator.own_model import JudgingExecutor, own_eval_config

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
    for name, kind in {"size": "FLOAT", "bought": "FLOAT", "price": "FLOAT", "color": "BYTES"}.items()
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


def evaluate(
    data: dict[str, Any], function: Any, folder: Path, label: str = "bought", **evaluation: Any
) -> tuple[Summary, Any]:
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
        "eval_config": proto_utils.proto_to_json(own_eval_config(declared, label)),
        "requirements": declared.model_dump_json(),
        "example_splits": json_utils.dumps(["test"]),
        "fairness_indicator_thresholds": "null",
        "pipeline": "own",
    }
    artifacts = {name: [artifact] for name, artifact in outputs.items()}
    JudgingExecutor().Do({**data, "model": [model]}, artifacts, properties)
    blessed = outputs["blessing"].get_int_custom_property("blessed")
    assert [file.name for file in (folder / "blessing").iterdir()] == ["BLESSED" if blessed else "NOT_BLESSED"]
    return Summary.read(str(folder / "evaluation")), outputs


def test_probabilities_are_compared_with_the_class_shares_and_drawn(data: dict[str, Any], tmp_path: Path) -> None:
    summary, outputs = evaluate(data, lambda size: tf.sigmoid(2 * size), tmp_path)
    assert (summary.failures, summary.warnings) == ([], [])
    comparison = summary.constant_predictor
    assert comparison["candidate"] == pytest.approx(log_loss(BOUGHT, 1 / (1 + np.exp(-2 * SIZES))), rel=1e-4)
    assert comparison["constant"] == pytest.approx(log_loss(BOUGHT, np.full_like(BOUGHT, SHARE)), rel=1e-4)
    assert comparison["text"].endswith("of the class shares of train")
    reason = "not compared: challengers read the encoded columns of the config, and this model has a run_fn of its own"
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
    assert len(summary.failures) == 1 and "must be better; the model knows nothing" in summary.failures[0]


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
