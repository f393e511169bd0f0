"""Our batched metrics against TFMA's own, on the same rows."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from components.batched_metrics import Counts
from components.config import MetricName

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
    counts = Counts()
    counts.add(labels, predictions)
    ours = [counts.metric(name) for name in STOCK]
    np.testing.assert_allclose(sorted(ours), sorted(v["doubleValue"] for v in stock), rtol=1e-6)


def test_counts_of_two_halves_add_up() -> None:
    labels, predictions = rows(1000)
    whole, first, second = Counts(), Counts(), Counts()
    whole.add(labels, predictions)
    first.add(labels[:300], predictions[:300])
    second.add(labels[300:], predictions[300:])
    first.merge(second)
    assert [first.metric(name) for name in STOCK] == pytest.approx([whole.metric(name) for name in STOCK], rel=1e-12)


def test_metrics_without_a_positive_row_are_undefined() -> None:
    counts = Counts()
    counts.add(np.array([0, 0]), np.array([0.2, 0.4]))
    undefined = {name for name in STOCK if math.isnan(counts.metric(name))}
    assert undefined == {"auc", "pr_auc", "precision", "recall", "calibration"}
