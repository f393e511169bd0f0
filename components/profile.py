"""What the columns of a table are like, and how much each of them says about the label. Imports no TensorFlow.

`python -m pipeline init` chooses kinds of features from it; preflight looks for leaks and for dates among the features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.numbers import equal_in_float32, whole_numbers

_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_INTEGER = r"^\s*[+-]?\d{1,18}(\.0+)?\s*$"
# ISO 8601 with or without a time, day/month/year in any order, and 20131231.
_DATE = (
    r"^\s*((19|20)\d\d[-/.](0?[1-9]|1[0-2])[-/.](0?[1-9]|[12]\d|3[01])([T ]\d\d?:\d\d.*)?"
    r"|(0?[1-9]|[12]\d|3[01])[-/.](0?[1-9]|[12]\d|3[01])[-/.](19|20)\d\d([T ]\d\d?:\d\d.*)?"
    r"|(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))\s*$"
)
_MOSTLY = 0.95
_BINS = 64
# Rows of the overall distribution that each value of a column is believed to have besides its own.
_PRIOR_ROWS = 5.0

Array = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """One column of a table: its texts, null where a value is missing."""

    name: str
    texts: pa.Array

    @cached_property
    def _counted(self) -> tuple[pa.Array, Array]:
        """The distinct values, the most frequent first, and how often each is there."""
        counted = pc.value_counts(self.texts.drop_null())
        counts = counted.field("counts").to_numpy(zero_copy_only=False)
        order = np.argsort(-counts, kind="stable")
        return counted.field("values").take(pa.array(order)), counts[order]

    @property
    def rows(self) -> int:
        return len(self.texts)

    @property
    def present(self) -> int:
        return len(self.texts) - int(self.texts.null_count)

    @property
    def missing_share(self) -> float:
        return float(self.texts.null_count) / max(len(self.texts), 1)

    @property
    def distinct(self) -> int:
        """How many different values there are."""
        return len(self._counted[0])

    @property
    def values(self) -> list[tuple[str, int]]:
        """(value, rows), the most frequent first."""
        return list(zip(self._counted[0].to_pylist(), self._counted[1].tolist(), strict=True))

    def _share(self, pattern: str) -> float:
        """The share of the rows that have a value which matches."""
        values, counts = self._counted
        matches = pc.match_substring_regex(values, pattern).to_numpy(zero_copy_only=False)
        return float(counts[matches.astype(bool)].sum()) / max(self.present, 1)

    @cached_property
    def number_share(self) -> float:
        """The share of the values that are numbers."""
        return self._share(_NUMBER)

    @cached_property
    def is_number(self) -> bool:
        return self.present > 0 and self.number_share == 1

    @cached_property
    def is_integer(self) -> bool:
        return self.present > 0 and self._share(_INTEGER) == 1

    @cached_property
    def collapsed(self) -> tuple[int, ...]:
        """Two whole numbers that are one in float32; empty if there are none."""
        return equal_in_float32(whole_numbers(self._counted[0])) if self.is_integer else ()

    @cached_property
    def is_date(self) -> bool:
        """Whether nearly all values are written as dates."""
        return self.present > 0 and self._share(_DATE) >= _MOSTLY

    @cached_property
    def not_numbers(self) -> list[str]:
        """The distinct values that are no numbers, if some others are."""
        values, _ = self._counted
        if not len(values):
            return []
        is_number = pc.match_substring_regex(values, _NUMBER)
        return values.filter(pc.invert(is_number)).to_pylist() if pc.any(is_number).as_py() else []

    @cached_property
    def numbers(self) -> Array:
        """The values as float64, NaN where one is missing; only of a column that `is_number`."""
        return np.asarray(pc.cast(pc.utf8_trim_whitespace(self.texts), pa.float64()).to_numpy(zero_copy_only=False))

    def quantile(self, share: float) -> float:
        return float(np.nanquantile(self.numbers, share))

    @property
    def zero_share(self) -> float:
        """Of the values that are there."""
        return float((self.numbers == 0).sum()) / max(self.present, 1)

    @cached_property
    def ids(self) -> Array:
        """A number for each row's value, in `[0, n)`: numbers by quantile, texts each; one for what is missing."""
        if self.is_number and self.distinct > _BINS:
            edges = np.unique(np.nanquantile(self.numbers, np.linspace(0, 1, _BINS + 1)[1:-1]))
            found = np.searchsorted(edges, self.numbers, side="right") + 1
            return np.where(np.isnan(self.numbers), 0, found)
        encoded = pc.fill_null(pc.add(self.texts.dictionary_encode().indices, 1), 0)
        return np.asarray(encoded.to_numpy(zero_copy_only=False), dtype=np.int64)


@dataclass(frozen=True)
class Target:
    """The label of each row, as something that can be explained: class ids, or numbers.

    Attributes:
      labels: int64 in `[0, classes)`, or float64.
      classes: how many there are; 0 for numbers.
    """

    labels: Array
    classes: int

    def explained(self, ids: Array, *, seed: int = 0) -> float:
        """How much of the label a column explains, from 0 to 1; measured on other rows than those it is learned from.

        For classes, the share of the label's entropy (the uncertainty coefficient; Theil 1970, "On the Estimation of
        Relationships Involving Qualitative Variables"); for numbers the share of its variance (R squared). A column of
        ids explains nothing: their values are not seen again.

        Args:
          ids: a number in `[0, n)` for each row.
          seed: of the two halves.
        """
        first = np.random.default_rng(seed).random(len(ids)) < 0.5
        if not first.any() or first.all():
            return 0.0
        shares = [self._explained(ids, half) for half in (first, ~first)]
        return max(0.0, float(np.mean(shares)))

    def _explained(self, ids: Array, learned: Array) -> float:
        size = int(ids.max()) + 1
        seen, judged = ids[learned], ids[~learned]
        if self.classes:
            prior = (np.bincount(self.labels[learned], minlength=self.classes) + 1) / (learned.sum() + self.classes)
            joint = np.bincount(seen * self.classes + self.labels[learned], minlength=size * self.classes)
            counts = joint.reshape(size, self.classes) + _PRIOR_ROWS * prior
            likely = counts / counts.sum(axis=1, keepdims=True)
            found = -np.log(likely[judged, self.labels[~learned]]).mean()
            base = -np.log(prior[self.labels[~learned]]).mean()
        else:
            prior = self.labels[learned].mean()
            sums = np.bincount(seen, self.labels[learned], minlength=size) + _PRIOR_ROWS * prior
            means = sums / (np.bincount(seen, minlength=size) + _PRIOR_ROWS)
            found = ((self.labels[~learned] - means[judged]) ** 2).mean()
            base = ((self.labels[~learned] - prior) ** 2).mean()
        return 1 - float(found / base) if base > 0 else 0.0


def target(labels: Column, classes: Sequence[str]) -> Target:
    """The target of a column of labels, none of which is missing."""
    if not classes:
        return Target(labels.numbers, 0)
    ids = pc.index_in(labels.texts, pa.array(list(classes)))
    return Target(np.asarray(ids.to_numpy(zero_copy_only=False), dtype=np.int64), len(classes))


def crossed(one: Array, other: Array) -> Array:
    """The ids of the pairs of two columns' ids."""
    _, ids = np.unique(one * (int(other.max()) + 1) + other, return_inverse=True)
    return ids
