"""Intervals of metrics by the Poisson bootstrap. Imports no TensorFlow.

Efron (1979), Bootstrap Methods: Another Look at the Jackknife. Chamandy et al. (2012), Estimating Uncertainty for
Massive Data Streams: in a replicate each row counts as often as a draw from Poisson(1) has it. The draws of a row
depend on its ID and on the seed alone. Batches, workers and runners do not change them, and all models share them, so
that the difference of two models has an interval of its own.

The replicates give the standard error. The interval has Student's (1908) quantiles, on the logit of a share and on the
logarithm of a positive number: it has no value that the metric cannot have. `benchmarks/coverage.py` measures how often
the true value is in it.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# TFMA requires SciPy and imports it.
from scipy import special

from schemas.metric_counts import Counts, divide, sum_weighted
from schemas.metrics import METRICS, Metric

CONFIDENCE = 0.95
_REPLICATES = 200
# Weights of rows in replicates that are in memory at once.
_BLOCK_WEIGHTS = 1 << 22
# Draws of Poisson(1) by 16 random bits: the number whose cumulative probability they reach.
_DRAWS_PER_HASH = 4
_CUMULATIVE = np.cumsum([math.exp(-1) / math.factorial(count) for count in range(9)])
_POISSON = np.searchsorted(_CUMULATIVE, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.uint8)
# A metric that is undefined in more replicates, such as the AUC where a class has a row or two, has no interval.
_MAX_UNDEFINED = 0.05

Array = NDArray[Any]


# Low and high.
Ends = tuple[float, float]


class Interval(NamedTuple):
    """An interval of 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class Replicates:
    """Values in all replicates, [replicates] each.

    Attributes:
      metrics: values by model and metric.
      means: means of numbers of the rows, by their name.
    """

    metrics: Mapping[str, Mapping[str, Array]]
    means: Mapping[str, Array]


def number_rows(name: str, first: int, count: int) -> Array:
    """Return the IDs of neighbouring rows of a file, uint64 of shape [count].

    Args:
      name: name of the file.
      first: place of the first row in the file.
      count: number of rows.
    """
    start = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return _mix(np.uint64(start) + np.arange(first, first + count, dtype=np.uint64))


def number_copies(ids: Array) -> Array:
    """Return IDs that differ for rows with equal ones, uint64 of shape [n]."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ids)]
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(ids)), 0))
    numbered = np.empty_like(ids)
    numbered[order] = ordered + _mix((np.arange(len(ids)) - first).astype(np.uint64))
    return numbered


def draw_weights(ids: Array, seed: int) -> Iterator[Array]:
    """Yield how often each row is in each replicate, [rows, replicates], in blocks of replicates."""
    start = _mix(np.array([seed], np.uint64))
    last, step = _REPLICATES // _DRAWS_PER_HASH, max(1, _BLOCK_WEIGHTS // _DRAWS_PER_HASH // max(1, len(ids)))
    for first in range(0, last, step):
        hashes = np.arange(first, min(first + step, last), dtype=np.uint64)
        bits = _mix(ids[:, None] ^ _mix(start + hashes))
        yield _POISSON[bits.view(np.uint16)].astype(np.float64)


def _mix(values: Array) -> Array:
    """Return hashes of uint64: one step of SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def replicate_metrics(
    names: Sequence[str],
    counts: Mapping[str, Counts],
    labels: Array,
    predictions: Mapping[str, Array],
    weights: Array,
    *,
    ids: Array,
    seed: int,
    numbers: Mapping[str, Array] | None = None,
) -> Replicates:
    """Return the values of metrics, and the means of numbers, in all replicates.

    Args:
      names: names of the metrics.
      counts: empty counts of each model, which have its settings.
      labels: labels of the rows.
      predictions: predictions of each model.
      weights: weights of the rows, float64.
      ids: IDs of the rows, uint64; no two are equal.
      seed: seed of the draws.
      numbers: numbers of the rows, [rows], by their name.
    """
    metrics: dict[str, dict[str, list[Array]]] = {model: {name: [] for name in names} for model in predictions}
    means: dict[str, list[Array]] = {name: [] for name in numbers or {}}
    for drawn in draw_weights(ids, seed):
        drawn *= weights[:, None]
        for model, values in predictions.items():
            replicates = counts[model].replicate(labels, values, drawn)
            for name in names:
                metrics[model][name].append(METRICS[name].compute_replicates(replicates))
        for name, by_row in (numbers or {}).items():
            means[name].append(divide(sum_weighted(by_row, drawn), drawn.sum(axis=0)))
    return Replicates(
        {model: {name: np.concatenate(blocks) for name, blocks in by.items()} for model, by in metrics.items()},
        {name: np.concatenate(blocks) for name, blocks in means.items()},
    )


def compute_standard_error(replicates: Array, rows: float) -> float | None:
    """Return the deviation of a metric, or of a difference, between samples.

    Args:
      replicates: values in all replicates.
      rows: number of effective rows.

    Returns:
      The deviation; None if there are fewer than two effective rows, the metric is undefined in too many replicates, or
      is the same in all of them.
    """
    finite = replicates[np.isfinite(replicates)]
    if rows < 2 or len(finite) < (1 - _MAX_UNDEFINED) * len(replicates):
        return None
    # The weights of a replicate vary around the mean of the rows, not around the true one.
    error = float(finite.std(ddof=1)) * math.sqrt(rows / (rows - 1))
    return error if error > 1e-12 * float(np.abs(finite).max()) else None


def find_interval(metric: Metric, value: float | None, error: float | None, rows: float) -> Interval | None:
    """Return the interval of a metric.

    Args:
      metric: the metric.
      value: its value; None if it is undefined.
      error: its standard error; None if there is none.
      rows: number of effective rows.
    """
    if value is None or not math.isfinite(value):
        return None
    if error is None:
        return _find_uniform_interval(value, rows) if metric.is_share_of_rows else None
    margin = _compute_quantile(rows) * error
    if metric.scale == "share" and 0 < value < 1:
        center, margin = special.logit(value), margin / (value * (1 - value))
        return Interval(float(special.expit(center - margin)), float(special.expit(center + margin)))
    if metric.scale == "positive" and value > 0:
        factor = math.exp(margin / value)
        return Interval(value / factor, value * factor)
    return Interval(value - margin, value + margin)


def _find_uniform_interval(value: float, rows: float) -> Interval | None:
    """Return the interval of a share that all rows have, or none has; None for another share, or a single row.

    All replicates are alike then. Wilson (1927), Probable Inference.
    """
    share = round(value, 12)
    if share not in (0, 1) or rows < 2:
        return None
    margin = _compute_quantile(rows) ** 2 / (rows + _compute_quantile(rows) ** 2)
    return Interval(1 - margin, 1.0) if share else Interval(0.0, margin)


def find_difference(difference: float | None, error: float | None, rows: float) -> Interval | None:
    """Return the interval of a difference; arguments as for `find_interval`."""
    if difference is None or error is None or not math.isfinite(difference):
        return None
    margin = _compute_quantile(rows) * error
    return Interval(difference - margin, difference + margin)


def find_change(before: float, before_ends: Ends, after: float, after_ends: Ends) -> Interval:
    """Return the interval of after - before, of two independent samples with intervals of their own.

    Zou and Donner (2008), Construction of Confidence Limits About Effect Measures: A General Approach.
    """
    (low_before, high_before), (low_after, high_after) = before_ends, after_ends
    return Interval(
        after - before - math.hypot(after - low_after, high_before - before),
        after - before + math.hypot(high_after - after, before - low_before),
    )


def _compute_quantile(rows: float) -> float:
    return float(special.stdtrit(rows - 1, (1 + CONFIDENCE) / 2))
