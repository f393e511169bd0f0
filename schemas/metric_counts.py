"""Counts of predicted rows, by the kind of the label, from which every metric of schemas/metrics.py is computed.

They take whole batches of rows, and the counts of two sets of rows add up to the counts of both. A row of weight 2
counts as two rows, as TFMA counts it by its `example_weight_key`. No TensorFlow.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.features import LabelKind
from schemas.moments import Moments, merge_moments

# A smaller probability counts as this one in a log loss, as with TFMA and Keras.
LEAST_PROBABILITY = 1e-7
# TFMA's own defaults for AUC. It counts predictions in equal buckets, and takes the lower end of a bucket for all of
# its predictions. The thresholds of the curve go from just below 0 to just above 1; TFMA moves them up by an epsilon.
_NUM_BUCKETS, _NUM_THRESHOLDS, _EPSILON = 10_000, 10_000, 1e-7
_THRESHOLDS = np.concatenate([[0.0], np.arange(1, _NUM_THRESHOLDS - 1) / (_NUM_THRESHOLDS - 1) + _EPSILON, [np.inf]])
# Labels are float32, which tells numbers apart that differ by more than 6e-8 of them.
_ROUNDING = 1e-12

Array = NDArray[Any]


class Counts(Protocol):
    """Counts of the predicted rows of one slice and model; with weights, a number of rows is the sum of theirs."""

    label: ClassVar[LabelKind]

    @property
    def is_finite(self) -> bool:
        """Whether all predictions are numbers, so that metrics other than the number of rows are defined."""

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows; if weights are omitted, all weigh 1."""

    def merge(self, other: Any) -> None:
        """Add the rows of another."""


class _ClassCounts:
    """Counts of the rows by label and by predicted label."""

    confusion: Array

    @property
    def rows(self) -> float:
        return float(self.confusion.sum())

    @property
    def correct(self) -> float:
        """The number of rows whose label is predicted."""
        return float(np.trace(self.confusion))


@dataclass
class BinaryCounts(_ClassCounts):
    """The `Counts` of a binary label.

    Attributes:
      threshold: probability above which the model predicts the positive value.
      costs: costs of the errors, which the metric `mean_cost` needs.
      histogram: rows of each class by the number of thresholds below their prediction, [2, thresholds + 1].
      confusion: rows by label and by predicted label, [2, 2].
      sum_of_log_losses: sum of the rows' log losses.
      sum_of_predictions: sum of the probabilities.
    """

    label: ClassVar[LabelKind] = "binary"
    threshold: float = DEFAULT_THRESHOLD
    costs: DecisionCosts | None = None
    histogram: Array = field(default_factory=lambda: np.zeros((2, _NUM_THRESHOLDS + 1)))
    confusion: Array = field(default_factory=lambda: np.zeros((2, 2)))
    sum_of_log_losses: float = 0.0
    sum_of_predictions: float = 0.0

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows: labels of 0 or 1, probabilities, and weights, [n] each."""
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        weight = _weights(labels, weights)
        bucket_starts = (np.floor(predictions * _NUM_BUCKETS + 1) - 1) / _NUM_BUCKETS
        bins = np.searchsorted(_THRESHOLDS, bucket_starts, side="right")
        np.add.at(self.histogram, (labels, bins), weight)
        np.add.at(self.confusion, (labels, (predictions > self.threshold).astype(np.int64)), weight)
        likely = np.clip(np.where(labels == 1, predictions, 1 - predictions), LEAST_PROBABILITY, 1)
        self.sum_of_log_losses -= float((np.log(likely) * weight).sum())
        self.sum_of_predictions += float((predictions * weight).sum())

    def merge(self, other: "BinaryCounts") -> None:
        """Add the rows of another."""
        self.histogram += other.histogram
        self.confusion += other.confusion
        self.sum_of_log_losses += other.sum_of_log_losses
        self.sum_of_predictions += other.sum_of_predictions

    @property
    def is_finite(self) -> bool:
        # A NaN has a place among the thresholds, and would count as a prediction.
        return math.isfinite(self.sum_of_predictions)

    @property
    def positives(self) -> float:
        """The number of rows with the positive label."""
        return float(self.confusion[1].sum())

    @property
    def predicted_positives(self) -> float:
        return float(self.confusion[:, 1].sum())

    @property
    def true_positives(self) -> float:
        return float(self.confusion[1, 1])

    @property
    def total_cost(self) -> float:
        """The cost of all errors.

        Raises:
          ValueError: no costs are declared.
        """
        if self.costs is None:
            raise ValueError("mean_cost needs the costs of the errors")
        false_positives, false_negatives = float(self.confusion[0, 1]), float(self.confusion[1, 0])
        return false_positives * self.costs.cost_false_positive + false_negatives * self.costs.cost_false_negative

    def area_under_roc(self) -> float:
        """Return the area under the curve of recall over the false positive rate, by trapezoids, as TFMA does."""
        if not 0 < self.positives < self.rows:
            return float("nan")
        false_positives, true_positives = self._above_thresholds()
        rate, recall = false_positives / self.histogram[0].sum(), true_positives / self.histogram[1].sum()
        return float(((rate[:-1] - rate[1:]) * (recall[:-1] + recall[1:]) / 2).sum())

    def area_under_precision_recall(self) -> float:
        """Return the area under the curve of precision over recall, interpolated as TFMA does.

        Davis and Goadrich (2006), The Relationship Between Precision-Recall and ROC Curves: between two thresholds, the
        number of true positives is linear in the number of predicted positives.
        """
        if not self.positives:
            return float("nan")
        false_positives, true_positives = self._above_thresholds()
        predicted = true_positives + false_positives
        steps = true_positives[:-1] - true_positives[1:]
        # Thresholds between which there is no prediction add 0 / 0, which the sum skips.
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = steps / (predicted[:-1] - predicted[1:])
            ratios = np.where(predicted[1:] != 0, predicted[:-1] / predicted[1:], 1.0)
            areas = slopes * (steps + (true_positives[1:] - slopes * predicted[1:]) * np.log(ratios))
        return float(np.nansum(areas / self.histogram[1].sum()))

    def _above_thresholds(self) -> tuple[Array, Array]:
        """Return for each threshold the number of negative and of positive rows with a prediction above it."""
        negative, positive = self.histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        return negative, positive


@dataclass
class MulticlassCounts(_ClassCounts):
    """The `Counts` of a multiclass label.

    Attributes:
      confusion: rows by label and by predicted label, [classes, classes]; empty before the first row.
      sum_of_log_losses: sum of the rows' log losses.
    """

    label: ClassVar[LabelKind] = "multiclass"
    confusion: Array = field(default_factory=lambda: np.zeros((0, 0)))
    sum_of_log_losses: float = 0.0

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows: labels in `[0, classes)`, [n], probabilities, [n, classes], and weights, [n]."""
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        self._grow(predictions.shape[1])
        weight = _weights(labels, weights)
        np.add.at(self.confusion, (labels, predictions.argmax(axis=1)), weight)
        likely = np.clip(predictions[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1)
        self.sum_of_log_losses -= float((np.log(likely) * weight).sum())

    def merge(self, other: "MulticlassCounts") -> None:
        """Add the rows of another."""
        self._grow(len(other.confusion))
        if len(other.confusion):
            self.confusion += other.confusion
        self.sum_of_log_losses += other.sum_of_log_losses

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.sum_of_log_losses)

    def macro_f1(self) -> float:
        """Return the mean F1 score of the classes that are the label, or the predicted label, of a row."""
        totals = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        has_rows = totals > 0
        return float(np.mean(2 * np.diag(self.confusion)[has_rows] / totals[has_rows])) if self.rows else float("nan")

    def _grow(self, classes: int) -> None:
        if not len(self.confusion):
            self.confusion = np.zeros((classes, classes))


@dataclass
class RegressionCounts:
    """The `Counts` of a regression's label.

    Attributes:
      rows: number of rows.
      label_mean: mean of the labels.
      label_squares: sum of the labels' squared distances from their mean. A plain sum of squares would lose the digits
        of labels far from 0.
      sum_of_errors: sum of prediction - label.
      sum_of_absolute_errors: sum of their absolute values.
      sum_of_squared_errors: sum of their squares.
    """

    label: ClassVar[LabelKind] = "regression"
    rows: float = 0.0
    label_mean: float = 0.0
    label_squares: float = 0.0
    sum_of_errors: float = 0.0
    sum_of_absolute_errors: float = 0.0
    sum_of_squared_errors: float = 0.0

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows: labels, predictions and weights, [n] each."""
        labels = labels.astype(np.float64)
        errors = predictions.astype(np.float64) - labels
        weight = _weights(labels, weights)
        moments = Moments.of(labels, weight)
        self.merge(
            RegressionCounts(
                rows=moments.weight,
                label_mean=moments.mean,
                label_squares=moments.squares,
                sum_of_errors=float((errors * weight).sum()),
                sum_of_absolute_errors=float((np.abs(errors) * weight).sum()),
                sum_of_squared_errors=float((errors**2 * weight).sum()),
            )
        )

    def merge(self, other: "RegressionCounts") -> None:
        """Add the rows of another."""
        self.rows, self.label_mean, self.label_squares = merge_moments(
            Moments(self.rows, self.label_mean, self.label_squares),
            Moments(other.rows, other.label_mean, other.label_squares),
        )
        self.sum_of_errors += other.sum_of_errors
        self.sum_of_absolute_errors += other.sum_of_absolute_errors
        self.sum_of_squared_errors += other.sum_of_squared_errors

    @property
    def is_finite(self) -> bool:
        # The sums above are NaN or infinite themselves.
        return True

    @property
    def label_variation(self) -> float:
        """The squared distances of the labels from their mean; 0 of equal labels, whose mean is rounded."""
        is_rounding = self.label_squares <= self.rows * (_ROUNDING * self.label_mean) ** 2
        return 0.0 if is_rounding else self.label_squares


def _weights(labels: Array, weights: Array | None) -> Array:
    return np.ones(len(labels)) if weights is None else weights.astype(np.float64)


def empty_counts(label: LabelKind, threshold: float = DEFAULT_THRESHOLD, costs: DecisionCosts | None = None) -> Counts:
    """Return counts of no rows for a kind of label; the other arguments are for a binary one, as in `BinaryCounts`."""
    match label:
        case "binary":
            return BinaryCounts(threshold, costs)
        case "multiclass":
            return MulticlassCounts()
        case "regression":
            return RegressionCounts()
        case _:
            assert_never(label)
