"""Counts the rows that each split of a config will get, before the run. Imports no TensorFlow."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cli.errors import DataError
from components.example_gen.parts import Rules, assign_parts, select_rules
from components.example_gen.shares import assign_shares, compute_exact_sizes, compute_nominal_bounds
from schemas.data import MIN_DISTINCT_ROWS
from schemas.tables.row_hash import Hashes, points
from schemas.tables.typed_columns import Batch, Table


class SplitRows:
    """Counts rows by split as ExampleGen divides them.

    Args:
      rules: Parts and shares of all splits by name, in the order of the config.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._counts: Counter[str] = Counter()
        self._hashes: dict[str, list[Hashes]] = {}
        self._is_grouped = False

    def add(self, split: str, table: Table, batch: Batch) -> None:
        """Count a batch of the files of a split.

        Raises:
          DataError: A value cannot be compared with a part's bounds; names its place.
        """
        rules = select_rules(self._rules, split)
        parts, left = assign_parts(table, batch, rules)
        self._counts.update({name: int(np.count_nonzero(rows)) for name, rows in parts.items()})
        if any("fraction" in rule for rule in rules.values()):
            self._is_grouped = batch.groups is not None
            hashes = batch.group_hashes if self._is_grouped else batch.hashes
            self._hashes.setdefault(split, []).append(hashes[left])
        else:
            self._counts[split] += int(np.count_nonzero(left))

    def count_rows(self, splits: Sequence[str]) -> dict[str, int]:
        """Return the rows of each split.

        Args:
          splits: Names of all splits, in the order of the config.

        Raises:
          DataError: A split would have no rows.
        """
        counts = self._counts.copy()
        for split, hashes in self._hashes.items():
            counts.update(self._count_shares(split, np.concatenate(hashes)))
        rows = {name: counts[name] for name in splits}
        for name, count in rows.items():
            if not count:
                raise build_no_rows_error(name, rows)
        return rows

    def _count_shares(self, split: str, hashes: Hashes) -> dict[str, int]:
        """Return how many rows of a split each share gets, and how many stay."""
        fractions = {
            name: rule["fraction"] for name, rule in select_rules(self._rules, split).items() if "fraction" in rule
        }
        if self._is_grouped or len(np.unique(hashes)) >= MIN_DISTINCT_ROWS or len(hashes) <= len(fractions):
            shares = assign_shares(
                points(hashes), np.ones(len(hashes), dtype=bool), split, compute_nominal_bounds(fractions)
            )
            return {name: int(np.count_nonzero(rows)) for name, rows in shares.items()}
        sizes = compute_exact_sizes(len(hashes), list(fractions.values()))
        return {**dict(zip(fractions, sizes, strict=True)), split: len(hashes) - sum(sizes)}


def build_no_rows_error(split: str, rows: dict[str, int]) -> DataError:
    """Return the error for a split without rows.

    Args:
      split: Name of the split.
      rows: Rows of all splits.
    """
    counts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    return DataError(
        f"split '{split}' would have no rows; found {counts}. Give it more files, a larger share, or a part "
        f"(data.splits.{split}: values, at_least, below) that its column has"
    )
