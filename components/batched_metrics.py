"""Binary-classification metrics for TFMA that take whole batches of rows at once.

TFMA's own metrics are called for every row, slice and model with one label and one prediction: 50 s for 16,000 rows,
two models and three slicings. These take arrays, and give the same values (tests/components/test_batched_metrics.py
holds them against TFMA's own).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray
from tensorflow_model_analysis.metrics import binary_confusion_matrices, confusion_matrix_metrics, metric_types

from components.config import MetricName
from serving.signatures import DECISION_THRESHOLD

# TFMA's own default for AUC: the thresholds of the curve, just below 0 and just above 1 included.
_NUM_THRESHOLDS = 10_000
_EPSILON = 1e-7
_THRESHOLDS = np.concatenate([[-_EPSILON], np.arange(1, _NUM_THRESHOLDS - 1) / (_NUM_THRESHOLDS - 1), [1 + _EPSILON]])
_COUNTS_NAME = "_batched_counts"

Array = NDArray[Any]


@dataclass
class Counts:
    """All that the metrics of one slice and model need; two add up to the counts of both their rows."""

    # Rows of each class by the number of thresholds below their prediction, [2, thresholds + 1].
    histogram: Array = field(default_factory=lambda: np.zeros((2, _NUM_THRESHOLDS + 1)))
    # Rows by label and by predicted label, [2, 2].
    confusion: Array = field(default_factory=lambda: np.zeros((2, 2)))
    sum_of_log_losses: float = 0.0
    sum_of_predictions: float = 0.0

    def add(self, labels: Array, predictions: Array) -> None:
        """Adds rows: labels of 0 or 1 and probabilities, [n] each."""
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        bins = np.searchsorted(_THRESHOLDS, predictions, side="left")
        np.add.at(self.histogram, (labels, bins), 1)
        np.add.at(self.confusion, (labels, (predictions > DECISION_THRESHOLD).astype(np.int64)), 1)
        likely = np.clip(np.where(labels == 1, predictions, 1 - predictions), _EPSILON, 1)
        self.sum_of_log_losses -= float(np.log(likely).sum())
        self.sum_of_predictions += float(predictions.sum())

    def merge(self, other: "Counts") -> None:
        """Adds the rows of another."""
        self.histogram += other.histogram
        self.confusion += other.confusion
        self.sum_of_log_losses += other.sum_of_log_losses
        self.sum_of_predictions += other.sum_of_predictions

    def metric(self, name: MetricName) -> float:
        """The value of a metric; NaN where it is undefined, as without a positive row."""
        rows, positives = float(self.confusion.sum()), float(self.confusion[1].sum())
        match name:
            case "auc":
                return self._area("ROC") if 0 < positives < rows else float("nan")
            case "pr_auc":
                return self._area("PR") if positives else float("nan")
            case "log_loss":
                return _divide(self.sum_of_log_losses, rows)
            case "accuracy":
                return _divide(float(np.trace(self.confusion)), rows)
            case "precision":
                return _divide(float(self.confusion[1, 1]), float(self.confusion[:, 1].sum()))
            case "recall":
                return _divide(float(self.confusion[1, 1]), positives)
            case "calibration":
                return _divide(self.sum_of_predictions, positives)
            case "example_count":
                return rows

    def _area(self, curve: str) -> float:
        # A row counts as predicted positive at every threshold below its prediction.
        negative, positive = self.histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        false_negative, true_negative = self.histogram[1].sum() - positive, self.histogram[0].sum() - negative
        matrices = binary_confusion_matrices.Matrices(
            thresholds=list(_THRESHOLDS), tp=positive, tn=true_negative, fp=negative, fn=false_negative
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            area = confusion_matrix_metrics.AUC(curve=curve)._metric_value(
                curve=curve, summation_method="interpolation", key=None, matrices=matrices
            )
        return float(area)


def _divide(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


class BatchedMetric(metric_types.Metric):
    """One of `MetricName`, as TFMA finds it through `MetricConfig(class_name="BatchedMetric", module=...)`."""

    def __init__(self, name: MetricName) -> None:
        super().__init__(_computations, name=name)


def _computations(name: MetricName, model_names: list[str] | None = None, **_: Any) -> list[Any]:
    """TFMA's computations for one metric: the counts, which all metrics of a model share, and the value from them."""
    computations: list[Any] = []
    for model_name in model_names or [""]:
        counts_key = metric_types.MetricKey(name=_COUNTS_NAME, model_name=model_name)
        key = metric_types.MetricKey(name=name, model_name=model_name)
        computations.append(
            metric_types.MetricComputation(keys=[counts_key], preprocessors=None, combiner=_CountsCombiner(counts_key))
        )
        computations.append(metric_types.DerivedMetricComputation(keys=[key], result=_Result(counts_key, key)))
    return computations


@dataclass(frozen=True)
class _Result:
    """Derives a metric from the counts."""

    counts_key: Any
    key: Any

    def __call__(self, metrics: dict[Any, Any]) -> dict[Any, float]:
        return {self.key: metrics[self.counts_key].metric(self.key.name)}


class _CountsCombiner(beam.CombineFn):
    def __init__(self, key: Any) -> None:
        self._key = key

    def create_accumulator(self) -> Counts:
        return Counts()

    def add_input(self, accumulator: Counts, element: Any) -> Counts:
        predictions = element.prediction
        if isinstance(predictions, dict):
            predictions = predictions[self._key.model_name]
        accumulator.add(element.label, predictions)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Counts]) -> Counts:
        merged = Counts()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Counts) -> dict[Any, Counts]:
        return {self._key: accumulator}
