"""Reads CSV files as typed Arrow batches, and says exactly which row does not fit.

Everything is read as text first and converted column by column: a conversion that fails then knows its row and its
value, and the text of the whole row is at hand for the hash that splits depend on.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.fs

from components.config import Data
from schemas.declaration import did_you_mean
from schemas.errors import DataError
from schemas.features import ColumnType, FeatureSet

BLOCK_BYTES = 4 << 20
_ARROW_TYPES = {"float": pa.float32(), "int": pa.int64(), "string": pa.binary()}
_EXPECTED = {"float": "a finite number", "int": "an integer"}
# Joins the texts of a row for hashing; no CSV field holds the unit separator.
_FIELD_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Batch:
    """Rows of a file: `lists` has one list column for each declared column, null where a value is missing; `keys` has
    each row's whole text, ignored columns included."""

    lists: pa.RecordBatch
    keys: list[bytes]


@dataclass(frozen=True)
class Columns:
    """What is expected of a file's columns.

    Attributes:
      types: the columns to read, and the type of each.
      required: those in which a missing value is refused.
      allowed: for some columns, the only values they may have.
      missing_values: the texts that stand for a missing value.
      ignored: columns that may be there and are not read.
    """

    types: dict[str, ColumnType]
    required: Sequence[str]
    allowed: dict[str, Sequence[str]]
    missing_values: Sequence[str]
    ignored: Sequence[str]

    @classmethod
    def declared(cls, data: Data, features: FeatureSet) -> "Columns":
        """What a config expects."""
        label = features.label
        return cls(
            types=features.column_types,
            required=[*(n for n, f in features.features.items() if f.missing is None), label.column],
            allowed={label.column: [label.negative, label.positive]},
            missing_values=list(data.missing_values),
            ignored=list(data.ignored_columns),
        )

    def as_json(self) -> dict[str, Any]:
        """The arguments that make it again, all of JSON's types."""
        return asdict(self)


@dataclass(frozen=True)
class CsvTable:
    """One CSV file with a header, plain or compressed, local or remote."""

    path: str
    columns: Columns

    def check_header(self) -> list[str]:
        """The column names of the file.

        Raises:
          DataError: the file is empty or not readable, or its columns are not the declared ones.
        """
        ragged: list[pyarrow.csv.InvalidRow] = []
        try:
            with self._stream() as file, self._open(file, ragged) as reader:
                header = list(reader.schema.names)
        except pa.ArrowInvalid as error:
            raise self._unreadable(error, ragged) from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {_reason(error)}") from error
        self._check_columns(header)
        return header

    def batches(self) -> Iterator[Batch]:
        """Streams the rows in file order, with memory bounded by the block size.

        Raises:
          DataError: naming the file, the row (the header is row 1), the column and the value that does not fit.
        """
        header = self.check_header()
        first_row = 2
        ragged: list[pyarrow.csv.InvalidRow] = []
        try:
            with self._stream() as file, self._open(file, ragged, header) as reader:
                for texts in reader:
                    if texts.num_rows:
                        yield self._converted(texts, first_row)
                    first_row += texts.num_rows
        except pa.ArrowInvalid as error:
            raise self._unreadable(error, ragged) from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read after row {first_row - 1}: {_reason(error)}") from error
        if first_row == 2:
            raise self._no_rows()

    def _stream(self) -> pa.NativeFile:
        location = self.path if "://" in self.path else os.path.abspath(self.path)
        filesystem, path = pyarrow.fs.FileSystem.from_uri(location)
        return filesystem.open_input_stream(path, compression="detect")

    def _open(
        self, file: pa.NativeFile, ragged: list[pyarrow.csv.InvalidRow], header: Sequence[str] = ()
    ) -> pyarrow.csv.CSVStreamingReader:
        def stop(row: pyarrow.csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        return pyarrow.csv.open_csv(
            file,
            # One thread, so that a ragged row knows its number.
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=stop),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in header},
                null_values=list(self.columns.missing_values),
                strings_can_be_null=True,
            ),
        )

    def _check_columns(self, header: list[str]) -> None:
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise DataError(f"{self.path}: the header names {', '.join(repeated)} twice")
        extra = [name for name in header if name not in self.columns.types and name not in self.columns.ignored]
        for name in self.columns.types:
            if name not in header:
                hint = did_you_mean(name, extra or header)
                raise DataError(f"{self.path}: row 1: there is no column '{name}', which the config declares; {hint}")
        if extra:
            raise DataError(
                f"{self.path}: row 1: column {', '.join(map(repr, extra))} is not declared; declare it under features, "
                "or name it in data.ignored_columns"
            )

    def _converted(self, texts: pa.RecordBatch, first_row: int) -> Batch:
        columns = {name: _as_lists(self._convert(texts.column(name), name, first_row)) for name in self.columns.types}
        filled = [pc.fill_null(column, "") for column in texts.columns]
        keys = pc.binary_join_element_wise(*filled, _FIELD_SEPARATOR)
        return Batch(pa.RecordBatch.from_pydict(columns), [key.encode() for key in keys.to_pylist()])

    def _convert(self, texts: pa.StringArray, name: str, first_row: int) -> pa.Array:
        kind = self.columns.types[name]
        if name in self.columns.required and texts.null_count:
            row = first_row + texts.is_null().index(True).as_py()
            raise DataError(
                f"{self.path}: row {row}: {name}: the value is missing; correct the row, or declare what a missing "
                f"value becomes under features.{name}.missing"
                if name not in self.columns.allowed
                else f"{self.path}: row {row}: {name}: the label is missing; correct or remove the row"
            )
        if name in self.columns.allowed:
            self._check_allowed(texts, name, first_row)
        if kind == "string":
            return texts.cast(pa.binary())
        try:
            values = pc.utf8_trim_whitespace(texts).cast(_ARROW_TYPES[kind])
        except pa.ArrowInvalid:
            values = None
        if values is not None and (kind == "int" or pc.all(pc.is_finite(values)).as_py() is not False):
            return values
        raise self._misfit(texts, name, first_row)

    def _check_allowed(self, texts: pa.StringArray, name: str, first_row: int) -> None:
        allowed = self.columns.allowed[name]
        index = pc.is_in(texts, pa.array(allowed)).index(False).as_py()
        if index >= 0:
            expected = " or ".join(repr(value) for value in allowed)
            raise DataError(
                f"{self.path}: row {first_row + index}: {name}: expected {expected}, found '{texts[index]}'"
            )

    def _misfit(self, texts: pa.StringArray, name: str, first_row: int) -> DataError:
        """The error for the first value of a column that is not of its type."""
        kind = self.columns.types[name]
        for row, text in enumerate(texts.to_pylist(), start=first_row):
            if text is not None and not _fits(text, kind):
                return DataError(
                    f"{self.path}: row {row}: {name}: expected {_EXPECTED[kind]}, found '{text}'; correct the row, or "
                    "name the text in data.missing_values if it stands for a missing value"
                )
        raise AssertionError(f"{self.path}: {name}: Arrow refused a column whose every value fits")

    def _no_rows(self) -> DataError:
        expected = f"a header with {', '.join(self.columns.types)}, and rows"
        return DataError(f"{self.path}: holds no rows; expected {expected}")

    def _unreadable(self, error: pa.ArrowInvalid, ragged: list[pyarrow.csv.InvalidRow]) -> DataError:
        if ragged:
            row = ragged[0]
            return DataError(
                f"{self.path}: row {row.number}: expected {row.expected_columns} fields, found {row.actual_columns}: "
                f"{row.text[:120]!r}; correct the row (a field that holds a comma needs quotes)"
            )
        if "Empty CSV file" in str(error):
            return self._no_rows()
        reason = ascii(str(error).splitlines()[0])[1:161]
        return DataError(
            f"{self.path}: cannot be read as CSV in UTF-8 (compressed files need their ending, .gz): {reason}"
        )


def _reason(error: OSError) -> str:
    """What went wrong, without Arrow's place in its own source."""
    return error.strerror or str(error).splitlines()[0]


def _fits(text: str, kind: str) -> bool:
    try:
        value = pc.utf8_trim_whitespace(pa.array([text])).cast(_ARROW_TYPES[kind])
    except pa.ArrowInvalid:
        return False
    return kind == "int" or bool(pc.is_finite(value)[0].as_py())


def _as_lists(values: pa.Array) -> pa.ListArray:
    """[a, null, b] as [[a], null, [b]], which is how tf.Example knows a missing value."""
    present = values.is_valid().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(present)]).astype(np.int32)
    # A null start marks a null list.
    starts_are_null = np.concatenate([~present, [False]])
    return pa.ListArray.from_arrays(pa.array(ends, mask=starts_are_null), values.drop_null())
