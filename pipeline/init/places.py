"""Places of rows in the files of a table, for notes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from schemas.tables.readers import Reader


@dataclass(frozen=True)
class Places:
    """Where each row of a table is.

    Attributes:
      readers: Readers of the files.
      files: Index of each row's reader; [n].
      numbers: Number of each row in its file, from 1; [n].
    """

    readers: Sequence[Reader]
    files: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @classmethod
    def from_parts(cls, parts: Sequence[tuple[Reader, NDArray[np.int64]]]) -> "Places":
        """Return the places of rows that were read one part after the other, each with its reader."""
        files = np.repeat(np.arange(len(parts)), [len(numbers) for _, numbers in parts])
        return cls([reader for reader, _ in parts], files, np.concatenate([numbers for _, numbers in parts]))

    def filter(self, rows: NDArray[np.bool_]) -> "Places":
        """Return the places of some rows only."""
        return replace(self, files=self.files[rows], numbers=self.numbers[rows])

    def describe(self, row: int) -> str:
        """Return the place of a row as a user finds it: `file:line` or `file: row 5`."""
        reader, number = self.readers[self.files[row]], int(self.numbers[row])
        return str(reader.places([number])[number])
