"""Columns that give the label away: by themselves, or as a sum or a product. Imports no TensorFlow.

`init` leaves them out, and preflight stops on them, by the same bounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.profile.columns import Column
from pipeline.profile.targets import Target

# A column that explains more than this of a label by itself gives it away: of the entropy of classes, of the variance
# of numbers. A sum is always judged by its R squared.
LEAK_OF_CLASSES, LEAK_OF_NUMBERS = 0.95, 0.995
# Other rows, or another division of the same, may show a little more: this many times the rest above a bound is near.
_NEAR = 2.0
# From here on a sum is worth a note.
NAMED_SUM = 0.8
# In fewer rows a column explains much by chance.
MIN_ROWS = 200
_MAX_COLUMNS, _MAX_SUMS, _MAX_ROWS = 4, 4, 10_000
# A sum leaves at most so much unexplained of what the best sum of fewer columns leaves; otherwise those are the cause,
# and an honest strong column does not draw others with it.
_CLEARLY_LESS = 0.5
# The powers of areas, volumes, rates and means.
_USUAL_POWERS, _POWER_TOLERANCE = (0.5, 1.0, 2.0, 3.0), 0.05
# How many sums of each size are continued: the two columns of a difference may explain nothing alone.
_CONTINUED = 12
# Two columns are one where less of the variance than this differs.
_MIN_VARIANCE = 1e-9

Array = NDArray[Any]


@dataclass(frozen=True)
class ColumnSum:
    """Columns whose sum, with a factor each, is the label; of a product the logarithms are.

    Attributes:
      names: Columns, the most important first.
      factors: Factor of each column (of a product: its power).
      share: Share of the label's variance that the sum explains, measured on rows it was not fitted to.
      is_product: Whether the columns are multiplied.
    """

    names: tuple[str, ...]
    factors: tuple[float, ...]
    share: float
    is_product: bool = False

    @property
    def is_formula(self) -> bool:
        """Whether the factors are those of a formula; of a product, where all powers fit many honest columns."""
        return not self.is_product or all(
            min(abs(abs(power) - usual) for usual in _USUAL_POWERS) < _POWER_TOLERANCE for power in self.factors
        )

    def __str__(self) -> str:
        """Return the sum as a formula.

        >>> str(ColumnSum(("casual", "registered", "x"), (1.0, -1.0, 2.5), 1.0))
        "'casual' - 'registered' + 2.5 * 'x'"
        """
        if self.is_product:
            return " * ".join(
                repr(name) if round(power, 2) == 1 else f"{name!r}^{power:.3g}"
                for name, power in zip(self.names, self.factors, strict=True)
            )
        terms = [
            f"{'-' if factor < 0 else '+'} {'' if round(abs(factor), 3) == 1 else f'{abs(factor):.3g} * '}{name!r}"
            for name, factor in zip(self.names, self.factors, strict=True)
        ]
        return " ".join(terms).removeprefix("+ ").replace("- ", "-", 1 if self.factors[0] < 0 else 0)


@dataclass(frozen=True)
class Leaks:
    """Shares of the label that columns explain.

    Attributes:
      bound: Share of the label above which a column is a leak.
      shares: Share of the label that each column explains by itself, by name.
      sums: Sums that give the label away.
      near_sums: Sums that do so nearly; in other rows they may.
      named_sum: A sum that explains much of the label and does not give it away; None if there is none.
    """

    bound: float
    shares: Mapping[str, float]
    sums: Sequence[ColumnSum] = ()
    near_sums: Sequence[ColumnSum] = ()
    named_sum: ColumnSum | None = None

    @cached_property
    def columns(self) -> list[str]:
        """The columns that give the label away by themselves."""
        return [name for name, share in self.shares.items() if share > self.bound]

    def is_near(self, name: str) -> bool:
        """Return whether a column is close to the bound, by itself or in a sum."""
        least = 1 - _NEAR * (1 - self.bound)
        return self.shares[name] > least or any(name in near.names for near in self.near_sums)

    def find_sum(self, name: str) -> ColumnSum | None:
        """Return the sum that gives the label away and has a column; None if there is none."""
        return next((column_sum for column_sum in self.sums if name in column_sum.names), None)


def find_leaks(columns: Sequence[Column], target: Target) -> Leaks:
    """Return what each column explains of a label, and the sums that explain it.

    Args:
      columns: Columns that are features.
      target: Label of the same rows, divided by these columns.
    """
    bound = LEAK_OF_CLASSES if target.classes else LEAK_OF_NUMBERS
    shares = {column.name: target.score_column(column) for column in columns}
    if len(target.labels) < MIN_ROWS:
        # No share is above it.
        return Leaks(1.0, shares)
    others = [column for column in columns if shares[column.name] <= bound]
    sums: list[ColumnSum] = []
    searches = []
    for search in _build_searches(others, target):
        search.exclude([name for column_sum in sums for name in column_sum.names])
        sums += search.extract_leaks()
        searches.append(search)
    near = [column_sum for search in searches if (column_sum := search.find_first(1 - _NEAR * (1 - LEAK_OF_NUMBERS)))]
    return Leaks(bound, shares, sums, near, searches[0].find_first(NAMED_SUM) if searches else None)


def _build_searches(columns: Sequence[Column], target: Target) -> Iterator["_Search"]:
    """Return the search for sums, and where all numbers are positive that for products."""
    if target.numbers is None or not target.halves:
        return
    numbers = [column for column in columns if column.is_number and column.distinct > 1]
    rows = np.unique(np.linspace(0, len(target.labels) - 1, _MAX_ROWS).astype(np.int64))
    learned = target.halves[0][rows]
    if not learned.any() or learned.all():
        return
    values = {column.name: column.numbers[rows] for column in numbers}
    labels = target.numbers[rows]
    yield _Search(values, labels, learned)
    if not target.classes and (labels > 0).all():
        logs = {name: np.log(x) for name, x in values.items() if np.nanmin(x, initial=np.inf) > 0}
        yield _Search(logs, np.log(labels), learned, is_product=True)


class _Search:
    """Finds the smallest sets of columns whose sum explains a label.

    All pairs are compared by the matrix of correlations, and the best are continued one column at a time. What they
    explain is measured on the other half of the rows.
    """

    def __init__(self, values: Mapping[str, Array], labels: Array, learned: Array, *, is_product: bool = False) -> None:
        self._is_product = is_product
        self._learned, self._labels = learned, labels
        self._names = list(values)
        self._values = values
        self._usable = np.ones(len(values), dtype=bool)
        columns = [_standardize(values[name][learned]) for name in self._names]
        matrix = np.stack(columns, axis=1) if columns else np.zeros((int(learned.sum()), 0))
        y = _standardize(labels[learned])
        self._correlations = matrix.T @ matrix / len(y)
        self._with_label = matrix.T @ y / len(y)
        self._usable &= np.diag(self._correlations) > 0

    def exclude(self, names: Sequence[str]) -> None:
        """Search among the other columns."""
        self._usable &= ~np.isin(self._names, names)

    def extract_leaks(self) -> list[ColumnSum]:
        """Return the sums that give the label away, and leave their columns out of the search."""
        sums: list[ColumnSum] = []
        while len(sums) < _MAX_SUMS and (leak := self.find_first(LEAK_OF_NUMBERS)):
            sums.append(leak)
            self.exclude(leak.names)
        return sums

    def find_first(self, bound: float) -> ColumnSum | None:
        """Return the smallest sum that explains a share of the label and clearly more than a smaller one."""
        best = max((self._measure_sum((i,)).share for i in self._find_best_singles()), default=0.0)
        sets = self._find_best_pairs()
        for size in range(2, _MAX_COLUMNS + 1):
            measured = [self._measure_sum(chosen) for chosen in sets[:3]]
            winner = max(measured, key=lambda column_sum: column_sum.share, default=None)
            if winner is None:
                return None
            if winner.share >= bound and 1 - winner.share <= _CLEARLY_LESS * (1 - best) and winner.is_formula:
                return winner
            best = max(best, winner.share)
            if size < _MAX_COLUMNS:
                sets = self._extend_sets([*sets, *((i,) for i in self._find_best_singles())] if size == 2 else sets)
        return None

    def _find_best_singles(self) -> list[int]:
        scores = np.where(self._usable, np.abs(self._with_label), -1.0)
        return [int(i) for i in np.argsort(-scores)[:_CONTINUED] if scores[i] >= 0]

    def _find_best_pairs(self) -> list[tuple[int, ...]]:
        usable = np.flatnonzero(self._usable)
        if len(usable) < 2:
            return []
        r, c = self._correlations[np.ix_(usable, usable)], self._with_label[usable]
        free = 1 - r**2
        shares = (c[:, None] ** 2 + c[None, :] ** 2 - 2 * np.outer(c, c) * r) / np.maximum(free, _MIN_VARIANCE)
        shares[(free <= _MIN_VARIANCE) | np.tri(len(usable), dtype=bool)] = -1.0
        most = min(_CONTINUED, shares.size)
        best = np.argpartition(-shares, most - 1, axis=None)[:most]
        best = best[np.argsort(-shares.flat[best])]
        pairs = [divmod(int(place), len(usable)) for place in best if shares.flat[place] >= 0]
        return [(int(usable[first]), int(usable[second])) for first, second in pairs]

    def _extend_sets(self, sets: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Return the best sets of one column more."""
        scores: dict[tuple[int, ...], float] = {}
        for chosen in sets:
            size = 3 if len(chosen) < 3 else len(chosen) + 1
            grown = chosen
            while len(grown) < size - 1:
                grown = (*grown, int(np.argmax(self._compute_gains(grown))))
            before, gains = self._compute_share(grown), self._compute_gains(grown)
            for i in np.argsort(-gains)[:_CONTINUED]:
                if gains[i] > 0:
                    scores[tuple(sorted((*grown, int(i))))] = before + float(gains[i])
        return sorted(scores, key=lambda chosen: -scores[chosen])[:_CONTINUED]

    def _compute_weights(self, chosen: Sequence[int]) -> Array:
        inner = self._correlations[np.ix_(chosen, chosen)]
        weights: Array = np.linalg.lstsq(inner, self._with_label[list(chosen)], rcond=None)[0]
        return weights

    def _compute_share(self, chosen: Sequence[int]) -> float:
        return float(self._compute_weights(chosen) @ self._with_label[list(chosen)])

    def _compute_gains(self, chosen: Sequence[int]) -> Array:
        """Return how much more of the label each column explains beside some, -1 for those that cannot be added."""
        inner = self._correlations[np.ix_(chosen, chosen)]
        outer = self._correlations[:, list(chosen)]
        partial = np.linalg.lstsq(inner, outer.T, rcond=None)[0]
        left = self._with_label - outer @ self._compute_weights(chosen)
        free = np.diag(self._correlations) - np.einsum("ij,ji->i", outer, partial)
        gains = left**2 / np.maximum(free, _MIN_VARIANCE)
        gains[(free <= _MIN_VARIANCE) | ~self._usable] = -1.0
        gains[list(chosen)] = -1.0
        return np.asarray(gains)

    def _measure_sum(self, chosen: tuple[int, ...]) -> ColumnSum:
        """Return a sum, fitted to the one half of the rows and measured on the other."""
        names = [self._names[i] for i in chosen]
        columns = np.stack([self._values[name] for name in names], axis=1)
        complete = ~np.isnan(columns).any(axis=1)
        learned, judged = complete & self._learned, complete & ~self._learned
        if learned.sum() <= len(names) + 1 or not judged.any():
            return ColumnSum(tuple(names), (0.0,) * len(names), 0.0, self._is_product)
        scale = np.maximum(np.abs(columns[learned]).max(axis=0), np.finfo(float).tiny)
        ones = np.ones((len(columns), 1))
        matrix = np.hstack([columns / scale, ones])
        factors = np.linalg.lstsq(matrix[learned], self._labels[learned], rcond=None)[0]
        y = self._labels[judged]
        base = ((y - self._labels[learned].mean()) ** 2).sum()
        residual = ((y - matrix[judged] @ factors) ** 2).sum()
        share = 1 - float(residual / base) if base > 0 else 0.0
        order = np.argsort(-np.abs(factors[:-1] * matrix[learned, :-1].std(axis=0)), kind="stable")
        factors = factors[:-1] / scale
        return ColumnSum(
            tuple(names[i] for i in order), tuple(float(factors[i]) for i in order), share, self._is_product
        )


def _standardize(values: Array) -> Array:
    """Return numbers of mean 0 and variance 1, 0 where one is missing; zeros if all are equal."""
    present = ~np.isnan(values)
    largest = float(np.abs(values[present]).max(initial=0.0))
    if not largest:
        return np.zeros(len(values))
    # The square of a large number is beyond float64.
    scaled = values / largest
    centred = np.where(present, scaled - scaled[present].mean(), 0.0)
    deviation = float(np.sqrt((centred**2).mean()))
    return centred / deviation if deviation > 1e-12 else np.zeros(len(values))
