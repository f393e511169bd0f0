"""Decides how the rows of a split are shared out: equal rows together, or spread where few rows differ.

Equal rows (in all features) fall into one share, so that no split holds copies of another's rows. A table with fewer
than 1,000 distinct rows cannot be divided so: the most frequent rows would decide how large a split is, and what is in
it. There the number of a row among its equals is hashed too, and the shares are exact, with at least a row each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cli.errors import DataError
from components.example_gen.parts import Rules, assign_parts
from schemas.data import MIN_DISTINCT_ROWS
from schemas.tables.row_hash import Hashes, points
from schemas.tables.typed_columns import Table

# Up to so many spread rows, shares are exact; above, chance is as good, and the points of all rows take no memory.
_EXACT_ROWS = 1 << 20
_POINTS = 1 << 64


@dataclass(frozen=True)
class Shares:
    """How the rows read for one split are shared out.

    Attributes:
      bounds: by share, in the order of the config, the point below which rows that no share before it took are in it.
      rows: hashes of the distinct rows, ascending, where copies are spread; None where they stay together.
      before: by shard, how often each of `rows` occurs before it.
    """

    bounds: dict[str, int]
    rows: list[int] | None = None
    before: dict[str, list[int]] | None = None

    @property
    def are_spread(self) -> bool:
        return self.rows is not None

    def build_occurrences(self, shard: str) -> "Occurrences | None":
        """Return what numbers the rows of a shard among those that are equal; None where copies stay together."""
        if self.rows is None or self.before is None:
            return None
        return Occurrences(np.array(self.rows, np.uint64), np.array(self.before[shard], np.int64))


class Occurrences:
    """Numbers rows among those that are equal to them, batch by batch in file order."""

    def __init__(self, rows: Hashes, before: NDArray[np.int64]) -> None:
        self._rows, self._seen = rows, before

    def assign_numbers(self, hashes: Hashes, left: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the number of each row, [n]; those that are not `left` to be shared out do not count, and have 0."""
        numbers = np.zeros(len(hashes), np.int64)
        kinds = np.searchsorted(self._rows, hashes[left])
        order = np.argsort(kinds, kind="stable")
        counts = np.bincount(kinds, minlength=len(self._seen))
        firsts = np.cumsum(counts) - counts
        ranks = np.empty(len(kinds), np.int64)
        ranks[order] = np.arange(len(kinds)) - firsts[kinds[order]]
        numbers[left] = self._seen[kinds] + ranks
        self._seen = self._seen + counts
        return numbers


def decide_shares(
    rules: Rules, *, grouped: bool, whole: Iterable[Table], pieces: Callable[[], Iterator[tuple[str, Table]]]
) -> Shares:
    """Decide how the rows of a split are shared out; reads no more of them than it takes to find 1,000 distinct ones.

    Args:
      rules: parts and shares of the split by name, in the order of the config.
      grouped: whether rows are shared out by their groups.
      whole: files of the split.
      pieces: function that yields the shards of the split in order, and what is read for each.
    """
    fractions = {name: rule["fraction"] for name, rule in rules.items() if "fraction" in rule}
    nominal = Shares(compute_nominal_bounds(fractions))
    if not fractions or grouped:
        return nominal
    try:
        if len(_count_rows(whole, rules)) >= MIN_DISTINCT_ROWS:
            return nominal
        counts = {shard: _count_rows([table], rules) for shard, table in pieces()}
    except DataError:
        # Whoever converts the file raises it again, together with the errors of other files.
        return nominal
    total = sum(counts.values(), Counter())
    rows = sorted(total)
    before, seen = {}, np.zeros(len(rows), np.int64)
    for shard, some in counts.items():
        before[shard] = seen.tolist()
        seen = seen + np.array([some[row] for row in rows], np.int64)
    exact = _compute_exact_bounds(np.array(rows, np.uint64), seen, list(fractions.values()))
    return Shares(dict(zip(fractions, exact, strict=True)), rows, before)


def _count_rows(tables: Iterable[Table], rules: Rules) -> Counter[int]:
    """Count each row that is left to be shared out; end once there are enough distinct ones."""
    counts: Counter[int] = Counter()
    for table in tables:
        for batch in table.batches():
            _, left = assign_parts(table, batch, rules)
            rows, times = np.unique(batch.hashes[left], return_counts=True)
            counts.update(dict(zip(rows.tolist(), times.tolist(), strict=True)))
            if len(counts) >= MIN_DISTINCT_ROWS:
                return counts
    return counts


def _scale_fractions(fractions: Sequence[float]) -> list[int]:
    return [int(share * _POINTS) for share in np.cumsum(fractions).tolist()]


def _compute_exact_bounds(rows: Hashes, times: NDArray[np.int64], fractions: Sequence[float]) -> list[int]:
    """Return bounds between which as many rows lie as each share asks for.

    At least one row lies between two bounds if there are enough rows.
    """
    total = int(times.sum())
    if total > _EXACT_ROWS or total <= len(fractions):
        return _scale_fractions(fractions)
    sizes = compute_exact_sizes(total, fractions)
    numbers = np.arange(total) - np.repeat(np.cumsum(times) - times, times)
    ordered = np.sort(points(np.repeat(rows, times), numbers))
    return [int(ordered[size]) for size in np.cumsum(sizes)]


def compute_exact_sizes(total: int, fractions: Sequence[float]) -> list[int]:
    """Return how many rows each share gets where copies are spread: at least one, if there are enough rows."""
    sizes = [max(1, round(share * total)) for share in fractions]
    while sum(sizes) >= total:
        sizes[int(np.argmax(sizes))] -= 1
    return sizes


def compute_nominal_bounds(fractions: Mapping[str, float]) -> dict[str, int]:
    """Return by share the point below which its rows lie where equal rows stay together, or a group does."""
    return dict(zip(fractions, _scale_fractions(list(fractions.values())), strict=True))


def assign_shares(
    row_points: Hashes, left: NDArray[np.bool_], split: str, bounds: Mapping[str, int]
) -> dict[str, NDArray[np.bool_]]:
    """Return for each share whether a row is in it, [n], and for `split` whether it is in none.

    Args:
      row_points: points of the rows, [n].
      left: whether a row is shared out, [n].
      split: split whose rows they are.
      bounds: by share, the point below which rows that no share before it took are in it.
    """
    share = np.searchsorted(np.array([*bounds.values()], np.uint64), row_points, side="right")
    return {name: left & (share == number) for number, name in enumerate([*bounds, split])}
