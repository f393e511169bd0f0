"""Our batched metrics against TFMA's own, on the same rows."""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from components.config import MEAN_COST, METRICS, MetricName
from components.evaluator.batched_metrics import BinaryCounts, MulticlassCounts, RegressionCounts, counts_of
from schemas.decision import DecisionCosts

STOCK: dict[MetricName, str] = {
    "auc": "AUC",
    "pr_auc": "AUCPrecisionRecall",
    "log_loss": "BinaryCrossEntropy",
    "accuracy": "BinaryAccuracy",
    "precision": "Precision",
    "recall": "Recall",
    "calibration": "Calibration",
    "example_count": "ExampleCount",
}


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    predictions = random.random(count).astype(np.float32)
    return (random.random(count) < predictions).astype(np.int64), predictions


def test_every_metric_equals_that_of_tfma(tmp_path: Path) -> None:
    labels, predictions = rows(200)
    config = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(label_key="label", prediction_key="prediction")],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[config_pb2.MetricConfig(class_name=c) for c in STOCK.values()])],
    )
    frame = pd.DataFrame({"label": labels, "prediction": predictions})
    result = tfma.analyze_raw_data(frame, eval_config=config, output_path=str(tmp_path))
    stock = list(result.get_metrics_for_slice(()).values())
    counts = BinaryCounts()
    counts.add(labels, predictions)
    ours = [counts.metric(name) for name in STOCK]
    np.testing.assert_allclose(sorted(ours), sorted(v["doubleValue"] for v in stock), rtol=1e-6)


def test_counts_of_two_halves_add_up() -> None:
    labels, predictions = rows(1000)
    whole, first, second = BinaryCounts(), BinaryCounts(), BinaryCounts()
    whole.add(labels, predictions)
    first.add(labels[:300], predictions[:300])
    second.add(labels[300:], predictions[300:])
    first.merge(second)
    assert [first.metric(name) for name in STOCK] == pytest.approx([whole.metric(name) for name in STOCK], rel=1e-12)


def test_metrics_without_a_positive_row_are_undefined() -> None:
    counts = BinaryCounts()
    counts.add(np.array([0, 0]), np.array([0.2, 0.4]))
    undefined = {name for name in STOCK if math.isnan(counts.metric(name))}
    assert undefined == {"auc", "pr_auc", "precision", "recall", "calibration"}


def test_errors_are_counted_above_the_threshold_and_weighed_by_their_costs() -> None:
    counts = BinaryCounts(0.25, DecisionCosts(cost_false_positive=2, cost_false_negative=7))
    other = counts_of("binary", 0.25, counts.costs)
    labels, predictions = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.25, 0.3, 0.25, 0.9], np.float32)
    counts.add(labels[:2], predictions[:2])
    other.add(labels[2:], predictions[2:])
    counts.merge(other)
    # One false positive, and one false negative: 0.25 is not above itself.
    assert [counts.metric(name) for name in ("mean_cost", "precision", "recall", "accuracy")] == [9 / 5, 0.5, 0.5, 0.6]
    assert math.isnan(counts_of("binary", 0.25, counts.costs).metric("mean_cost"))


@pytest.mark.parametrize("label", [0.0, 0.1, 1e6 + 0.1])
def test_r2_of_labels_that_are_all_the_same_is_undefined(label: float) -> None:
    counts = RegressionCounts()
    # Their mean is rounded: it is not the label, and the sum of squares is not 0.
    for rows in (3, 1000):
        counts.add(np.full(rows, label, np.float32), np.linspace(0, 1, rows))
    assert math.isnan(counts.metric("r2"))
    assert math.isfinite(counts.metric("rmse"))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_with_a_prediction_of_nan_no_metric_is_defined(kind: Any) -> None:
    counts = counts_of(kind)
    predictions = np.full((3, 3), 1 / 3) if kind == "multiclass" else np.array([0.4, 0.5, 0.6])
    predictions[1] = np.nan
    counts.add(np.array([0, 1, 1]), predictions)
    assert [name for name in METRICS[kind] if math.isfinite(counts.metric(name))] == ["example_count"]


def test_multiclass_metrics_equal_those_of_keras() -> None:
    random = np.random.default_rng(6)
    predictions = random.dirichlet([1, 1, 1, 1], size=300)
    # The last class is neither a label nor predicted: it has no F1 score, and keras would count it as 0.
    predictions[:, 3] = 0
    predictions /= predictions.sum(axis=1, keepdims=True)
    labels = random.integers(0, 3, 300)
    first, second = MulticlassCounts(), MulticlassCounts()
    first.add(labels[:100], predictions[:100])
    second.add(labels[100:], predictions[100:])
    for counts in (first, second):
        counts.merge(MulticlassCounts())
    first.merge(second)
    one_hot = np.eye(3)[labels]
    f1 = keras.metrics.F1Score(average="macro")
    f1.update_state(one_hot, predictions[:, :3])
    log_loss = keras.metrics.CategoricalCrossentropy()
    log_loss.update_state(one_hot, predictions[:, :3])
    assert first.metric("macro_f1") == pytest.approx(float(f1.result()), rel=1e-5)
    assert first.metric("log_loss") == pytest.approx(float(log_loss.result()), rel=1e-5)
    assert first.metric("accuracy") == np.mean(labels == predictions.argmax(axis=1))
    assert first.metric("example_count") == 300


def test_regression_metrics_equal_those_of_keras_far_from_zero() -> None:
    random = np.random.default_rng(7)
    labels = 1e6 + random.normal(size=400)
    predictions = labels + 0.3 * random.normal(size=400) + 0.1
    merged = RegressionCounts()
    for part in (slice(0, 10), slice(10, 10), slice(10, 400)):
        counts = RegressionCounts()
        counts.add(labels[part], predictions[part])
        merged.merge(counts)
    error = predictions - labels
    assert merged.metric("rmse") == pytest.approx(np.sqrt(np.mean(error**2)))
    assert merged.metric("mae") == pytest.approx(np.mean(np.abs(error)))
    assert merged.metric("mean_error") == pytest.approx(np.mean(error))
    r2 = keras.metrics.R2Score(dtype="float64")
    r2.update_state(labels[:, None] - 1e6, predictions[:, None] - 1e6)
    assert merged.metric("r2") == pytest.approx(float(r2.result()), rel=1e-5)
    assert merged.metric("example_count") == 400


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_every_metric_of_a_kind_is_measured_and_no_other(kind: Any) -> None:
    counts = counts_of(kind)
    predictions = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2]]) if kind == "multiclass" else np.array([0.4, 0.6])
    counts.add(np.array([0, 1]), predictions)
    for name in METRICS[kind]:
        assert math.isfinite(counts.metric(name))
    for name in {metric for metrics in METRICS.values() for metric in metrics} - {*METRICS[kind]} | {MEAN_COST}:
        with pytest.raises(ValueError, match=name):
            counts.metric(name)
