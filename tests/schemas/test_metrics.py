"""The metrics against TFMA's own, on the same rows."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from schemas.decision import DecisionCosts
from schemas.metric_counts import BinaryCounts, MulticlassCounts, RegressionCounts, create_empty_counts
from schemas.metrics import LABEL_KINDS, MEAN_COST, METRICS, list_metrics, list_watchable

STOCK: dict[str, str] = {
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


# The metrics that TFMA has, by its names. Repeated rows test the others below.
WEIGHTED: dict[str, dict[str, str]] = {
    "binary": STOCK,
    "multiclass": {
        "log_loss": "SparseCategoricalCrossentropy",
        "accuracy": "SparseCategoricalAccuracy",
        "example_count": "ExampleCount",
    },
    "regression": {
        "rmse": "RootMeanSquaredError",
        "mae": "MeanAbsoluteError",
        "mse": "MeanSquaredError",
        "example_count": "ExampleCount",
    },
}


def weighted_rows(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(11)
    weights = random.gamma(0.5, 20, 250).astype(np.float32)
    weights[::9] = 0
    match kind:
        case "binary":
            return (*rows(250), weights)
        case "multiclass":
            predictions = random.dirichlet([1, 1, 1], size=250).astype(np.float32)
            return random.integers(0, 3, 250), predictions, weights
    labels = random.normal(3, 2, 250).astype(np.float32)
    return labels, (labels + random.normal(size=250)).astype(np.float32), weights


def weigh(kind: Any, *part: np.ndarray) -> dict[str, float]:
    counts = create_empty_counts(kind, costs=DecisionCosts(cost_false_positive=2, cost_false_negative=7))
    for rows_of_half in (slice(0, 100), slice(100, None)):
        half = create_empty_counts(kind)
        half.add(*(column[rows_of_half] for column in part))
        counts.merge(half)
    return {name: METRICS[name].compute(counts) for name in list_metrics(kind, has_costs=True)}


@pytest.mark.integration
@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_weighted_metrics_equal_those_of_tfma_by_its_example_weight_key(kind: str, tmp_path: Path) -> None:
    labels, predictions, weights = weighted_rows(kind)
    config = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(label_key="label", prediction_key="prediction", example_weight_key="weight")],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=[config_pb2.MetricConfig(class_name=name) for name in WEIGHTED[kind].values()]
            )
        ],
    )
    frame = pd.DataFrame({"label": labels, "prediction": list(predictions), "weight": weights})
    result = tfma.analyze_raw_data(frame, eval_config=config, output_path=str(tmp_path))
    stock = [value["doubleValue"] for value in result.get_metrics_for_slice(()).values()]
    ours = weigh(kind, labels, predictions, weights)
    if kind == "regression":
        ours["mse"] = ours["rmse"] ** 2
    np.testing.assert_allclose(sorted(ours[name] for name in WEIGHTED[kind]), sorted(stock), rtol=1e-6)


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_a_row_of_weight_k_counts_in_every_metric_as_k_rows(kind: str) -> None:
    labels, predictions, _ = weighted_rows(kind)
    weights = np.random.default_rng(2).integers(0, 5, len(labels))
    repeated = weigh(kind, *(np.repeat(column, weights, axis=0) for column in (labels, predictions)))
    assert len(repeated) == len(list_metrics(kind, has_costs=True)) >= 4  # type: ignore[arg-type]
    assert weigh(kind, labels, predictions, weights) == pytest.approx(repeated, rel=1e-12)
    ones = weigh(kind, labels, predictions, np.ones(len(labels), np.float32))
    assert ones == pytest.approx(weigh(kind, labels, predictions), rel=1e-12)


def test_a_prediction_of_nan_is_found_whatever_its_weight() -> None:
    for kind in LABEL_KINDS:
        labels, predictions, weights = weighted_rows(kind)
        predictions[0], weights[0] = np.nan, 0
        measured = weigh(kind, labels, predictions, weights)
        assert [name for name, value in measured.items() if math.isfinite(value)] == ["example_count"]


def test_counts_of_two_halves_add_up() -> None:
    labels, predictions = rows(1000)
    whole, first, second = BinaryCounts(), BinaryCounts(), BinaryCounts()
    whole.add(labels, predictions)
    first.add(labels[:300], predictions[:300])
    second.add(labels[300:], predictions[300:])
    first.merge(second)
    assert [METRICS[name].compute(first) for name in STOCK] == pytest.approx(
        [METRICS[name].compute(whole) for name in STOCK], rel=1e-12
    )


def test_metrics_without_a_positive_row_are_undefined() -> None:
    counts = BinaryCounts()
    counts.add(np.array([0, 0]), np.array([0.2, 0.4]))
    undefined = {name for name in STOCK if math.isnan(METRICS[name].compute(counts))}
    assert undefined == {"auc", "pr_auc", "precision", "recall", "calibration"}


def test_errors_are_counted_above_the_threshold_and_weighed_by_their_costs() -> None:
    counts = BinaryCounts(0.25, DecisionCosts(cost_false_positive=2, cost_false_negative=7))
    other = create_empty_counts("binary", 0.25, counts.costs)
    labels, predictions = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.25, 0.3, 0.25, 0.9], np.float32)
    counts.add(labels[:2], predictions[:2])
    other.add(labels[2:], predictions[2:])
    counts.merge(other)
    # One false positive, and one false negative: 0.25 is not above itself.
    assert [METRICS[name].compute(counts) for name in ("mean_cost", "precision", "recall", "accuracy")] == [
        9 / 5,
        0.5,
        0.5,
        0.6,
    ]
    assert math.isnan(METRICS["mean_cost"].compute(create_empty_counts("binary", 0.25, counts.costs)))


@pytest.mark.parametrize("label", [0.0, 0.1, 1e6 + 0.1])
def test_r2_of_labels_that_are_all_the_same_is_undefined(label: float) -> None:
    counts = RegressionCounts()
    # Their mean is rounded: it is not the label, and the sum of squares is not 0.
    for rows in (3, 1000):
        counts.add(np.full(rows, label, np.float32), np.linspace(0, 1, rows))
    assert math.isnan(METRICS["r2"].compute(counts))
    assert math.isfinite(METRICS["rmse"].compute(counts))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_with_a_prediction_of_nan_no_metric_is_defined(kind: Any) -> None:
    counts = create_empty_counts(kind)
    predictions = np.full((3, 3), 1 / 3) if kind == "multiclass" else np.array([0.4, 0.5, 0.6])
    predictions[1] = np.nan
    counts.add(np.array([0, 1, 1]), predictions)
    assert [name for name in list_metrics(kind) if math.isfinite(METRICS[name].compute(counts))] == ["example_count"]


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
    assert METRICS["macro_f1"].compute(first) == pytest.approx(float(f1.result()), rel=1e-5)
    assert METRICS["log_loss"].compute(first) == pytest.approx(float(log_loss.result()), rel=1e-5)
    assert METRICS["accuracy"].compute(first) == np.mean(labels == predictions.argmax(axis=1))
    assert METRICS["example_count"].compute(first) == 300


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
    assert METRICS["rmse"].compute(merged) == pytest.approx(np.sqrt(np.mean(error**2)))
    assert METRICS["mae"].compute(merged) == pytest.approx(np.mean(np.abs(error)))
    assert METRICS["mean_error"].compute(merged) == pytest.approx(np.mean(error))
    r2 = keras.metrics.R2Score(dtype="float64")
    r2.update_state(labels[:, None] - 1e6, predictions[:, None] - 1e6)
    assert METRICS["r2"].compute(merged) == pytest.approx(float(r2.result()), rel=1e-5)
    assert METRICS["example_count"].compute(merged) == 400


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_every_metric_of_a_kind_is_measured_and_no_other(kind: Any) -> None:
    counts = create_empty_counts(kind)
    predictions = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2]]) if kind == "multiclass" else np.array([0.4, 0.6])
    counts.add(np.array([0, 1]), predictions)
    for name in list_metrics(kind):
        assert math.isfinite(METRICS[name].compute(counts))
    for name in {*METRICS} - {*list_metrics(kind)} | {MEAN_COST}:
        with pytest.raises(ValueError, match=name):
            METRICS[name].compute(counts)


def test_early_stopping_watches_the_loss_unless_the_config_names_another_metric() -> None:
    watchable = {kind: list_watchable(kind) for kind in LABEL_KINDS}
    assert watchable == {
        "binary": ("log_loss", "auc"),
        "multiclass": ("log_loss", "accuracy"),
        "regression": ("rmse", "mae"),
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("auc", 0.5, "0.5000"),
        ("example_count", 16281.0, "16,281"),
        ("example_count", 1059.27, "1,059"),
        ("example_count", 40.0, "40"),
        ("example_count", 0.0013553, "0.00136"),
        ("r2", None, "undefined"),
        ("r2", math.nan, "undefined"),
    ],
)
def test_values_are_formatted_as_the_table_declares(name: str, value: float | None, text: str) -> None:
    assert METRICS[name].format(value) == text


def test_the_table_loads_without_numpy() -> None:
    command = "import sys, schemas.metrics; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
