"""Standard errors of a slice's metrics, and of their differences from the baseline and from the challengers."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluator.constant_predictor import ConstantPredictor, compute_row_losses
from components.evaluator.sliced_predictions import CANDIDATE
from schemas.bootstrap import find_difference, replicate_metrics, standard_error
from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.features import LabelKind
from schemas.metric_counts import Counts, create_empty_counts, weighted_sum
from schemas.metrics import METRICS
from schemas.moments import effective_rows
from schemas.row_sample import RowSample

CONSTANT = "constant"
LABELS, WEIGHTS = "labels", "weights"

Array = NDArray[Any]
Errors = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Gain:
    """The candidate's loss beside that of another model, on the same rows.

    Attributes:
      loss: the other model's mean loss: log loss, or squared error.
      gain: mean of the other model's loss - the candidate's; None without a weight.
      error: standard error of the gain; None if there is none.
      rows: number of rows that were compared.
      effective_rows: number of rows of equal weight that tell as much.
    """

    loss: float | None
    gain: float | None
    error: float | None
    rows: int
    effective_rows: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the gain; None if there is none."""
        return find_difference(self.gain, self.error, self.effective_rows)

    @property
    def is_significant(self) -> bool:
        """Whether the candidate is better by more than chance explains."""
        return self.interval is not None and self.interval[0] > 0

    @property
    def is_significant_loss(self) -> bool:
        """Whether the candidate is worse by more than chance explains."""
        return self.interval is not None and self.interval[1] < 0


@dataclass(frozen=True)
class SliceErrors:
    """Standard errors of the metrics of a slice.

    Attributes:
      columns: columns of the slice; none for all rows.
      rows: number of rows.
      sampled: number of rows that the errors were computed from.
      effective_rows: number of rows of equal weight that tell as much.
      errors: standard errors by model and metric.
      difference_errors: standard errors of candidate - other model, by the other model and metric.
      values: metrics of the challengers by their name.
      gains: gains of the candidate over the constant predictor and the challengers.
    """

    columns: tuple[str, ...]
    rows: int
    sampled: int
    effective_rows: float
    errors: Errors
    difference_errors: Errors
    values: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    gains: Mapping[str, Gain] = field(default_factory=dict)


@dataclass(frozen=True)
class Resampling:
    """Settings of the bootstrap.

    Attributes:
      label: kind of the label.
      metrics: names of the metrics.
      seed: seed of the draws.
      constant: constant predictor.
      thresholds: threshold of each model with one of its own.
      costs: costs of the errors, if they are declared.
    """

    label: LabelKind
    metrics: tuple[str, ...]
    seed: int
    constant: ConstantPredictor
    thresholds: Mapping[str, float] = field(default_factory=dict)
    costs: DecisionCosts | None = None

    def resample(self, columns: tuple[str, ...], sample: RowSample, challengers: tuple[str, ...] = ()) -> SliceErrors:
        """Return the standard errors of a slice.

        Args:
          columns: columns of the slice.
          sample: its rows, with labels, weights and the predictions of each model.
          challengers: names of the challengers among the models.
        """
        labels, weights = sample.columns[LABELS], sample.columns[WEIGHTS].astype(np.float64)
        predictions = {name: values for name, values in sample.columns.items() if name not in (LABELS, WEIGHTS)}
        # Without a prediction of each row nothing is compared.
        finite = {name: values for name, values in predictions.items() if np.isfinite(values).all()}
        gains: dict[str, Array] = {}
        losses: dict[str, Array] = {}
        if CANDIDATE in finite:
            own, losses[CONSTANT] = self.constant.compute_losses(labels, finite[CANDIDATE])
            losses |= {
                name: compute_row_losses(labels, finite[name], self.constant.classes)
                for name in challengers
                if name in finite
            }
            gains = {name: other - own for name, other in losses.items()}
        names = [name for name in self.metrics if METRICS[name].has_interval]
        measured = finite if names else {}
        counts = {name: self._create_counts(name) for name in measured}
        rows = effective_rows(weights)
        # A sample varies more than all rows.
        shrink = math.sqrt(len(sample.ids) / sample.rows)
        rows_of_all = rows / shrink**2
        replicates = replicate_metrics(
            names, counts, labels, measured, weights, ids=sample.ids, seed=self.seed, numbers=gains
        )

        def find_error(values: Array) -> float | None:
            error = standard_error(values, rows)
            return None if error is None else error * shrink

        own_metrics = replicates.metrics.get(CANDIDATE, {})
        return SliceErrors(
            columns=columns,
            rows=sample.rows,
            sampled=len(sample.ids),
            effective_rows=rows_of_all,
            errors={
                model: {name: find_error(values) for name, values in by_name.items()}
                for model, by_name in replicates.metrics.items()
            },
            difference_errors={
                model: {name: find_error(own_metrics[name] - values) for name, values in by_name.items()}
                for model, by_name in replicates.metrics.items()
                if model != CANDIDATE and own_metrics
            },
            values={name: self._measure(labels, finite[name], weights) for name in challengers if name in finite},
            gains={
                name: Gain(
                    loss=_compute_average(losses[name], weights),
                    gain=_compute_average(values, weights),
                    error=find_error(replicates.means[name]),
                    rows=sample.rows,
                    effective_rows=rows_of_all,
                )
                for name, values in gains.items()
            },
        )

    def _create_counts(self, model: str) -> Counts:
        return create_empty_counts(self.label, self.thresholds.get(model, DEFAULT_THRESHOLD), self.costs)

    def _measure(self, labels: Array, predictions: Array, weights: Array) -> dict[str, float | None]:
        counts = self._create_counts("")
        counts.add(labels, predictions, weights)
        values = {name: METRICS[name].compute(counts) for name in self.metrics}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _compute_average(values: Array, weights: Array) -> float | None:
    total = float(weights.sum())
    return float(weighted_sum(values, weights)) / total if total else None


def to_json(errors: Mapping[str, SliceErrors]) -> str:
    """Return the errors of all slices as JSON."""
    return json.dumps({name: asdict(of_slice) for name, of_slice in errors.items()}, allow_nan=False)


def from_json(text: bytes | str) -> dict[str, SliceErrors]:
    """Read what `to_json` wrote."""
    return {
        name: SliceErrors(
            **{
                **values,
                "columns": tuple(values["columns"]),
                "gains": {other: Gain(**gain) for other, gain in values["gains"].items()},
            }
        )
        for name, values in json.loads(text).items()
    }
