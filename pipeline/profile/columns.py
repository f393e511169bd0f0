"""Profile of the columns of a table. Imports no TensorFlow.

`python -m pipeline init` chooses kinds of features from it; preflight looks for leaks and for dates among the features.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.profile.time_forms import TimeForm, find_number_form, find_text_form
from schemas.tables.number_format import PLAIN_NUMBER
from schemas.tables.precision import equal_in_float32, whole_numbers

_NUMBER = rf"^\s*{PLAIN_NUMBER}\s*$"
_INTEGER = r"^\s*[+-]?\d{1,18}(\.0+)?\s*$"
_BINS = 64
# In small tables: at least so many bins, of so many rows.
_MIN_BINS, _ROWS_OF_COARSE_BIN = 8, 20
# A quantile of the different values for so many of the rows: large values that are rare get bins of their own.
_BINS_OF_TAIL_BIN = 4
_MIN_BIN_ROWS = 5
# Skewness is measured without so much at each end, so that a few wrong values do not decide.
_TRIMMED_SHARE = 0.001
_MIN_SPREAD, _SKEWNESS_ROWS = 1e-12, 100_000

Array = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """One column of a table: its texts, null where a value is missing."""

    name: str
    texts: pa.Array

    @cached_property
    def _dictionary(self) -> pa.DictionaryArray:
        return self.texts.dictionary_encode()

    @cached_property
    def _value_counts(self) -> tuple[pa.Array, Array]:
        """The distinct values, the most frequent first, and how often each occurs."""
        counts = np.bincount(self.codes, minlength=len(self._dictionary.dictionary) + 1)[1:]
        order = np.argsort(-counts, kind="stable")
        return self._dictionary.dictionary.take(pa.array(order)), counts[order]

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
        return len(self._value_counts[0])

    @property
    def values(self) -> list[tuple[str, int]]:
        """(value, rows), the most frequent first."""
        return list(zip(self._value_counts[0].to_pylist(), self._value_counts[1].tolist(), strict=True))

    def compute_share(self, pattern: str) -> float:
        """Return the share of the values that match a regular expression."""
        values, counts = self._value_counts
        matches = pc.match_substring_regex(values, pattern).to_numpy(zero_copy_only=False)
        return float(counts[matches.astype(bool)].sum()) / max(self.present, 1)

    @cached_property
    def number_share(self) -> float:
        """The share of the values that are numbers."""
        return self.compute_share(_NUMBER)

    @cached_property
    def is_number(self) -> bool:
        return self.present > 0 and self.number_share == 1

    @cached_property
    def is_integer(self) -> bool:
        return self.present > 0 and self.compute_share(_INTEGER) == 1

    @cached_property
    def collapsed_pair(self) -> tuple[int, ...]:
        """Two whole numbers that are one in float32; empty if there are none."""
        return equal_in_float32(whole_numbers(self._value_counts[0])) if self.is_integer else ()

    @cached_property
    def distinct_in_float32(self) -> int:
        """How many different values there are in float32, whose least ones TensorFlow takes for 0; of numbers only."""
        with np.errstate(over="ignore", under="ignore"):
            numbers = self.numbers[~np.isnan(self.numbers)].astype(np.float32)
        return len(np.unique(np.where(np.abs(numbers) < np.finfo(np.float32).tiny, np.float32(0), numbers)))

    @property
    def is_repeated_number(self) -> bool:
        """Whether these are whole numbers with several rows each, too many for a bin each."""
        return self.is_integer and _BINS < self.distinct <= self.present / _MIN_BIN_ROWS

    @cached_property
    def time_form(self) -> TimeForm | None:
        """How the values write times; None if they are no times."""
        values, counts = self._value_counts
        if self.is_number:
            numbers = pc.cast(pc.utf8_trim_whitespace(values), pa.float64()).to_numpy(zero_copy_only=False)
            return find_number_form(self.name, numbers, counts)
        return find_text_form(values, counts)

    @property
    def is_date(self) -> bool:
        """Whether the values are dates or times that do not come again."""
        return self.time_form is not None and not self.time_form.comes_again

    @cached_property
    def not_numbers(self) -> list[str]:
        """The distinct values that are no numbers, if some others are."""
        values, _ = self._value_counts
        if not len(values):
            return []
        is_number = pc.match_substring_regex(values, _NUMBER)
        return values.filter(pc.invert(is_number)).to_pylist() if pc.any(is_number).as_py() else []

    @cached_property
    def numbers(self) -> Array:
        """The values as float64, NaN where one is missing; only of a column that `is_number`."""
        return np.asarray(pc.cast(pc.utf8_trim_whitespace(self.texts), pa.float64()).to_numpy(zero_copy_only=False))

    def compute_quantile(self, share: float) -> float:
        """Return the number that a share of the numbers is not above; 0 and 1 are the least and the greatest."""
        if share in (0, 1):
            return float(np.nanmax(self.numbers) if share else np.nanmin(self.numbers))
        return float(np.nanquantile(self.numbers, share))

    @property
    def zero_share(self) -> float:
        """Share of zeros among the values that are not missing."""
        return float((self.numbers == 0).sum()) / max(self.present, 1)

    def compute_skewness(self, *, of_logs: bool = False) -> float:
        """Return the moment skewness of the numbers that are not zero: zero is often no amount.

        Args:
          of_logs: Whether that of sign(x) * log(1 + |x|), as `log_z_score` takes them.
        """
        numbers = self.numbers[~np.isnan(self.numbers) & (self.numbers != 0)]
        if not len(numbers):
            return 0.0
        numbers = numbers[:: max(1, len(numbers) // _SKEWNESS_ROWS)]
        numbers = np.clip(numbers, *np.quantile(numbers, [_TRIMMED_SHARE, 1 - _TRIMMED_SHARE]))
        if of_logs:
            numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
        # The cube of a large number is beyond float64.
        numbers = numbers / np.abs(numbers).max()
        centred = numbers - numbers.mean()
        deviation = float(np.sqrt((centred**2).mean()))
        # Differences of rounding are no spread.
        if deviation <= _MIN_SPREAD:
            return 0.0
        return float(((centred / deviation) ** 3).mean())

    @cached_property
    def codes(self) -> Array:
        """A number for each row's value, in `[0, n)`, as int64; 0 for a missing one."""
        encoded = pc.fill_null(pc.add(self._dictionary.indices, 1), 0)
        return np.asarray(encoded.to_numpy(zero_copy_only=False), dtype=np.int64)

    @cached_property
    def ids(self) -> Array:
        """A number for each row's value, in `[0, n)`: numbers by quantile, texts each, and one for what is missing."""
        return self._assign_bins(_BINS) if self.is_number else self.codes

    @cached_property
    def coarse_ids(self) -> Array | None:
        """The same with fewer bins, for numbers in so few rows that a bin has hardly any; None if that is not so."""
        bins = max(_MIN_BINS, self.present // _ROWS_OF_COARSE_BIN)
        return self._assign_bins(bins) if self.is_number and bins < min(_BINS, self.distinct) else None

    def _assign_bins(self, bins: int) -> Array:
        bin_ids = np.searchsorted(self._compute_edges(bins), self.numbers, side="right") + 1
        return np.where(np.isnan(self.numbers), 0, bin_ids)

    def _compute_edges(self, bins: int) -> Array:
        """Return the least number of each bin but the first."""
        present = np.sort(self.numbers[~np.isnan(self.numbers)])
        different = present[np.flatnonzero(np.diff(present, prepend=-np.inf))]
        if len(different) <= bins:
            return _merge_edges(different[1:], present)
        edges, repeats = np.unique(present[_find_cuts(len(present), bins)], return_counts=True)
        # A value of many rows is alone in its bin.
        after = np.nextafter(edges[repeats > 1], np.inf)
        tail = different[_find_cuts(len(different), bins // _BINS_OF_TAIL_BIN)]
        return _merge_edges(np.unique(np.concatenate([edges, after, tail])), present)


def _find_cuts(size: int, parts: int) -> Array:
    """Return the places that divide a sorted array into parts of equal size."""
    return np.linspace(0, size - 1, parts + 1).astype(np.int64)[1:-1]


def _merge_edges(edges: Array, present: Array) -> Array:
    """Return the edges of bins, without those of bins that have few rows."""
    starts = np.searchsorted(present, edges, side="left").tolist()
    edges_apart, last = [], 0
    for edge, start in zip(edges.tolist(), starts, strict=True):
        if min(start - last, len(present) - start) >= _MIN_BIN_ROWS:
            edges_apart.append(edge)
            last = start
    return np.array(edges_apart)
