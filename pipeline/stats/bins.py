"""Bars of a column of numbers: the bins over all splits, and how many values of each split are in each.

A column of few different values has a bar for each value. Other columns have bins of equal width. Values far beyond the
bulk have bins of their own at the ends: an outlier would leave one bar of all others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from components.value_counts import ValueCounts

BINS = 24
# The bulk is between these quantiles. Values beyond have bins of their own where they stretch it that many times.
_BULK, _MAX_STRETCH = (0.01, 0.99), 10
# Units of the picture: its width, and the mean width of a character in a label.
PICTURE_WIDTH, _CHARACTER_WIDTH = 426, 6.4
MAX_SHOWN_IN_FULL = 1e15
Writer = Callable[[float], str]


@dataclass(frozen=True)
class Tick:
    """A text below the bars.

    Attributes:
      at: place, from 0 for the left end to 1 for the right.
      text: value or edge.
      anchor: SVG's text-anchor.
    """

    at: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Bins:
    """Bars of one column.

    Attributes:
      labels: name of each bar.
      ticks: texts below the bars.
      counts: number of values of each split in each bar.
      are_exact: whether the numbers are true; else they are estimates.
    """

    labels: list[str]
    ticks: list[Tick]
    counts: list[list[float]]
    are_exact: bool


@dataclass(frozen=True)
class _Range:
    """Where bins are: the finite values that are drawn at scale."""

    low: float
    high: float
    is_whole: bool


def build_bins(counts: Sequence[ValueCounts], *, are_true: bool, write: Writer | None = None) -> Bins:
    """Return the bars of a column.

    Args:
      counts: values of each split.
      are_true: whether they were counted; else they are TFDV's estimates.
      write: text of a value; if omitted, `format_number`.
    """
    write = write or format_number
    present = [split for split in counts if len(split.count)]
    if not present:
        return Bins([], [], [[] for _ in counts], are_exact=True)
    different = _list_distinct(present) if are_true else None
    if different is not None:
        return _count_values(counts, different, write)
    finite = [split for split in (split.finite for split in present) if len(split.count)]
    if not finite:
        return Bins([], [], [[] for _ in counts], are_exact=True)
    return _count_ranges(counts, _choose_range(finite), write, are_true=are_true)


def _list_distinct(counts: Sequence[ValueCounts]) -> NDArray[np.float64] | None:
    """Return the values that have a bar each; None if they are too many, or not known one by one."""
    if not all(split.is_exact for split in counts):
        return None
    values = np.unique(np.concatenate([split.low for split in counts]))
    if _are_whole(values) and np.isfinite(values).all() and values[-1] - values[0] < BINS:
        # With those between that do not occur.
        return np.arange(values[0], values[-1] + 1)
    return values if len(values) <= BINS else None


def _count_values(counts: Sequence[ValueCounts], values: NDArray[np.float64], write: Writer) -> Bins:
    labels = [write(value) for value in values.tolist()]
    in_each = []
    for split in counts:
        count_of = dict(zip(split.low.tolist(), split.count.tolist(), strict=True))
        in_each.append([count_of.get(value, 0.0) for value in values.tolist()])
    return Bins(labels, _choose_ticks(labels), in_each, are_exact=True)


def _choose_ticks(labels: Sequence[str]) -> list[Tick]:
    """Return a tick for each bar, or for every second or third, as there is space."""
    slot, widest = PICTURE_WIDTH / len(labels), max(map(len, labels)) * _CHARACTER_WIDTH
    step = math.ceil(1.5 * widest / slot) if widest > slot else 1
    ticks = []
    for n in range(0, len(labels), step):
        at, half = (n + 0.5) / len(labels), len(labels[n]) * _CHARACTER_WIDTH / 2 / PICTURE_WIDTH
        # A label at an end is not cut off.
        place = (0.0, "start") if at < half else (1.0, "end") if at > 1 - half else (at, "middle")
        ticks.append(Tick(place[0], labels[n], place[1]))
    return ticks


def _choose_range(finite: Sequence[ValueCounts]) -> _Range:
    """Return the range that bins cover: all values, or the bulk where outliers would hide it."""
    low, high = min(float(split.low[0]) for split in finite), max(float(split.high[-1]) for split in finite)
    bulk_low = min(split.find_quantile(_BULK[0]) for split in finite)
    bulk_high = max(split.find_quantile(_BULK[1]) for split in finite)
    # Halves, for the difference of two finite numbers may be none.
    spread = bulk_high / 2 - bulk_low / 2
    if 0 < _MAX_STRETCH * spread < high / 2 - low / 2:
        low, high = max(low, bulk_low - 2 * spread), min(high, bulk_high + 2 * spread)
    return _Range(low, high, all(_are_whole(split.low) and _are_whole(split.high) for split in finite))


def _count_ranges(counts: Sequence[ValueCounts], drawn: _Range, write: Writer, *, are_true: bool) -> Bins:
    edges, labels, ends = _compute_whole_edges(drawn, write) if drawn.is_whole else _compute_edges(drawn)
    tables, are_exact = [], are_true
    for split in counts:
        at = split.count_up_to(edges)
        are_exact = are_exact and split.is_exact_at(edges)
        # Whole numbers of values that add up to all.
        at = np.rint(at) if are_true else at
        tables.append([at[0], *np.diff(at), split.total - at[-1]])
    labels = [f"below {ends[0]}", *labels, f"above {ends[1]}"]
    has_below, has_above = (any(table[end] > 0 for table in tables) for end in (0, -1))
    inner = slice(0 if has_below else 1, None if has_above else -1)
    left, right = labels[0] if has_below else ends[0], labels[-1] if has_above else ends[1]
    ticks = [Tick(0, left, "start"), Tick(1, right, "end")]
    return Bins(labels[inner], ticks, [[float(n) for n in table[inner]] for table in tables], are_exact)


def _compute_edges(drawn: _Range) -> tuple[NDArray[np.float64], list[str], tuple[str, str]]:
    """Return the edges, the names of the bins between, and the names of both ends; an edge is in the bin below."""
    parts = np.linspace(0, 1, BINS + 1)
    edges = drawn.low * (1 - parts) + drawn.high * parts
    widest, step = np.abs(edges).max(), drawn.high / BINS - drawn.low / BINS
    # So many that two edges differ.
    digits = min(max(math.ceil(math.log10(widest / step)) + 2, 4), 17) if step else 6
    names = [_format_edge(edge, digits) for edge in edges.tolist()]
    labels = [f"{low} to {high}" for low, high in pairwise(names)]
    # The smallest value is in the first bin.
    edges[0] = np.nextafter(edges[0], -np.inf)
    return edges, labels, (names[0], names[-1])


def _compute_whole_edges(drawn: _Range, write: Writer) -> tuple[NDArray[np.float64], list[str], tuple[str, str]]:
    """Return edges like `_compute_edges`, with equally many whole numbers in each bin."""
    low, high = math.ceil(drawn.low), math.floor(drawn.high)
    width = -(-(high - low + 1) // BINS)
    starts = range(low, high + 1, width)
    ends = [min(start + width - 1, high) for start in starts]
    labels = [write(a) if a == b else f"{write(a)} to {write(b)}" for a, b in zip(starts, ends, strict=True)]
    edges = np.array([np.nextafter(float(low), -np.inf), *map(float, ends)])
    return edges, labels, (write(low), write(high))


def _are_whole(values: NDArray[np.float64]) -> bool:
    return bool((np.floor(values) == values).all())


def format_number(value: float) -> str:
    """Return a value of the data as text: whole numbers in full, others rounded."""
    if abs(value) < MAX_SHOWN_IN_FULL:
        if float(value).is_integer():
            return f"{value:,.0f}"
        if abs(value) >= 1000:
            return f"{value:,.1f}"
    return f"{value:.4g}"


def _format_edge(value: float, digits: int) -> str:
    return f"{value:,.{digits}g}"
