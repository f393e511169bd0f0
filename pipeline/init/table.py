"""Reads a table as columns of strings, and finds what stands for a missing value."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.profile import Column
from pipeline.init.source import Source, data_files, no_header_hint
from schemas.errors import DataError
from schemas.readers import open_table
from schemas.values import as_missing

ROWS_READ = 1_000_000
# What often stands for a missing value: among numbers, and anywhere.
_MISSING_NUMBERS = ("NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none", "?", "-", ".", "\\N", "#N/A")
_NAN_SPELLINGS = ("NaN", "nan")
_MISSING_ANYWHERE = ("?", "NA", "N/A", "NULL", "null", "NaN", "nan", "\\N", "#N/A")
# A column with more numbers than this is one of numbers; the rows with other texts are bad rows.
_MOSTLY_NUMBERS = 0.99
_MAX_VOCABULARY = 5_000


class RawTable:
    """All columns of the files, as texts; what stands for a missing value is found out."""

    def __init__(self, source: Source, label: str) -> None:
        files = [*data_files(source.base, source.train), *(data_files(source.base, source.test) if source.test else [])]
        batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.ragged = 0
        for path in files:
            reader = open_table(path, source.format, source.csv)
            for texts in reader.batches():
                batches.append(_with_nulls(texts.columns))
                self.rows += texts.columns.num_rows
                if self.rows >= ROWS_READ:
                    break
            self.ragged += len(reader.ragged)
        if not self.rows:
            raise DataError(f"{source.base / source.train}: holds no rows")
        self.complete = self.rows < ROWS_READ
        names = list(dict.fromkeys(name for batch in batches for name in batch.schema.names))
        repeated = [name for name in names if batches[0].schema.names.count(name) > 1]
        if repeated:
            raise DataError(
                f"{files[0]}: the header names {', '.join(map(repr, repeated[:3]))} twice{no_header_hint(source)}"
            )
        self.columns = {name: Column(name, _texts(batches, name)) for name in names}
        self.missing_values, self.nan_rows, self.label_missing_values = self._find_missing(label)
        self.columns = {
            name: Column(name, as_missing(column.texts, self._missing_in(name, label)))
            for name, column in self.columns.items()
        }
        self.mixed = self._drop_mixed()

    def _drop_mixed(self) -> dict[str, tuple[int, str]]:
        """Drops the rows with a text in a column of numbers; returns by column how many there are, and a text."""
        found: dict[str, tuple[int, str]] = {}
        bad = np.zeros(self.rows, dtype=bool)
        for name, column in self.columns.items():
            if _MOSTLY_NUMBERS <= column.number_share < 1:
                others = column.not_numbers
                rows = pc.fill_null(pc.is_in(column.texts, pa.array(others)), False).to_numpy(zero_copy_only=False)
                found[name] = (int(rows.sum()), others[0])
                bad |= rows.astype(bool)
        if found:
            self.columns = {name: Column(name, c.texts.filter(pa.array(~bad))) for name, c in self.columns.items()}
        self.bad_rows = int(bad.sum())
        return found

    def _missing_in(self, name: str, label: str) -> list[str]:
        if name == label:
            return self.label_missing_values
        return [*self.missing_values, *(_NAN_SPELLINGS if name in self.nan_rows else ())]

    def _find_missing(self, label: str) -> tuple[list[str], dict[str, int], list[str]]:
        """Return what stands for a missing value in the features, the rows with NaN by column, and the label's."""
        found, of_label = [""], [""]
        nan_rows: dict[str, int] = {}
        for column in self.columns.values():
            marks = self._marks(column)
            if column.name == label:
                # A class may be called NA; among numbers it is none.
                of_label += marks if column.not_numbers else []
                continue
            if column.not_numbers:
                rows = sum(count for value, count in column.values if value in _NAN_SPELLINGS and value in marks)
                nan_rows |= {column.name: rows} if rows else {}
                marks = [mark for mark in marks if mark not in _NAN_SPELLINGS]
            found += marks
        return list(dict.fromkeys(found)), nan_rows, list(dict.fromkeys(of_label))

    def _marks(self, column: Column) -> list[str]:
        """Return the values of a column that stand for a missing one, beside the empty string."""
        counts = dict(column.values) if column.not_numbers else {}
        marks = [value for value in column.not_numbers if value in _MISSING_NUMBERS]
        rest = sum(counts[value] for value in column.not_numbers if value not in marks)
        if marks and rest <= (1 - _MOSTLY_NUMBERS) * (column.present - sum(counts[mark] for mark in marks)):
            return marks
        if not column.is_number and column.distinct < _MAX_VOCABULARY:
            return [value for value, _ in column.values if value in _MISSING_ANYWHERE]
        return []


def _with_nulls(strings: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with null in place of the empty string."""
    columns = [as_missing(column, ("",)) for column in strings.columns]
    return pa.RecordBatch.from_arrays(columns, names=strings.schema.names)


def _texts(batches: Sequence[pa.RecordBatch], name: str) -> pa.Array:
    parts = [
        batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string()) for batch in batches
    ]
    return pa.chunked_array(parts, pa.string()).combine_chunks()
