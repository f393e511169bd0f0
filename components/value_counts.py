"""Counts of numbers in bounded memory, exact for a column of few different values. Imports no TensorFlow.

A bin holds all values that share their leading bits: sign, exponent and the first bits of the fraction, as in HDR
Histogram (https://hdrhistogram.org). Every bin keeps its smallest and largest value and its exact number of values.
Where there are more bins than allowed, a bit less is compared, until there are not. The result depends neither on the
order of the values nor on how they were spread over shards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# More would merge values of different sign or infinity with numbers; float32 and int64 never need them.
_MAX_DROPPED_BITS = 52


@dataclass(frozen=True)
class ValueCounts:
    """Counts of values in bins.

    Attributes:
      low: smallest value of each bin, ascending.
      high: largest value of each bin; equal to `low` where a bin holds one value.
      count: number of values of each bin.
      dropped_bits: number of trailing bits that are not compared; 0 where every value has a bin of its own.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.float64]
    dropped_bits: int = 0

    @property
    def total(self) -> float:
        return float(self.count.sum())

    @property
    def is_exact(self) -> bool:
        """Whether every bin holds one value."""
        return bool((self.low == self.high).all())

    @property
    def finite(self) -> "ValueCounts":
        is_finite = np.isfinite(self.low) & np.isfinite(self.high)
        return ValueCounts(self.low[is_finite], self.high[is_finite], self.count[is_finite], self.dropped_bits)

    def find_quantile(self, share: float) -> float:
        """Return a value that at least `share` of the values do not exceed; NaN without any value.

        It is the smallest one where every bin holds one value: definition 1 of Hyndman and Fan (1996), "Sample
        Quantiles in Statistical Packages", The American Statistician 50(4). Else it is the largest value of the bin
        that holds the smallest one.
        """
        if not len(self.count):
            return float("nan")
        rank = np.ceil(share * self.total * (1 - 1e-12))
        at = np.searchsorted(np.cumsum(self.count), max(rank, 1.0))
        return float(self.high[min(at, len(self.high) - 1)])

    def count_up_to(self, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number of values that are at most each of `values`, interpolated inside a bin."""
        at = np.asarray(values, dtype=np.float64)
        if not len(self.count):
            return np.zeros(len(at))
        index, is_inside = self._find_bins(at)
        low, high, count = self.low[index], self.high[index], self.count[index]
        # One value is at each end of a bin.
        end = np.minimum(1.0, count / 2)
        # Halves, for the difference of two finite numbers may be none; outside, some are infinite.
        with np.errstate(invalid="ignore"):
            width = np.where(is_inside, high / 2 - low / 2, 1.0)
            part = end + (count - 2 * end) * (at / 2 - low / 2) / width
        complete = np.concatenate([[0.0], np.cumsum(self.count)])[np.searchsorted(self.high, at, side="right")]
        return complete + np.where(is_inside, part, 0.0)

    def is_exact_at(self, values: Sequence[float] | NDArray[np.float64]) -> bool:
        """Return whether `count_up_to` interpolates at none of `values`."""
        if not len(self.count):
            return True
        index, is_inside = self._find_bins(np.asarray(values, dtype=np.float64))
        return not bool((is_inside & (self.count[index] > 2)).any())

    def _find_bins(self, at: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return for each number the first bin that ends above it, and whether the number is inside that bin."""
        index = np.searchsorted(self.high, at, side="right")
        is_last = index == len(self.high)
        index = np.where(is_last, len(self.high) - 1, index)
        return index, ~is_last & (self.low[index] <= at)


def create_empty() -> ValueCounts:
    """Return the counts of no values."""
    return ValueCounts(np.empty(0), np.empty(0), np.empty(0))


def count_values(values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64]) -> ValueCounts:
    """Return the exact counts of numbers; NaN is not counted."""
    if values.dtype.kind == "f":
        values = values[~np.isnan(values)]
    different, count = np.unique(values, return_counts=True)
    # -0.0 and 0.0 are one value, and so they shall be in all their bits.
    exact = different.astype(np.float64) + 0.0
    return ValueCounts(exact, exact, count.astype(np.float64))


def merge(parts: Iterable[ValueCounts], max_bins: int) -> ValueCounts:
    """Return the counts of all parts together in at most `max_bins` bins, the finest that there can be."""
    parts = list(parts)
    low, high, count = (np.concatenate([getattr(part, name) for part in parts]) for name in ("low", "high", "count"))
    # Parts are ascending, and merging ascending runs is what the stable sort is fast at.
    order = np.argsort(low, kind="stable")
    low, high, count = low[order], high[order], count[order]
    differing = _count_differing_bits(low)
    dropped = max((part.dropped_bits for part in parts), default=0)
    bins = 1 + (len(differing) - np.cumsum(np.bincount(differing, minlength=_MAX_DROPPED_BITS + 1)))
    while dropped < _MAX_DROPPED_BITS and bins[dropped] > max_bins:
        dropped += 1
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(low), 1), dtype=bool), differing > dropped]))
    if len(starts) == len(low):
        return ValueCounts(low, high, count, dropped)
    return ValueCounts(low[starts], np.maximum.reduceat(high, starts), np.add.reduceat(count, starts), dropped)


def _count_differing_bits(ascending: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each number but the first how many bits must be dropped to make it equal to the one before."""
    bits = ascending.view(np.uint64)
    # The length of a number up to 2**53 is its exponent as a float; beyond it, any length is more than can be dropped.
    return np.frexp((bits[1:] ^ bits[:-1]).astype(np.float64))[1].astype(np.intp)
