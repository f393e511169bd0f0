"""Measures how much a column explains of the label, on other rows than those it is learned from.

Imports no TensorFlow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.profile.columns import Column
from schemas.tables.row_hash import mix

Array = NDArray[Any]

# Rows of the overall distribution that each value of a column is believed to have besides its own. The first suits
# values that explain little; with the second, a value that decides the label is believed after a few rows.
_PRIORS = (5.0, 0.1)
# The second is tried on columns that explain so much with the first.
_MIN_EXPLAINED = 0.2
# Rows are halved again and again in a small table, where one division is a matter of luck: (least rows, divisions).
_DIVISIONS = ((5_000, 1), (1_000, 4), (0, 8))
# Of fewer different rows the halves would have different values.
_MIN_DISTINCT_ROWS = 50
_COPIES_IN_LOOKUP = 50
_MOSTLY_SEEN = 0.9
# Bins explain clearly more than a line by this share of what the line explains, and this much of the label; in few
# rows they explain more by chance.
_BEND_SHARE, _MIN_BEND, _MIN_BEND_IN_ROWS = 0.1, 0.02, 5
# A curve is looked for in so many rows, and is measured in more where there may be one.
_SAMPLED_CURVE_ROWS, _MAX_CURVE_ROWS, _LIKELY_CURVE = 2_000, 20_000, 0.5
# A curve through the label's ranks counts where it is nearly exact: the column is then the label on another scale.
_EXACT_CURVE = 0.99


@dataclass(frozen=True)
class Target:
    """The label of each row, as something that can be explained: class IDs, or numbers.

    Attributes:
      labels: int64 in `[0, classes)`, or float64.
      classes: Number of classes; 0 for numbers.
      row_codes: A code for each row, by which rows are divided into halves; equal rows have the same.
      numbers: float64 that a sum of columns can be; None where the classes are called otherwise.
    """

    labels: Array
    classes: int
    row_codes: Array
    numbers: Array | None = None

    def with_lookup(self, columns: Sequence[Column]) -> "Target":
        """Return the target for combinations of columns, of which every row of a lookup table is one.

        Where few different rows are repeated again and again, a division by rows would show each combination to one
        half only. In other tables this is `with_rows`.
        """
        divided = self.with_rows(columns)
        if len(np.unique(divided.row_codes)) * _COPIES_IN_LOOKUP > len(self.labels):
            return divided
        return replace(self, row_codes=_compute_codes(len(self.labels)))

    def with_rows(self, columns: Sequence[Column]) -> "Target":
        """Return the same target where rows that are equal in some columns are always in the same half."""
        codes = np.zeros(len(self.labels), np.uint64)
        for number, column in enumerate(columns, 1):
            codes += mix(column.codes.view(np.uint64) ^ mix(np.array([number], np.uint64)))
        return replace(self, row_codes=mix(codes))

    @cached_property
    def halves(self) -> list[Array]:
        """Whether each row is in the first half, of several divisions; each an [n] of bool."""
        codes = self.row_codes
        if len(np.unique(codes)) < _MIN_DISTINCT_ROWS:
            codes = _compute_codes(len(codes))
        divisions = next(number for rows, number in _DIVISIONS if len(codes) >= rows)
        points = [mix(codes + np.uint64(division)) >> np.uint64(63) for division in range(divisions)]
        return [point == 0 for point in points if 0 < point.sum() < len(codes)]

    def score_column(self, column: Column) -> float:
        """Return how much of the label a column explains, from 0 to 1.

        For classes, it is the share of the label's entropy: the uncertainty coefficient (Theil 1970, "On the Estimation
        of Relationships Involving Qualitative Variables"). For numbers, it is the share of the variance (R squared).
        A column of IDs explains nothing: their values are not seen again.
        """
        explained = self.score(column.ids)
        if column.coarse_ids is not None:
            explained = max(explained, self.score(column.coarse_ids))
        if not self.classes and column.is_number and column.distinct > 2:
            explained = max(explained, self._measure_by_line(column.numbers))
            curve = self._measure_by_curve(column.numbers, self._ranks, _SAMPLED_CURVE_ROWS)
            if curve > _LIKELY_CURVE:
                explained = max(explained, self._measure_by_curve(column.numbers, self.labels, _MAX_CURVE_ROWS))
                of_ranks = self._measure_by_curve(column.numbers, self._ranks, _MAX_CURVE_ROWS)
                explained = max(explained, of_ranks if of_ranks > _EXACT_CURVE else 0.0)
        if column.is_repeated_number:
            explained = max(explained, self.score(column.codes))
        return explained

    def score(self, ids: Array) -> float:
        """Return how much of the label the values of a column explain, from 0 to 1.

        Args:
          ids: A number in `[0, n)` for each row.
        """
        best = 0.0
        for prior in _PRIORS:
            shares = [self._score_half(ids, half, prior) for first in self.halves for half in (first, ~first)]
            best = max(best, float(np.mean(shares)) if shares else 0.0)
            if best < _MIN_EXPLAINED:
                break
        return best

    def _score_half(self, ids: Array, learned: Array, prior_rows: float) -> float:
        size = int(ids.max()) + 1
        seen, others = ids[learned], ~learned
        is_seen = np.bincount(seen, minlength=size)[ids] > 0
        # A rare value whose few different rows are all in one half is not evidence.
        if (is_seen & others).sum() >= _MOSTLY_SEEN * others.sum():
            others &= is_seen
        judged = ids[others]
        if self.classes:
            prior = (np.bincount(self.labels[learned], minlength=self.classes) + 1) / (learned.sum() + self.classes)
            joint = np.bincount(seen * self.classes + self.labels[learned], minlength=size * self.classes)
            counts = joint.reshape(size, self.classes) + prior_rows * prior
            likely = counts / counts.sum(axis=1, keepdims=True)
            loss = -np.log(likely[judged, self.labels[others]]).mean()
            base = -np.log(prior[self.labels[others]]).mean()
        else:
            prior = self.labels[learned].mean()
            sums = np.bincount(seen, self.labels[learned], minlength=size) + prior_rows * prior
            means = sums / (np.bincount(seen, minlength=size) + prior_rows)
            loss = ((self.labels[others] - means[judged]) ** 2).mean()
            base = ((self.labels[others] - prior) ** 2).mean()
        return 1 - float(loss / base) if base > 0 else 0.0

    def is_nonlinear(self, column: Column, *, of_logs: bool) -> bool:
        """Return whether bins of a column's numbers explain clearly more of the label's variance than a line.

        Args:
          column: A column of numbers.
          of_logs: Whether the line is one of sign(x) * log(1 + |x|).
        """
        numbers = column.numbers
        by_line = self._measure_by_line(np.sign(numbers) * np.log1p(np.abs(numbers)) if of_logs else numbers)
        bins = [column.ids, *([] if column.coarse_ids is None else [column.coarse_ids])]
        by_bins = max(self._measure_by_means(ids) for ids in bins)
        least = max(_MIN_BEND, _MIN_BEND_IN_ROWS / len(self.labels))
        return by_bins > max(0.0, by_line) * (1 + _BEND_SHARE) + least

    @cached_property
    def _indicators(self) -> Array:
        """The label as columns of numbers, [n, columns]: itself, or one for each class."""
        if self.classes:
            return np.asarray(self.labels[:, None] == np.arange(self.classes), np.float64)
        return np.asarray(self.labels, np.float64)[:, None]

    def _measure_by_line(self, numbers: Array) -> float:
        """Return the share of the variance that the best line explains; a missing number is the mean."""
        # The square of a large number is beyond float64.
        x = numbers / max(float(np.nanmax(np.abs(numbers))), np.finfo(float).tiny)
        x = np.where(np.isnan(x), np.nanmean(x), x)
        return self._measure_explained_variance(lambda learned: _predict_by_line(x, self._indicators, learned))

    def _measure_by_means(self, ids: Array) -> float:
        """Return the share of the variance that the means of some groups explain."""
        return self._measure_explained_variance(lambda learned: _predict_by_means(ids, self._indicators, learned))

    def _measure_explained_variance(self, predict: Callable[[Array], Array]) -> float:
        shares = []
        for first in self.halves:
            for learned in (first, ~first):
                y = self._indicators[~learned]
                residual, base = y - predict(learned), y - self._indicators[learned].mean(axis=0)
                spread = float((base**2).sum())
                shares.append(1 - float((residual**2).sum()) / spread if spread > 0 else 0.0)
        return float(np.mean(shares)) if shares else 0.0

    @cached_property
    def _ranks(self) -> Array:
        """The label's rank in each row, the mean of equal ones: it has no tail, whatever the label has."""
        ordered = np.sort(self.labels)
        return (np.searchsorted(ordered, self.labels) + np.searchsorted(ordered, self.labels, side="right")) / 2

    def _measure_by_curve(self, numbers: Array, labels: Array, max_rows: int) -> float:
        """Return the share of the variance that the label of the next smaller and larger number explains.

        Bins mix the largest labels where the label has a long tail, so that they miss a copy of it in another unit.
        """
        rows = np.flatnonzero(~np.isnan(numbers))
        present_share = len(rows) / max(len(numbers), 1)
        rows = rows[:: max(1, len(rows) // max_rows)]
        x, y = numbers[rows], labels[rows]
        shares = []
        for first in self.halves[:1]:
            for learned in (first[rows], ~first[rows]):
                if not learned.any() or learned.all():
                    return 0.0
                places, inverse, counts = np.unique(x[learned], return_inverse=True, return_counts=True)
                means = np.bincount(inverse, y[learned]) / counts
                inside = ~learned & (x >= places[0]) & (x <= places[-1])
                base = ((y[inside] - y[learned].mean()) ** 2).sum()
                residual = ((y[inside] - np.interp(x[inside], places, means)) ** 2).sum()
                # A number of a column that is missing in other rows explains nothing of those.
                shares.append(present_share * (1 - float(residual / base) if base > 0 else 0.0))
        return float(np.mean(shares)) if shares else 0.0


def build_target(labels: Column, classes: Sequence[str]) -> Target:
    """Return the target of a column of labels, none of which is missing."""
    own = _compute_codes(labels.rows)
    if not classes:
        return Target(labels.numbers, 0, own, labels.numbers)
    ids = pc.index_in(labels.texts, pa.array(list(classes)))
    codes = np.asarray(ids.to_numpy(zero_copy_only=False), dtype=np.int64)
    # Classes have no order, but two have, and numbers.
    numbers = labels.numbers if labels.is_number else codes.astype(np.float64) if len(classes) <= 2 else None
    return Target(codes, len(classes), own, numbers)


def _predict_by_line(x: Array, y: Array, learned: Array) -> Array:
    """Return what the line through some rows predicts for the others."""
    x_mean, y_mean = x[learned].mean(), y[learned].mean(axis=0)
    centred = x[learned] - x_mean
    spread = float(centred @ centred)
    slopes = centred @ (y[learned] - y_mean) / spread if spread > 0 else np.zeros(y.shape[1])
    return np.asarray(y_mean + np.outer(x[~learned] - x_mean, slopes))


def _predict_by_means(ids: Array, y: Array, learned: Array) -> Array:
    """Return what the means of groups in some rows predict for the others."""
    size, mean = int(ids.max()) + 1, y[learned].mean(axis=0)
    sums = np.stack([np.bincount(ids[learned], column, minlength=size) for column in y[learned].T], axis=1)
    counts = np.bincount(ids[learned], minlength=size)[:, None]
    means = (sums + _PRIORS[0] * mean) / (counts + _PRIORS[0])
    return np.asarray(means[ids[~learned]])


def combine_ids(first: Array, second: Array) -> Array:
    """Return the IDs of the pairs of two columns' IDs."""
    _, ids = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)
    return ids


def _compute_codes(rows: int) -> Array:
    return mix(np.arange(rows, dtype=np.uint64))
