"""The constant predictor, the class shares or the mean label of `train`, and the candidate's gain over it.

Both predict the same rows, so the difference of their losses is taken row by row, and so is its interval
(`components.evaluator.resampling.Gain`). The gain is significant if its 95 % interval is above 0.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.counts import format_count
from schemas.features import Label
from schemas.metric_counts import LEAST_PROBABILITY

_LOG_LOSS = "log loss"
# Predictions that are this close, in steps of float32, differ by the order of sums alone.
_SAME_STEPS = 4

Array = NDArray[Any]


@dataclass(frozen=True)
class ConstantPredictor:
    """Predicts the same for every row: the class shares of `train`, or its mean label.

    Attributes:
      classes: number of classes; 0 for a regression.
      prediction: share of each class, [classes]; or the mean label, [1].
      is_balanced: whether the candidate was fitted to balanced classes. Its probabilities then are those of classes of
        equal shares, and the shares of `train` are put back before it is compared.
    """

    classes: int
    prediction: Array
    is_balanced: bool = False

    @classmethod
    def from_train(cls, train: Mapping[str, float], label: Label, *, is_balanced: bool) -> "ConstantPredictor":
        """Return the predictor of a train split.

        Args:
          train: rows of each class in `train`, or the sum of their weights; or `mean` among others.
          label: declaration of the label.
          is_balanced: whether the candidate was fitted to balanced classes.
        """
        if not label.classes:
            return cls(0, np.array([train["mean"]]))
        return cls.from_class_rows(np.array([train.get(value, 0) for value in label.classes], np.float64), is_balanced)

    @classmethod
    def from_class_rows(cls, rows: Array, is_balanced: bool = False) -> "ConstantPredictor":
        """Return the predictor of the rows of each class in `train`, or of the sums of their weights, [classes]."""
        if not rows.all():
            # A class that `train` lacks would have an infinite loss. Half a row more for each class is the estimate of
            # Krichevsky and Trofimov (1981), The Performance of Universal Encoding. ExampleGen rejects such weights.
            rows = rows + 0.5
        return cls(len(rows), rows / rows.sum(), is_balanced)

    def compute_losses(self, labels: Array, predictions: Array) -> tuple[Array, Array]:
        """Return the losses of the candidate and of this predictor, [n] each.

        Args:
          labels: places of the classes, or numbers, [n].
          predictions: the candidate's probabilities, [n] (of the second class) or [n, classes], or its numbers, [n].
        """
        if not self.classes:
            return compute_row_losses(labels, predictions, 0), (self.prediction[0] - labels.astype(np.float64)) ** 2
        if self.is_balanced:
            # Saerens, Latinne and Decaestecker (2002), Adjusting the Outputs of a Classifier to New a Priori
            # Probabilities, equation 2.4; the shares of a balanced training are all the same and cancel out.
            predictions = _expand_classes(predictions) * self.prediction
            predictions /= predictions.sum(axis=1, keepdims=True)
        constant: Array = -np.log(self.prediction)
        return compute_row_losses(labels, predictions, self.classes), constant[labels.astype(np.int64)]


def compute_row_losses(labels: Array, predictions: Array, classes: int) -> Array:
    """Return the log losses of rows, or the squared errors if there are no classes, [n]."""
    if not classes:
        errors: Array = predictions.astype(np.float64) - labels.astype(np.float64)
        return errors**2
    likely = _expand_classes(predictions)[np.arange(len(labels)), labels.astype(np.int64)]
    losses: Array = -np.log(np.clip(likely, LEAST_PROBABILITY, 1))
    return losses


def _expand_classes(predictions: Array) -> Array:
    """Return probabilities of all classes, [n, classes]."""
    predictions = predictions.astype(np.float64)
    return predictions if predictions.ndim > 1 else np.stack([1 - predictions, predictions], axis=1)


@dataclass
class PairedLosses:
    """Sums of the losses of candidate and constant predictor over some rows; two add up to those of all their rows.

    Attributes:
      class_rows: rows of each class, [classes].
      rows: number of rows with finite predictions, which the sums are of.
      non_finite: number of rows whose prediction is NaN or infinite.
      candidate: sum of the candidate's losses, by weight.
      constant: sum of the constant predictor's losses, by weight.
      weight: sum of the weights.
      lowest: least prediction of each output.
      highest: greatest prediction of each output.
    """

    class_rows: Array
    rows: int = 0
    non_finite: int = 0
    candidate: float = 0.0
    constant: float = 0.0
    weight: float = 0.0
    lowest: Any = math.inf
    highest: Any = -math.inf

    @classmethod
    def create_empty(cls, predictor: ConstantPredictor) -> "PairedLosses":
        """Return the sums of no rows."""
        return cls(np.zeros(predictor.classes, np.int64))

    @classmethod
    def from_json(cls, text: bytes) -> "PairedLosses":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        arrays = {name: np.array(values[name]) for name in ("class_rows", "lowest", "highest")}
        return cls(**{**values, **arrays})

    def to_json(self) -> str:
        """Return it as JSON; without a row, the bounds are infinite, which Python alone reads."""
        arrays = {name: np.array(getattr(self, name)).tolist() for name in ("class_rows", "lowest", "highest")}
        return json.dumps({**asdict(self), **arrays})

    @classmethod
    def from_batch(
        cls, predictor: ConstantPredictor, labels: Array, predictions: Array, weights: Array | None = None
    ) -> "PairedLosses":
        """Return the sums of a batch; without weights, all rows weigh 1."""
        losses = cls.create_empty(predictor)
        if predictor.classes:
            losses.class_rows = np.bincount(labels.astype(np.int64), minlength=predictor.classes)
        finite: Array = np.isfinite(predictions)
        if finite.ndim > 1:
            finite = np.all(finite, axis=1)
        losses.non_finite = int((~finite).sum())
        weight = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
        labels, predictions, weight = labels[finite], predictions[finite], weight[finite]
        if not len(labels):
            return losses
        candidate, constant = predictor.compute_losses(labels, predictions)
        losses.rows, losses.weight = len(labels), float(weight.sum())
        losses.candidate, losses.constant = float(candidate @ weight), float(constant @ weight)
        losses.lowest, losses.highest = predictions.min(axis=0), predictions.max(axis=0)
        return losses

    def merge(self, other: "PairedLosses") -> None:
        """Add the rows of another."""
        self.class_rows = self.class_rows + other.class_rows
        self.non_finite += other.non_finite
        if not other.rows:
            return
        self.rows += other.rows
        self.weight += other.weight
        self.candidate += other.candidate
        self.constant += other.constant
        self.lowest = np.minimum(self.lowest, other.lowest)
        self.highest = np.maximum(self.highest, other.highest)

    @property
    def is_same_everywhere(self) -> bool:
        """Whether the candidate predicts the same for every row, of two rows or more."""
        if self.rows < 2:
            return False
        step = np.spacing(np.float32(np.maximum(np.abs(self.lowest), np.abs(self.highest))))
        return bool(np.all(self.highest - self.lowest <= _SAME_STEPS * step))


@dataclass(frozen=True)
class ConstantComparison:
    """The candidate beside the constant predictor on the same rows.

    Attributes:
      loss: name of the loss.
      constant_name: name of what the constant predictor predicts.
      candidate: the candidate's mean loss.
      constant: the constant predictor's mean loss.
      gain: mean of constant - candidate; None without a row to take it of.
      low: lower end of the 95 % interval of the gain; None without an interval.
      high: its upper end.
      rows: number of rows that were compared.
      rows_needed: about how many rows would make the gain significant; None if it is not positive.
      is_prior_corrected: whether the shares of `train` were put back into the candidate's probabilities.
      is_same_everywhere: whether the candidate predicts the same for every row.
    """

    loss: str
    constant_name: str
    candidate: float | None
    constant: float | None
    gain: float | None
    low: float | None
    high: float | None
    rows: int
    rows_needed: int | None
    is_prior_corrected: bool
    is_same_everywhere: bool

    @classmethod
    def from_losses(
        cls, predictor: ConstantPredictor, losses: PairedLosses, interval: tuple[float, float] | None
    ) -> "ConstantComparison":
        """Return the comparison that paired losses make; `interval` is that of the gain."""
        weight, gain, needed = losses.weight, None, None
        if weight:
            gain = (losses.constant - losses.candidate) / weight
            if interval is not None and gain > 0:
                needed = math.ceil(losses.rows * ((interval[1] - interval[0]) / 2 / gain) ** 2)
        return cls(
            loss=get_loss_name(predictor.classes),
            constant_name="the class shares of train" if predictor.classes else "the mean of train",
            candidate=losses.candidate / weight if weight else None,
            constant=losses.constant / weight if weight else None,
            gain=gain,
            low=None if interval is None else interval[0],
            high=None if interval is None else interval[1],
            rows=losses.rows,
            rows_needed=needed,
            is_prior_corrected=predictor.is_balanced,
            is_same_everywhere=losses.is_same_everywhere,
        )

    @property
    def is_better(self) -> bool:
        """Whether the candidate is better than the constant predictor on these rows, significantly or not."""
        return self.gain is not None and self.gain > 0 and not self.is_same_everywhere

    @property
    def is_significant(self) -> bool:
        """Whether the candidate is better by more than chance explains."""
        return self.is_better and self.low is not None and self.low > 0

    def __str__(self) -> str:
        corrected = " (with the class shares of train put back)" if self.is_prior_corrected else ""
        return (
            f"{self.loss} {self._format_number(self.candidate)}{corrected} of the model against "
            f"{self._format_number(self.constant)} of {self.constant_name}"
        )

    def explain_problem(self, split: str) -> str:
        """Return why the candidate is not known to be better, in one line; empty if it is."""
        if self.is_significant:
            return ""
        if self.low is None:
            interval = "without a 95% interval"
        else:
            interval = f"95% interval [{self._format_number(self.low)}, {self._format_number(self.high)}]"
        rows = f"{format_count(self.rows, 'row')} of {split}"
        gain = f"a gain of {self._format_number(self.gain)} per row, over {rows} ({interval})"
        if not self.is_better:
            same = "the model predicts the same for every row; " if self.is_same_everywhere else ""
            return (
                f"constant predictor: {same}{self}, {gain}, must be better; "
                f"the model has learned nothing that helps on {split}"
            )
        needed = (
            f"about {format_count(self.rows_needed, 'row')} would be enough: " if self.rows_needed is not None else ""
        )
        return (
            f"constant predictor: {self}, {gain}, must be above 0 by its interval; {needed}give '{split}' more, or "
            "bless it with evaluation.insignificant_gain: warn"
        )

    def _format_number(self, value: float | None) -> str:
        return "undefined" if value is None else format_loss(value, self.loss)


def get_loss_name(classes: int) -> str:
    """Return the name of the loss of some classes, or of numbers if there are none."""
    return _LOG_LOSS if classes else "squared error"


def format_loss(value: float, loss: str) -> str:
    """Return a loss, or a difference of two, as reports print it."""
    return f"{value:.4f}" if loss == _LOG_LOSS else f"{value:.5g}"
