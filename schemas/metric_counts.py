"""Counts of predicted rows, by the kind of the label, from which every metric of schemas/metrics.py is computed.

They take whole batches of rows, and the counts of two sets of rows add up to the counts of both. A row of weight 2
counts as two rows, as TFMA counts it by its `example_weight_key`. With weights of shape [rows, replicates], all counts
have a last dimension more, and so have the metrics (schemas/bootstrap.py). No TensorFlow.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

# TFMA requires SciPy and imports it.
from scipy import sparse

from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.features import LabelKind
from schemas.moments import Moments, merge_moments

# A smaller probability counts as this one in a log loss, as with TFMA and Keras.
LEAST_PROBABILITY = 1e-7
# TFMA's own defaults for AUC. It counts predictions in equal buckets, and takes the lower end of a bucket for all of
# its predictions. The thresholds of the curve go from just below 0 to just above 1; TFMA moves them up by an epsilon.
_NUM_BUCKETS, _NUM_THRESHOLDS, _EPSILON = 10_000, 10_000, 1e-7
_THRESHOLDS = np.concatenate([[0.0], np.arange(1, _NUM_THRESHOLDS - 1) / (_NUM_THRESHOLDS - 1) + _EPSILON, [np.inf]])
# Labels are float32: numbers that differ by more than 6e-8 of them are different.
_ROUNDING = 1e-12
# Replicates need no finer curve: their spread is that of the exact one.
_MAX_REPLICATE_BINS = 512

Array = NDArray[Any]


class Counts(Protocol):
    """Counts of the predicted rows of one slice and model; with weights, a number of rows is the sum of theirs."""

    label: ClassVar[LabelKind]

    @property
    def is_finite(self) -> Any:
        """Whether all predictions are numbers, so that metrics other than the number of rows are defined."""

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows; if weights are omitted, all weigh 1."""

    def replicate(self, labels: Array, predictions: Array, weights: Array) -> "Counts":
        """Return counts of rows with weights [rows, replicates], with the settings of these counts."""

    def merge(self, other: Any) -> None:
        """Add the rows of another."""


@dataclass
class BinaryCounts:
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
    sum_of_log_losses: Any = 0.0
    sum_of_predictions: Any = 0.0

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows: labels of 0 or 1, probabilities, and weights, [n] each."""
        bins = _find_bins(predictions)
        self.merge(self._count(labels, predictions, _convert_weights(labels, weights), bins, _NUM_THRESHOLDS + 1))

    def replicate(self, labels: Array, predictions: Array, weights: Array) -> "BinaryCounts":
        """Return counts of rows with weights [rows, replicates]; the histogram has no empty bins."""
        distinct, ranks, rows = np.unique(_find_bins(predictions), return_inverse=True, return_counts=True)
        if len(distinct) > _MAX_REPLICATE_BINS:
            ranks = ((rows.cumsum() - rows) * _MAX_REPLICATE_BINS // rows.sum())[ranks]
        # No prediction is in the first bin, below all thresholds, or in the last, above them.
        return self._count(labels, predictions, weights, ranks + 1, int(ranks.max()) + 3)

    def _count(self, labels: Array, predictions: Array, weights: Array, bins: Array, num_bins: int) -> "BinaryCounts":
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        shape = weights.shape[1:]
        predicted = (predictions > self.threshold).astype(np.int64)
        likely = np.clip(np.where(labels == 1, predictions, 1 - predictions), LEAST_PROBABILITY, 1)
        return BinaryCounts(
            self.threshold,
            self.costs,
            _sum_by(labels * num_bins + bins, weights, 2 * num_bins).reshape(2, num_bins, *shape),
            _sum_by(labels * 2 + predicted, weights, 4).reshape(2, 2, *shape),
            sum_weighted(-np.log(likely), weights),
            sum_weighted(predictions, weights),
        )

    def merge(self, other: "BinaryCounts") -> None:
        """Add the rows of another."""
        self.histogram += other.histogram
        self.confusion += other.confusion
        self.sum_of_log_losses += other.sum_of_log_losses
        self.sum_of_predictions += other.sum_of_predictions

    @property
    def is_finite(self) -> Any:
        # A NaN has a place among the thresholds, and would count as a prediction.
        return np.isfinite(self.sum_of_predictions)

    @property
    def rows(self) -> Any:
        return self.confusion.sum(axis=(0, 1))

    @property
    def correct(self) -> Any:
        """The number of rows whose label is predicted."""
        return self.confusion[0, 0] + self.confusion[1, 1]

    @property
    def positives(self) -> Any:
        """The number of rows with the positive label."""
        return self.confusion[1].sum(axis=0)

    @property
    def predicted_positives(self) -> Any:
        return self.confusion[:, 1].sum(axis=0)

    @property
    def true_positives(self) -> Any:
        return self.confusion[1, 1]

    @property
    def total_cost(self) -> Any:
        """The cost of all errors.

        Raises:
          ValueError: no costs are declared.
        """
        if self.costs is None:
            raise ValueError("mean_cost needs the costs of the errors")
        false_positives, false_negatives = self.confusion[0, 1], self.confusion[1, 0]
        return false_positives * self.costs.cost_false_positive + false_negatives * self.costs.cost_false_negative

    def compute_roc_area(self) -> Any:
        """Return the area under the curve of recall over the false positive rate, by trapezoids, as TFMA does."""
        false_positives, true_positives = self._count_above_thresholds()
        rate = divide(false_positives, self.histogram[0].sum(axis=0))
        recall = divide(true_positives, self.histogram[1].sum(axis=0))
        return ((rate[:-1] - rate[1:]) * (recall[:-1] + recall[1:]) / 2).sum(axis=0)

    def compute_precision_recall_area(self) -> Any:
        """Return the area under the curve of precision over recall, interpolated as TFMA does.

        Davis and Goadrich (2006), The Relationship Between Precision-Recall and ROC Curves: between two thresholds, the
        number of true positives is linear in the number of predicted positives.
        """
        false_positives, true_positives = self._count_above_thresholds()
        predicted = true_positives + false_positives
        steps = true_positives[:-1] - true_positives[1:]
        # Thresholds between which there is no prediction add 0 / 0, which the sum skips.
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = steps / (predicted[:-1] - predicted[1:])
            ratios = np.where(predicted[1:] != 0, predicted[:-1] / predicted[1:], 1.0)
            areas = slopes * (steps + (true_positives[1:] - slopes * predicted[1:]) * np.log(ratios))
        return divide(np.nansum(areas, axis=0), self.histogram[1].sum(axis=0))

    def _count_above_thresholds(self) -> tuple[Array, Array]:
        """Return for each threshold the number of negative and of positive rows with a prediction above it."""
        negative, positive = self.histogram[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        return negative, positive


@dataclass
class MulticlassCounts:
    """The `Counts` of a multiclass label.

    Attributes:
      labels: rows by label, [classes]; empty before the first row.
      predicted: rows by predicted label, [classes].
      correct_by_class: rows by label that is predicted, [classes].
      sum_of_log_losses: sum of the rows' log losses.
    """

    label: ClassVar[LabelKind] = "multiclass"
    labels: Array = field(default_factory=lambda: np.zeros(0))
    predicted: Array = field(default_factory=lambda: np.zeros(0))
    correct_by_class: Array = field(default_factory=lambda: np.zeros(0))
    sum_of_log_losses: Any = 0.0

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows: labels in `[0, classes)`, [n], probabilities, [n, classes], and weights, [n]."""
        self.merge(self.replicate(labels, predictions, _convert_weights(labels, weights)))

    def replicate(self, labels: Array, predictions: Array, weights: Array) -> "MulticlassCounts":
        """Return counts of rows with weights [rows, replicates]."""
        labels = labels.astype(np.int64)
        predictions = predictions.astype(np.float64)
        classes = predictions.shape[1]
        predicted = predictions.argmax(axis=1)
        likely = np.clip(predictions[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1)
        is_correct = labels == predicted
        return MulticlassCounts(
            _sum_by(labels, weights, classes),
            _sum_by(predicted, weights, classes),
            _sum_by(labels[is_correct], weights[is_correct], classes),
            sum_weighted(-np.log(likely), weights),
        )

    def merge(self, other: "MulticlassCounts") -> None:
        """Add the rows of another."""
        if len(self.labels) and len(other.labels):
            self.labels += other.labels
            self.predicted += other.predicted
            self.correct_by_class += other.correct_by_class
        elif len(other.labels):
            arrays = (other.labels, other.predicted, other.correct_by_class)
            self.labels, self.predicted, self.correct_by_class = (array.copy() for array in arrays)
        self.sum_of_log_losses += other.sum_of_log_losses

    @property
    def is_finite(self) -> Any:
        return np.isfinite(self.sum_of_log_losses)

    @property
    def rows(self) -> Any:
        return self.labels.sum(axis=0)

    @property
    def correct(self) -> Any:
        """The number of rows whose label is predicted."""
        return self.correct_by_class.sum(axis=0)

    def compute_macro_f1(self) -> Any:
        """Return the mean F1 score of the classes that are the label, or the predicted label, of a row."""
        totals = self.labels + self.predicted
        scores = divide(2 * self.correct_by_class, totals)
        return divide(np.nansum(scores, axis=0), (totals > 0).sum(axis=0))


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
    rows: Any = 0.0
    label_mean: Any = 0.0
    label_squares: Any = 0.0
    sum_of_errors: Any = 0.0
    sum_of_absolute_errors: Any = 0.0
    sum_of_squared_errors: Any = 0.0

    def add(self, labels: Array, predictions: Array, weights: Array | None = None) -> None:
        """Add rows: labels, predictions and weights, [n] each."""
        self.merge(self.replicate(labels, predictions, _convert_weights(labels, weights)))

    def replicate(self, labels: Array, predictions: Array, weights: Array) -> "RegressionCounts":
        """Return counts of rows with weights [rows, replicates]."""
        labels = labels.astype(np.float64)
        errors = predictions.astype(np.float64) - labels
        # Near 0, the square of the mean takes no digits of the sum of squares.
        center = labels.mean() if len(labels) else 0.0
        distances, rows = labels - center, weights.sum(axis=0)
        mean = divide(sum_weighted(distances, weights), rows, empty=0.0)
        return RegressionCounts(
            rows=rows,
            label_mean=center + mean,
            label_squares=np.maximum(sum_weighted(distances**2, weights) - rows * mean**2, 0.0),
            sum_of_errors=sum_weighted(errors, weights),
            sum_of_absolute_errors=sum_weighted(np.abs(errors), weights),
            sum_of_squared_errors=sum_weighted(errors**2, weights),
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
    def is_finite(self) -> Any:
        # The sums above are NaN or infinite themselves.
        return True

    @property
    def label_variation(self) -> Any:
        """The squared distances of the labels from their mean; 0 of equal labels, whose mean is rounded."""
        is_rounding = self.label_squares <= self.rows * (_ROUNDING * self.label_mean) ** 2
        return np.where(is_rounding, 0.0, self.label_squares)


def divide(numerator: Any, denominator: Any, *, empty: float = np.nan) -> Any:
    """Return a ratio of counts; `empty` where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    ratio = np.full(shape, empty)
    return np.divide(numerator, denominator, out=ratio, where=np.broadcast_to(np.not_equal(denominator, 0), shape))


def sum_weighted(values: Array, weights: Array) -> Any:
    """Return the sum of values, [rows], by weights [rows] or [rows, replicates].

    BLAS would use threads. On a busy machine they wait for each other, four times as long as this takes.
    """
    return np.einsum("i,i...->...", values, weights)


def _find_bins(predictions: Array) -> Array:
    """Return the number of thresholds below each prediction."""
    bucket_starts = (np.floor(predictions.astype(np.float64) * _NUM_BUCKETS + 1) - 1) / _NUM_BUCKETS
    return np.searchsorted(_THRESHOLDS, bucket_starts, side="right")


def _sum_by(groups: Array, weights: Array, size: int) -> Array:
    """Return the sums of weights, [rows] or [rows, replicates], by the number of their group."""
    if weights.ndim == 1:
        return np.bincount(groups, weights, size)
    ones = sparse.csr_array((np.ones(len(groups)), groups, np.arange(len(groups) + 1)), (len(groups), size))
    sums: Array = ones.T @ weights
    return sums


def _convert_weights(labels: Array, weights: Array | None) -> Array:
    return np.ones(len(labels)) if weights is None else weights.astype(np.float64)


def create_empty_counts(
    label: LabelKind, threshold: float = DEFAULT_THRESHOLD, costs: DecisionCosts | None = None
) -> Counts:
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
