"""A sample of rows that does not depend on the order or the batches in which they come. Imports no TensorFlow."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Numbers in memory: a row has one for each class of each model.
_MAX_NUMBERS = 1 << 24
_MAX_ROWS = 1 << 16

Array = NDArray[Any]


@dataclass
class RowSample:
    """The rows with the least IDs, which are hashes: a random sample. All rows, if they are at most `limit`.

    Attributes:
      rows: number of rows that it is a sample of.
      ids: IDs of the rows, uint64.
      columns: values of the rows by name, [rows, ...] each.
      limit: maximum number of rows; None for a limit by the size of the columns.
    """

    rows: int = 0
    ids: Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    columns: dict[str, Array] = field(default_factory=dict)
    limit: int | None = None

    @classmethod
    def from_rows(cls, ids: Array, columns: dict[str, Array], limit: int | None = None) -> "RowSample":
        """Return the sample of some rows."""
        return cls(len(ids), ids, columns, limit)._cut()

    def merge(self, other: "RowSample") -> "RowSample":
        """Return the sample of the rows of both."""
        if not other.rows or not self.rows:
            return self if self.rows else other
        columns = {name: np.concatenate([values, other.columns[name]]) for name, values in self.columns.items()}
        ids = np.concatenate([self.ids, other.ids])
        return RowSample(self.rows + other.rows, ids, columns, self.limit)._cut()

    def sort_rows(self) -> "RowSample":
        """Return the sample with its rows in the order of their IDs."""
        order = np.argsort(self.ids, kind="stable")
        columns = {name: values[order] for name, values in self.columns.items()}
        return RowSample(self.rows, self.ids[order], columns, self.limit)

    def _cut(self) -> "RowSample":
        numbers = sum(values[:1].size for values in self.columns.values())
        limit = min(_MAX_ROWS, _MAX_NUMBERS // max(numbers, 1)) if self.limit is None else self.limit
        if len(self.ids) > limit:
            least = np.sort(np.argpartition(self.ids, limit)[:limit])
            self.ids = self.ids[least]
            self.columns = {name: values[least] for name, values in self.columns.items()}
        return self
