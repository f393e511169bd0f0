"""Chooses the threshold of a binary label by the costs of its errors, on the `eval` split."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cli import progress
from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts, DecisionThreshold
from schemas.moments import bound_mean
from trainer.config import Training
from trainer.input import Source

# With fewer rows of a class, the rows are no evidence for a threshold.
_MIN_CLASS_ROWS = 5
_CONFIDENCE = 0.95
# Costs that differ by less are sums of the same numbers in another order.
_ROUNDING = 1e-12
# A model's probabilities are float32, and 0 and 1 are no thresholds.
_LEAST, _GREATEST = float(np.finfo(np.float32).tiny), float(np.nextafter(np.float32(1), np.float32(0)))
# Maximum number of predictions in memory; beyond it, every second row is dropped.
_MAX_ROWS = 1 << 22

Array = NDArray[Any]


def fit_threshold(
    network: Callable[..., tf.Tensor], evaluation: Source, costs: DecisionCosts | None, training: Training
) -> DecisionThreshold:
    """Return the threshold of a network, and report it if costs are declared.

    Args:
      network: served network, from `Source.unpack` to logits, [batch, 1].
      evaluation: source of the eval split.
      costs: costs of the errors; None for a model without declared costs.
      training: options of the training, with the balance of classes.
    """
    if costs is None:
        return DecisionThreshold()
    labels, probabilities, weights = _predict(network, evaluation)
    decision = choose_threshold(labels, probabilities, costs, weights, is_balanced=training.imbalance != "none")
    progress.report(f"decision: {decision}")
    return decision


def choose_threshold(
    labels: Array,
    probabilities: Array,
    costs: DecisionCosts,
    weights: Array | None = None,
    *,
    is_balanced: bool = False,
) -> DecisionThreshold:
    """Return the threshold with the least mean cost on some rows, if it is significantly better than the costs' own.

    The costs' own threshold is the best for exact probabilities: c = cost_false_positive / (cost_false_positive +
    cost_false_negative), from Elkan (2001), The Foundations of Cost-Sensitive Learning, equation 2. His theorem 2 moves
    it for a network that was fitted to balanced classes. Candidates are the midpoints of neighbouring predictions; of
    candidates that cost the same, the nearest to the costs' own is taken. It is used if the lower end of the one-sided
    95 % interval of its gain in each row is above 0 (Student 1908), with at least 5 rows of each class. A row counts by
    its weight; rows of weight 0 are left out.

    Args:
      labels: 1 for the positive value, else 0; [rows].
      probabilities: probabilities of the positive value, [rows]; rows where it is not finite are left out.
      costs: costs of the errors.
      weights: weights of the rows, [rows]; if omitted, all weigh 1.
      is_balanced: whether the network was fitted to balanced classes.
    """
    weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    is_used = np.isfinite(probabilities) & (weights > 0)
    positive, probabilities = labels[is_used] == 1, probabilities[is_used].astype(np.float32)
    # A mean of 1, whatever the unit of the weights.
    weights = weights[is_used] * (len(positive) / max(float(weights[is_used].sum()), np.finfo(np.float64).tiny))
    negatives, positives = int((~positive).sum()), int(positive.sum())
    # Half a row more for each class: one of them may have none.
    odds = (weights[~positive].sum() + 0.5) / (weights[positive].sum() + 0.5) if is_balanced else 1.0
    false_positive = costs.cost_false_positive * odds
    threshold = _as_threshold(false_positive / (false_positive + costs.cost_false_negative))
    is_better = False
    if min(negatives, positives) >= _MIN_CLASS_ROWS:
        cheapest = _find_cheapest(positive, probabilities, weights, costs, threshold)
        gains = _compute_row_costs(positive, probabilities, costs, threshold) - _compute_row_costs(
            positive, probabilities, costs, cheapest
        )
        is_better = bound_mean(gains, weights, _CONFIDENCE) > 0
        threshold = cheapest if is_better else threshold
    return DecisionThreshold(
        threshold=threshold,
        costs=costs,
        chosen_by="eval" if is_better else "costs",
        rows=len(positive),
        mean_cost=_compute_mean_cost(positive, probabilities, weights, costs, threshold),
        mean_cost_at_default=_compute_mean_cost(positive, probabilities, weights, costs, DEFAULT_THRESHOLD),
    )


def _as_threshold(value: float) -> float:
    return min(max(float(np.float32(value)), _LEAST), _GREATEST)


def _find_cheapest(
    positive: Array, probabilities: Array, weights: Array, costs: DecisionCosts, preferred: float
) -> float:
    """Return the candidate with the least cost; of several, the nearest to `preferred`."""
    order = np.argsort(probabilities, kind="stable")
    ordered, rows = probabilities[order].astype(np.float64), len(order)
    # By number of rows at or below a threshold: the weights of false negatives, and of false positives.
    misses: Array = np.concatenate([[0], np.cumsum((weights * positive)[order])])
    quiet: Array = np.concatenate([[0], np.cumsum((weights * ~positive)[order])])
    alarms = quiet[-1] - quiet
    below = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [rows]])
    edges = np.concatenate([[0.0], ordered, [1.0]])
    lower, upper = edges[below], edges[below + 1]
    # A midpoint of neighbours in float32 may be rounded up to the upper one, which is not above itself.
    middle: Array = ((lower + upper) / 2).astype(np.float32).astype(np.float64)
    middle = np.where(middle < upper, middle, lower)
    is_threshold = (middle >= _LEAST) & (middle <= _GREATEST)
    cost: Array = (costs.cost_false_positive * alarms + costs.cost_false_negative * misses)[below][is_threshold]
    cheapest = middle[is_threshold][cost <= cost.min() * (1 + _ROUNDING)]
    return float(cheapest[np.argmin(np.abs(cheapest - preferred))])


def _compute_row_costs(positive: Array, probabilities: Array, costs: DecisionCosts, threshold: float) -> Array:
    predicted = probabilities > np.float32(threshold)
    false_negative = np.where(positive & ~predicted, costs.cost_false_negative, 0.0)
    return np.where(predicted & ~positive, costs.cost_false_positive, false_negative)


def _compute_mean_cost(
    positive: Array, probabilities: Array, weights: Array, costs: DecisionCosts, threshold: float
) -> float | None:
    row_costs = _compute_row_costs(positive, probabilities, costs, threshold)
    return float(np.average(row_costs, weights=weights)) if len(positive) else None


def _predict(network: Callable[..., tf.Tensor], source: Source) -> tuple[Array, ...]:
    """Return labels, probabilities and weights of a split, [rows] each, at most `_MAX_ROWS` of them."""
    step, passed = 1, 0
    parts: list[tuple[Array, ...]] = []
    for ids, numbers, label, *weights in source.read_blocks():
        rows = np.flatnonzero((passed + np.arange(len(label))) % step == 0)
        passed += len(label)
        inputs = source.unpack(tf.gather(ids, rows), tf.gather(numbers, rows))
        # The served model computes it the same way.
        probability = tf.sigmoid(network(inputs, training=False)[:, 0])
        weight = weights[0].numpy()[rows] if weights else np.ones(len(rows), np.float32)
        parts.append((label.numpy()[rows].astype(np.int8), probability.numpy(), weight))
        if sum(len(part[0]) for part in parts) > _MAX_ROWS:
            parts, step = [tuple(column[::2] for column in _concatenate(parts))], 2 * step
    return _concatenate(parts)


def _concatenate(parts: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
