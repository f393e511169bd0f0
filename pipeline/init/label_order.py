"""Judges whether a label of few whole numbers is a number or names classes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.profile.columns import Column

# So many whole numbers may name classes.
MAX_NUMBERED_CLASSES = 20
_MAX_ROWS, _MAX_FEATURES, _MAX_CATEGORIES = 20_000, 300, 10
# An ID of fewer rows explains nothing of other rows.
_MIN_ROWS_OF_ID = 4
# A class of fewer rows can hardly be learned; a number can.
_RARE_ROWS = 10
# Features that distinguish the values less than this, beyond chance, are no evidence.
_MIN_EXPLAINED = 0.005
_NUMBER_NAME = re.compile(
    r"(^|[\W_\d])(n|num|no|number|count|counts|cnt|quantity|qty|rating|rate|score|stars?|points?|quality|age|years?|"
    r"months?|days?|hours?|minutes|rings|size|amount|total|visits|children|kids|rooms|length|level|severity)($|[\W_\d])",
    re.IGNORECASE,
)
_CLASS_NAME = re.compile(
    r"(^|[\W_\d])(class|classes|type|kind|category|cat|target|label|species|cluster|group|code|id|digit|variety|family|"
    r"segment|region|status|activity|genre|brand|model|color|colour|shape)($|[\W_\d])",
    re.IGNORECASE,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class OrderEvidence:
    """Evidence for a number (positive points) or for classes (negative points)."""

    points: float
    reasons: list[str]

    @property
    def is_number(self) -> bool:
        return self.points > 0


def judge_order(label: Column, columns: Mapping[str, Column]) -> OrderEvidence:
    """Weigh whether a label's whole numbers are quantities.

    Args:
      label: Column of whole numbers, null where the label is missing.
      columns: All columns of the table by name.
    """
    numbers = label.numbers
    values, counts = np.unique(numbers[~np.isnan(numbers)], return_counts=True)
    judgements = [
        _judge_name(label.name),
        _judge_features(numbers, values, [c for name, c in columns.items() if name != label.name]),
        _judge_shape(values, counts),
    ]
    judgements += [(-1.0, f"only {len(values)} of them")] if len(values) <= 4 else []
    return OrderEvidence(sum(points for points, _ in judgements), [reason for points, reason in judgements if points])


def _judge_name(name: str) -> tuple[float, str]:
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    is_number, is_class = bool(_NUMBER_NAME.search(name)), bool(_CLASS_NAME.search(name))
    if is_number == is_class:
        return 0.0, ""
    return (1.5, "named as a quantity") if is_number else (-1.5, "named as a class")


def _judge_features(numbers: Array, values: Array, columns: list[Column]) -> tuple[float, str]:
    """Compare what the features explain of the values with what they explain of the order of the values."""
    rows = np.flatnonzero(~np.isnan(numbers))
    if len(rows) > _MAX_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MAX_ROWS, replace=False))
    ranks = np.searchsorted(values, numbers[rows])
    counts = np.bincount(ranks, minlength=len(values)).astype(np.float64)
    step = max(1, len(columns) // _MAX_FEATURES)
    tested = [x for column in columns[::step] for x in _as_numbers(column, rows, ranks)]
    if not tested or len(rows) < 2 * len(values):
        return 0.0, ""
    x = np.stack(tested)
    means = np.stack([np.bincount(ranks, row, minlength=len(values)) for row in x]) / np.maximum(counts, 1)
    between = means**2 @ counts / len(rows)
    place = ranks - ranks.mean()
    linear = (x @ place / len(rows)) ** 2 / max(float(place.var()), 1e-12)
    # By chance, each degree of freedom explains one in n.
    chance = 1 / len(rows)
    explained = np.maximum(between - (len(values) - 1) * chance, 0)
    certain = between > 3 * (len(values) - 1) * chance
    total = float(explained[certain].sum())
    if total < _MIN_EXPLAINED:
        return 0.0, ""
    share = float(np.minimum(np.maximum(linear - chance, 0), explained)[certain].sum()) / total
    text = f"{share:.0%} of what the features explain follows the order"
    if share >= 0.7:
        return 2.0, text
    if share >= 0.5:
        return 0.75, text
    return (-2.0, text) if share < 0.4 else (-0.25, text)


def _as_numbers(column: Column, rows: Array, ranks: Array) -> list[Array]:
    """Return a column as standardised numbers: ranks of numbers, a row for each frequent category, shares of classes.

    Args:
      column: Column to test.
      rows: Indices of the tested rows; [n].
      ranks: Place of the label of each row among its values; [n].
    """
    if not column.present or column.distinct < 2:
        return []
    orders = []
    if column.is_number:
        numbers = column.numbers[rows]
        present = ~np.isnan(numbers)
        order = np.argsort(np.argsort(numbers, kind="stable"), kind="stable").astype(np.float64)
        order[~present] = order[present].mean() if present.any() else 0
        orders = _standardize(order)
    if column.distinct * _MIN_ROWS_OF_ID > column.present or (column.is_number and not column.is_integer):
        return orders
    _, ids = np.unique(np.asarray(column.texts.dictionary_encode().indices.fill_null(-1))[rows], return_inverse=True)
    categories = int(ids.max()) + 1
    if categories > _MAX_CATEGORIES:
        return [*orders, *(row for shares in _compute_class_shares(ids, ranks) for row in _standardize(shares))]
    if column.is_number:
        return orders
    return [row for category in range(categories) for row in _standardize((ids == category).astype(np.float64))]


def _compute_class_shares(ids: Array, ranks: Array) -> Array:
    """Return for each class its share in the rows with the same ID, counted in the other half of the rows; [k, n]."""
    classes, size = int(ranks.max()) + 1, int(ids.max()) + 1
    first = np.random.default_rng(0).random(len(ids)) < 0.5
    shares: Array = np.empty((classes, len(ids)))
    for half in (first, ~first):
        prior = np.bincount(ranks[~half], minlength=classes) / max(1, int(np.count_nonzero(~half)))
        joint: Array = np.bincount(ids[~half] * classes + ranks[~half], minlength=size * classes).reshape(size, classes)
        likely = (joint + prior) / (joint.sum(axis=1, keepdims=True) + 1.0)
        shares[:, half] = likely[ids[half]].T
    return shares


def _standardize(values: Array) -> list[Array]:
    deviation = values.std()
    return [(values - values.mean()) / deviation] if deviation > 0 else []


def _judge_shape(values: Array, counts: Array) -> tuple[float, str]:
    """Judge the distribution. Counts rise to one peak and thin out; classes need not."""
    noise = 2 * np.sqrt(counts)
    peak = int(np.argmax(counts))
    rises, falls = np.diff(counts[: peak + 1]) >= -noise[:peak], np.diff(counts[peak:]) <= noise[peak:-1]
    is_single = bool(np.all(rises) and np.all(falls))
    if len(values) >= 5 and is_single and counts.max() > 3 * np.median(counts):
        rare = np.count_nonzero(counts < _RARE_ROWS)
        if rare > len(values) / 3:
            return 2.5, f"one peak that thins out, {rare} values in fewer than {_RARE_ROWS} rows"
        return 1.0, "one peak that thins out"
    if counts.max() < 1.5 * counts.min():
        return -1.0, "about the same number of rows each"
    return 0.0, ""
