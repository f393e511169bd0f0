"""Metrics for TFMA that take whole batches of rows at once, for each kind of label.

TFMA's own metrics are called for every row, slice and model with one label and one prediction: 50 s for 16,000 rows,
two models and three slicings. These take arrays, and give the same values
(tests/components/evaluator/test_batched_metrics.py compares them with TFMA's own).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, assert_never

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray
from tensorflow_model_analysis.metrics import binary_confusion_matrices, confusion_matrix_metrics, metric_types

from components.config import MetricName
from components.evaluator.constant_predictor import LEAST_PROBABILITY
from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.features import LabelKind
from schemas.moments import Moments, merged

# TFMA's own default for AUC: the thresholds of the curve, just below 0 and just above 1 included.
_NUM_THRESHOLDS = 10_000
_EPSILON = 1e-7
_THRESHOLDS = np.concatenate([[-_EPSILON], np.arange(1, _NUM_THRESHOLDS - 1) / (_NUM_THRESHOLDS - 1), [1 + _EPSILON]])
# Labels are float32, which tells numbers apart that differ by more than 6e-8 of them.
_ROUNDING = 1e-12
_COUNTS_NAME = "_batched_counts"

Array = NDArray[Any]


class Counts(Protocol):
    """All that the metrics of one slice and model need; two add up to the counts of both their rows."""

    def add(self, labels: Array, predictions: Array) -> None:
        """Add rows."""

    def merge(self, other: Any) -> None:
        """Add the rows of another."""

    def metric(self, name: MetricName) -> float:
        """Return the value of a metric; NaN where it is undefined, as without a positive row."""


@dataclass
class BinaryCounts:
    """The `Counts` of a binary label.

    Attributes:
      threshold: probability above which the model predicts the positive value.
      costs: costs of the errors; without them there is no `MEAN_COST`.
    """

    threshold: float = DEFAULT_THRESHOLD
    costs: DecisionCosts | None = None
    # Rows of each class by the number of thresholds below their prediction, [2, thresholds + 1].
    histogram: Array = field(default_factory=lambda: np.zeros((2, _NUM_THRESHOLDS + 1)))
    # Rows by label and by predicted label, [2, 2].
    confusion: Array = field(default_factory=lambda: np.zeros((2, 2)))
    sum_of_log_losses: float = 0.0
    sum_of_predictions: float = 0.0

    def add(self, labels: Array, predictions: Array) -> None:
        """Add rows: labels of 0 or 1 and probabilities, [n] each."""
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        bins = np.searchsorted(_THRESHOLDS, predictions, side="left")
        np.add.at(self.histogram, (labels, bins), 1)
        np.add.at(self.confusion, (labels, (predictions > self.threshold).astype(np.int64)), 1)
        likely = np.clip(np.where(labels == 1, predictions, 1 - predictions), LEAST_PROBABILITY, 1)
        self.sum_of_log_losses -= float(np.log(likely).sum())
        self.sum_of_predictions += float(predictions.sum())

    def merge(self, other: "BinaryCounts") -> None:
        """Add the rows of another."""
        self.histogram += other.histogram
        self.confusion += other.confusion
        self.sum_of_log_losses += other.sum_of_log_losses
        self.sum_of_predictions += other.sum_of_predictions

    def metric(self, name: MetricName) -> float:
        """Return the value of a metric; NaN where it is undefined, as without a positive row or with a prediction of
        NaN.
        """
        if not math.isfinite(self.sum_of_predictions) and name != "example_count":
            # A NaN has a place among the thresholds, and would count as a prediction.
            return float("nan")
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
            case "mean_cost" if self.costs is not None:
                false_positive, false_negative = float(self.confusion[0, 1]), float(self.confusion[1, 0])
                cost = false_positive * self.costs.cost_false_positive + false_negative * self.costs.cost_false_negative
                return _divide(cost, rows)
            case "example_count":
                return rows
            case _:
                raise ValueError(name)

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


@dataclass
class MulticlassCounts:
    """The `Counts` of a multiclass label."""

    # Rows by label and by predicted label, [classes, classes]; empty before the first row.
    confusion: Array = field(default_factory=lambda: np.zeros((0, 0)))
    sum_of_log_losses: float = 0.0

    def add(self, labels: Array, predictions: Array) -> None:
        """Add rows: labels in `[0, classes)`, [n], and probabilities, [n, classes]."""
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        self._grow(predictions.shape[1])
        np.add.at(self.confusion, (labels, predictions.argmax(axis=1)), 1)
        likely = np.clip(predictions[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1)
        self.sum_of_log_losses -= float(np.log(likely).sum())

    def merge(self, other: "MulticlassCounts") -> None:
        """Add the rows of another."""
        self._grow(len(other.confusion))
        if len(other.confusion):
            self.confusion += other.confusion
        self.sum_of_log_losses += other.sum_of_log_losses

    def metric(self, name: MetricName) -> float:
        """Return the value of a metric; `macro_f1` is over the classes that have a row or were predicted for one.

        With a prediction of NaN, all but the number of rows are undefined.
        """
        if not math.isfinite(self.sum_of_log_losses) and name != "example_count":
            return float("nan")
        rows = float(self.confusion.sum())
        match name:
            case "accuracy":
                return _divide(float(np.trace(self.confusion)), rows)
            case "log_loss":
                return _divide(self.sum_of_log_losses, rows)
            case "macro_f1":
                of_class = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
                there = of_class > 0
                return float(np.mean(2 * np.diag(self.confusion)[there] / of_class[there])) if rows else float("nan")
            case "example_count":
                return rows
            case _:
                raise ValueError(name)

    def _grow(self, classes: int) -> None:
        if not len(self.confusion):
            self.confusion = np.zeros((classes, classes))


@dataclass
class RegressionCounts:
    """The `Counts` of a regression's label."""

    rows: int = 0
    label_mean: float = 0.0
    # The sum of squares about the mean; a plain sum of squares would lose the digits of labels far from 0.
    label_squares: float = 0.0
    sum_of_errors: float = 0.0
    sum_of_absolute_errors: float = 0.0
    sum_of_squared_errors: float = 0.0

    def add(self, labels: Array, predictions: Array) -> None:
        """Add rows: labels and predictions, [n] each."""
        labels = labels.astype(np.float64)
        errors = predictions.astype(np.float64) - labels
        mean = float(labels.mean()) if len(labels) else 0.0
        self.merge(
            RegressionCounts(
                rows=len(labels),
                label_mean=mean,
                label_squares=float(((labels - mean) ** 2).sum()),
                sum_of_errors=float(errors.sum()),
                sum_of_absolute_errors=float(np.abs(errors).sum()),
                sum_of_squared_errors=float((errors**2).sum()),
            )
        )

    def merge(self, other: "RegressionCounts") -> None:
        """Add the rows of another."""
        self.rows, self.label_mean, self.label_squares = merged(
            Moments(self.rows, self.label_mean, self.label_squares),
            Moments(other.rows, other.label_mean, other.label_squares),
        )
        self.sum_of_errors += other.sum_of_errors
        self.sum_of_absolute_errors += other.sum_of_absolute_errors
        self.sum_of_squared_errors += other.sum_of_squared_errors

    def metric(self, name: MetricName) -> float:
        """Return the value of a metric; NaN where it is undefined, as r2 of labels that are all the same."""
        match name:
            case "rmse":
                return math.sqrt(_divide(self.sum_of_squared_errors, self.rows))
            case "mae":
                return _divide(self.sum_of_absolute_errors, self.rows)
            case "r2":
                return 1 - _divide(self.sum_of_squared_errors, 0.0 if self._has_one_label else self.label_squares)
            case "mean_error":
                return _divide(self.sum_of_errors, self.rows)
            case "example_count":
                return float(self.rows)
            case _:
                raise ValueError(name)

    @property
    def _has_one_label(self) -> bool:
        # The mean of equal numbers is rounded, and then the sum of squares is not 0.
        return self.label_squares <= self.rows * (_ROUNDING * self.label_mean) ** 2


def counts_of(label: LabelKind, threshold: float = DEFAULT_THRESHOLD, costs: DecisionCosts | None = None) -> Counts:
    """Return empty counts for a kind of label; the others are for a binary one, as for `BinaryCounts`."""
    match label:
        case "binary":
            return BinaryCounts(threshold, costs)
        case "multiclass":
            return MulticlassCounts()
        case "regression":
            return RegressionCounts()
        case _:
            assert_never(label)


def _divide(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


class BatchedMetric(metric_types.Metric):
    """One of `MetricName`, as TFMA finds it through `MetricConfig(class_name="BatchedMetric", module=...)`."""

    def __init__(
        self,
        name: MetricName,
        label: LabelKind,
        thresholds: Mapping[str, float] | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """Args:
        name: name of the metric.
        label: kind of the label.
        thresholds: threshold of each model by TFMA's name of it. If omitted, that of models without declared costs.
        costs: fields of the `DecisionCosts` by which all models are judged.
        """
        super().__init__(_computations, name=name, label=label, thresholds=thresholds, costs=costs)


def _computations(
    name: MetricName,
    label: LabelKind,
    thresholds: Mapping[str, float] | None = None,
    costs: Mapping[str, float] | None = None,
    model_names: list[str] | None = None,
    **_: Any,
) -> list[Any]:
    """TFMA's computations for one metric: the counts, which all metrics of a model share, and the value from them."""
    declared = DecisionCosts.model_validate(costs) if costs else None
    computations: list[Any] = []
    for model_name in model_names or [""]:
        counts_key = metric_types.MetricKey(name=_COUNTS_NAME, model_name=model_name)
        key = metric_types.MetricKey(name=name, model_name=model_name)
        empty = partial(counts_of, label, (thresholds or {}).get(model_name, DEFAULT_THRESHOLD), declared)
        computations.append(
            metric_types.MetricComputation(
                keys=[counts_key], preprocessors=None, combiner=_CountsCombiner(counts_key, empty)
            )
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
    def __init__(self, key: Any, empty: Callable[[], Counts]) -> None:
        self._key = key
        self._empty = empty

    def create_accumulator(self) -> Counts:
        return self._empty()

    def add_input(self, accumulator: Counts, element: Any) -> Counts:
        predictions = element.prediction
        if isinstance(predictions, dict):
            predictions = predictions[self._key.model_name]
        accumulator.add(element.label, predictions)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Counts]) -> Counts:
        merged = self._empty()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Counts) -> dict[Any, Counts]:
        return {self._key: accumulator}
