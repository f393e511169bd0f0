"""Reads CSV, Parquet and TFRecord files and BigQuery as batches of text, and finds the place of every row in its file.

Whatever the format, the rest of the pipeline sees the same: a table of text columns in which null is a missing value.
Types are checked in one place (schemas/tables/typed_columns.py). The split of a row does not depend on its file.
Imports no TensorFlow.
"""

import codecs
import csv
import gzip
import io
import re
import struct
import sys
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, Literal, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet
from numpy.typing import NDArray

from cli.counts import format_count
from cli.errors import DataError
from schemas.data import CsvOptions, Format
from schemas.sensitive import MASK
from schemas.tables import bigquery, examples, locations
from schemas.tables.csv_quotes import QuoteCheck
from schemas.tables.file_kinds import (
    check_format,
    compute_masked_crc,
    detect_encoding_mark,
    is_compressed,
    open_decompressed,
)
from schemas.tables.items import is_list_of_values
from schemas.tables.locations import describe_cause
from schemas.tables.pieces import PIECE_BYTES, Piece, split_csv, split_parquet
from schemas.tables.values import as_strings

# A row of CSV must fit into a block.
BLOCK_BYTES = 4 << 20
# Of a Parquet file or a TFRecord, read at once.
_ROWS_TOGETHER = 16_384
_GZIP_MAGIC = b"\x1f\x8b"
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class Terms:
    """Names of settings in errors: a config's keys, or another program's flags.

    Attributes:
      format: format of the files.
      encoding: encoding of CSV files.
      numbers: settings of the format of numbers.
      no_quotes: setting by which quotes of CSV are characters like any other.
      unreadable: remedy for a column that holds neither numbers nor strings.
      missing_values: the strings that stand for a missing value.
      max_bad_rows: setting of the number of rows that may be dropped.
      declares: subject and verb of a column that is needed.
      copies: the same of a column that is only copied.
      undeclared: remedy for a column that is not declared.
      for_missing: remedy for a missing value; `{name}` is the column's.
      for_times: remedy for a time in another format.
    """

    format: str = "data.format:"
    encoding: str = "data.csv.encoding"
    numbers: str = "data.csv.decimal, thousands, currency or percent"
    no_quotes: str = "data.csv.quote: none"
    unreadable: str = "name it in data.ignored_columns, and not under features"
    missing_values: str = "data.missing_values"
    max_bad_rows: str = "data.max_bad_rows"
    declares: str = "the config declares"
    copies: str = "is to be copied"
    undeclared: str = "declare it under features, or name it in data.ignored_columns"
    for_missing: str = "correct the row, or declare what a missing value becomes under features.{name}.missing"
    for_times: str = "correct the row, or declare how times are written under features.{name}.format"


CONFIG_TERMS = Terms()


@dataclass(frozen=True)
class Ragged:
    """A row of CSV with too many or too few fields: its number in the file, what was expected, and its text."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class Texts:
    """Rows of a file as columns of strings.

    Attributes:
      columns: Raw values, null where the file has no value; strings that stand for a missing one are kept.
      rows: Number of each row in the file, or in the piece of it that is read, from 1; [n].
      names: Names of all features of these rows, where a file has no header.
    """

    columns: pa.RecordBatch
    rows: NDArray[np.int64]
    names: Sequence[str] = ()


@dataclass
class Reader(ABC):
    """One file.

    Attributes:
      path: local or remote.
      only: the columns to read; None reads all.
      options: How strings of files are written.
      terms: names of settings in errors.
      piece: the part of the file that is read; None reads all of it. The numbers of its rows begin at 1.
      leaves_out_missing: whether a column without any value is not seen in the file.
      ragged: rows that could not be read and are left out of the batches, in file order.
      is_masked: whether errors must not show the content of the file.
    """

    leaves_out_missing: ClassVar[bool] = False
    path: str
    only: Collection[str] | None = None
    options: CsvOptions = field(default_factory=CsvOptions)
    terms: Terms = CONFIG_TERMS
    piece: Piece | None = None
    ragged: list[Ragged] = field(default_factory=list)
    is_masked: bool = False
    _start: bytes = b""

    @abstractmethod
    def read_names(self) -> list[str]:
        """Return the column names.

        Raises:
          DataError: the file is empty or cannot be read.
        """

    @abstractmethod
    def read_batches(self) -> Iterator[Texts]:
        """Stream the rows in file order with bounded memory.

        Raises:
          DataError: the file cannot be read further; names the place.
        """

    def find_pieces(self) -> list[Piece]:
        """Return the parts that it is best read in, each by a reader of its own; none if it is best read as a whole.

        Raises:
          DataError: the file cannot be read.
        """
        return []

    @abstractmethod
    def find_places(self, rows: Collection[int]) -> dict[int, str]:
        """Return the place of each row as a user finds it, `file:line` or `file: row 5`, by its number."""

    def find_unreadable(self) -> dict[str, str]:
        """Return by name what columns hold that are neither numbers nor strings; `only` must leave them out.

        Raises:
          DataError: the file cannot be read.
        """
        return {}

    def find_booleans(self) -> list[str]:
        """Return the columns of booleans, which other formats have as strings."""
        return []

    def _open_filesystem(self) -> tuple[pyarrow.fs.FileSystem, str]:
        return locations.open_filesystem(self.path)

    def _check_format(self, expected: Format) -> bytes:
        """Return the first bytes of the file, if it has a format."""
        if not self._start:
            self._start = check_format(self.path, expected, self.terms.format)
        return self._start

    def _is_selected(self, name: str) -> bool:
        return self.only is None or name in self.only

    def _convert_column(self, column: pa.Array, name: str) -> pa.Array:
        try:
            return as_strings(column, self.options.decimal)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"{self.path}: column '{name}' has type {column.type}; expected numbers or strings, in UTF-8. For one "
                f"that holds others: {self.terms.unreadable}"
            ) from error


def open_table(path: str, format: Format | Literal["bigquery"], options: CsvOptions, **reader: Any) -> Reader:
    """Return the reader for a format; `reader` are other attributes of a Reader."""
    match format:
        case "csv":
            return CsvReader(path, options=options, **reader)
        case "parquet":
            return ParquetReader(path, options=options, **reader)
        case "tfrecord":
            return TFRecordReader(path, options=options, **reader)
        case "bigquery":
            return BigQueryReader(path, options=options, **reader)
        case _:
            assert_never(format)


@dataclass
class CsvReader(Reader):
    """CSV, plain or compressed; quoted fields may hold delimiters and newlines."""

    @property
    def _has_header(self) -> bool:
        return not self.options.column_names and (self.piece is None or self.piece.start == 0)

    @property
    def _first_row(self) -> int:
        """The number of the first row of data: a header is row 1."""
        return 2 if self._has_header else 1

    @property
    def _lines_before(self) -> int:
        return self.piece.before if self.piece else 0

    def find_pieces(self) -> list[Piece]:
        filesystem, path = self._open_filesystem()
        try:
            if is_compressed(self.path):
                return []
            with filesystem.open_input_file(path) as file:
                return split_csv(file, file.size(), self.options, PIECE_BYTES)
        except (pa.ArrowException, *_UNREADABLE) as error:
            raise _build_read_error(self.path, error) from error

    def _open_rows(self) -> pa.NativeFile:
        if self.piece is None:
            return open_decompressed(self.path)
        filesystem, path = self._open_filesystem()
        return filesystem.open_input_file(path).get_stream(self.piece.start, self.piece.end - self.piece.start)

    def read_names(self) -> list[str]:
        return [self._clean_name(name) for name in self._read_written_names()]

    def _clean_name(self, written: str) -> str:
        return written.strip() if self.options.strip_spaces else written

    def _read_written_names(self) -> list[str]:
        self._check_start()
        try:
            with open_decompressed(self.path) as file:
                # Arrow reads ahead of the header, but must not read from Python: see _open_utf8.
                start = file if self._is_utf8 else pa.BufferReader(next(self._read_utf8_blocks(file), b""))
                with self._open_arrow(start) as reader:
                    # A name that is not UTF-8 is found only as it is read.
                    return list(reader.schema.names)
        except (pa.ArrowInvalid, UnicodeDecodeError, *_UNREADABLE) as error:
            raise self._convert_error(error, self._first_row) from error

    def _check_start(self) -> None:
        """Reject what is not text in the declared encoding.

        Raises:
          DataError: names the format or the encoding that the file has.
        """
        if self.piece is not None and self.piece.start > 0:
            return
        marked = detect_encoding_mark(self._check_format("csv"))
        if marked is not None and _find_family(marked) != _find_family(self.options.encoding):
            raise DataError(
                f"{self.path}:1: is not text in {self.options.encoding}; convert the file to UTF-8, or name its "
                f"encoding in {self.terms.encoding}: {marked}"
            )

    def read_batches(self) -> Iterator[Texts]:
        names = self._read_written_names()
        # Arrow reads a first block to open the file, and its bad rows with it.
        self.ragged.clear()
        row, seen = self._first_row, 0
        quotes = self._check_quotes(len(names))
        try:
            with self._open_utf8() as file, self._open_arrow(file, names) as reader:
                for texts in reader:
                    next(quotes, None)
                    rows = np.arange(row, row + texts.num_rows)
                    # Bad rows were left out: the rows that follow them are further down in the file than they seem.
                    while len(rows) and seen < len(self.ragged) and self.ragged[seen].row <= rows[-1]:
                        rows[np.searchsorted(rows, self.ragged[seen].row) :] += 1
                        seen += 1
                    if len(rows):
                        row = int(rows[-1]) + 1
                        yield Texts(self._strip(texts), rows)
        except (pa.ArrowInvalid, UnicodeDecodeError, *_UNREADABLE) as error:
            deque(quotes, maxlen=0)
            raise self._convert_error(error, row) from error
        deque(quotes, maxlen=0)

    @property
    def _is_utf8(self) -> bool:
        return _find_family(self.options.encoding) == "utf-8"

    @contextmanager
    def _open_utf8(self) -> Iterator[pa.NativeFile]:
        """Open the rows as UTF-8, as a copy if they have another encoding.

        Arrow's own transcoding calls Python from threads that read ahead. Where reading stops early, they may block or
        abort the process at its end (seen with 18.1).
        """
        with self._open_rows() as rows:
            if self._is_utf8:
                yield rows
                return
            with tempfile.NamedTemporaryFile(suffix=".csv") as copy:
                for block in self._read_utf8_blocks(rows):
                    copy.write(block)
                copy.flush()
                with pa.OSFile(copy.name) as file:
                    yield file

    def _read_utf8_blocks(self, rows: pa.NativeFile) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.options.encoding)()
        while block := rows.read(BLOCK_BYTES):
            yield block if self._is_utf8 else decoder.decode(block).encode()

    def _check_quotes(self, fields: int) -> Iterator[None]:
        """Check the quotes, a block at each step; all steps raise the first DataError there is.

        It reads the file once more, since Arrow must not read from Python.
        """
        if self.options.quote == "none":
            return
        check = QuoteCheck(
            self.options.delimiter, self.options.quote, fields, self._lines_before + 1, is_masked=self.is_masked
        )
        with self._open_rows() as rows:
            for block in chain(self._read_utf8_blocks(rows), (b"",)):
                check.add(block)
                if check.problem is not None:
                    line, reason = check.problem
                    raise DataError(
                        f"{self.path}:{line}: a quote {reason}; correct the file, or set {self.terms.no_quotes} if its "
                        "quotes are characters like any other"
                    )
                # A row with line breaks that has too few fields or too many is due to a quote.
                if not any("\n" in ragged.text for ragged in self.ragged):
                    yield

    def find_places(self, rows: Collection[int]) -> dict[int, str]:
        row_set, places_by_row = set(rows), {}
        last = max(row_set, default=0)
        for number, line, _ in self._read_records():
            if number in row_set:
                places_by_row[number] = f"{self.path}:{line}"
            if number >= last:
                break
        return places_by_row

    def _read_records(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield (row number, line it starts on, fields), as Arrow numbers rows: empty lines do not count."""
        limit = csv.field_size_limit(sys.maxsize)
        try:
            with self._open_rows() as file:
                text = io.TextIOWrapper(file, encoding=self.options.encoding, errors="replace", newline="")
                quotes: dict[str, Any] = {"quotechar": self.options.quote}
                if self.options.quote == "none":
                    quotes = {"quoting": csv.QUOTE_NONE}
                # A byte order mark would hide a quote behind it.
                lines = chain([text.readline().removeprefix("\ufeff")], text)
                reader = csv.reader(lines, delimiter=self.options.delimiter, **quotes)
                number, line = 0, self._lines_before + 1
                for fields in reader:
                    if fields:
                        number += 1
                        yield number, line, fields
                    line = self._lines_before + reader.line_num + 1
        finally:
            csv.field_size_limit(limit)

    def _open_arrow(self, file: Any, names: Sequence[str] = ()) -> pyarrow.csv.CSVStreamingReader:
        def skip_row(row: pyarrow.csv.InvalidRow) -> str:
            reason = f"expected {row.expected_columns} fields, found {row.actual_columns}"
            number = row.number if row.number is not None else 0
            self.ragged.append(Ragged(number, reason, row.text))
            return "skip"

        return pyarrow.csv.open_csv(
            file,
            # One thread, so that a ragged row has its number.
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK_BYTES,
                use_threads=False,
                column_names=None if self._has_header else list(self.options.column_names or names),
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self.options.delimiter,
                quote_char=False if self.options.quote == "none" else self.options.quote,
                newlines_in_values=self.options.quote != "none",
                invalid_row_handler=skip_row,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=[n for n in names if self._is_selected(self._clean_name(n))]
                if self.only is not None
                else None,
                strings_can_be_null=False,
            ),
        )

    def _strip(self, texts: pa.RecordBatch) -> pa.RecordBatch:
        if not self.options.strip_spaces:
            return texts
        columns = [pc.utf8_trim_whitespace(column) for column in texts.columns]
        return pa.RecordBatch.from_arrays(columns, names=[self._clean_name(name) for name in texts.schema.names])

    def _convert_error(self, error: BaseException, row: int) -> DataError:
        if isinstance(error, _UNREADABLE):
            return _build_read_error(self.path, error)
        reason = str(error).splitlines()[0]
        if "Empty CSV file" in reason:
            return DataError(f"{self.path}: holds no rows; expected a header and rows")
        for number, line, fields in self._read_records():
            if number >= row and sum(len(f) for f in fields) > BLOCK_BYTES // 2:
                size = max(len(f) for f in fields)
                return DataError(
                    f"{self.path}:{line}: holds a value of {size:,} characters; a row may have {BLOCK_BYTES:,} bytes. "
                    "Remove the row, or close a quote that is never closed"
                )
        if "UTF8" in reason or "UTF-8" in reason or "decode" in reason:
            return DataError(
                f"{self._find_undecodable_line()}: is not text in {self.options.encoding}; convert the file to UTF-8, "
                f"or name its encoding in {self.terms.encoding} (such as latin-1)"
            )
        reason = MASK if self.is_masked else ascii(reason)[1:161]
        return DataError(f"{self.path}: cannot be read as CSV: {reason}")

    def _find_undecodable_line(self) -> str:
        line = self._lines_before + 1
        decoder = codecs.getincrementaldecoder(self.options.encoding)()
        with self._open_rows() as file:
            while block := file.read(BLOCK_BYTES):
                try:
                    line += decoder.decode(block).count("\n")
                except UnicodeDecodeError as error:
                    whole = error.object[: error.start].decode(self.options.encoding, errors="replace")
                    return f"{self.path}:{line + whole.count(chr(10))}"
        return f"{self.path}:{line}"


def _find_family(encoding: str) -> str:
    """Return the name of an encoding without its byte order."""
    name = codecs.lookup(encoding).name
    return re.sub(r"^(utf-(8|16|32))\b.*", r"\1", name)


@dataclass
class ParquetReader(Reader):
    """Parquet. Values become strings, exactly, and lists of values too; structs, maps and bytes that are not text
    cannot.
    """

    def read_names(self) -> list[str]:
        with self._open_file() as file:
            return list(file.schema_arrow.names)

    def find_unreadable(self) -> dict[str, str]:
        with self._open_file() as file:
            fields = file.schema_arrow
            nested = [f for f in fields if pa.types.is_nested(f.type) and not is_list_of_values(f.type)]
            binary = [field.name for field in file.schema_arrow if _is_binary(field.type)]
            indices = {}
            for batch in file.iter_batches(_ROWS_TOGETHER, columns=binary) if binary else ():
                for name in binary:
                    if name not in indices and not _is_text(batch.column(name)):
                        indices[name] = f"{batch.column(name).type} that is not UTF-8"
            return {**{field.name: str(field.type) for field in nested}, **indices, **_find_missing_lists(file)}

    def find_booleans(self) -> list[str]:
        with self._open_file() as file:
            return [field.name for field in file.schema_arrow if pa.types.is_boolean(field.type)]

    def read_batches(self) -> Iterator[Texts]:
        row = 1
        with self._open_file() as file:
            names = [name for name in file.schema_arrow.names if self._is_selected(name)]
            groups = range(self.piece.start, self.piece.end) if self.piece else None
            try:
                for batch in file.iter_batches(_ROWS_TOGETHER, row_groups=groups, columns=names):
                    # Arrow also reads a struct `a` where `a.b` is wanted.
                    columns = [self._convert_column(batch.column(name), name) for name in names]
                    yield Texts(pa.RecordBatch.from_arrays(columns, names=names), np.arange(row, row + len(batch)))
                    row += len(batch)
            except (pa.ArrowException, *_UNREADABLE) as error:
                for name, problem in _find_missing_lists(file).items():
                    if name in names:
                        message = f"{self.path}: column '{name}' holds {problem}, or {self.terms.unreadable}"
                        raise DataError(message) from error
                raise _build_read_error(self.path, error, f"after row {row - 1}") from error

    def find_places(self, rows: Collection[int]) -> dict[int, str]:
        before = self.piece.before if self.piece else 0
        return {row: f"{self.path}: row {before + row}" for row in rows}

    def find_pieces(self) -> list[Piece]:
        with self._open_file() as file:
            return split_parquet(file.metadata, PIECE_BYTES)

    def _open_file(self) -> pyarrow.parquet.ParquetFile:
        self._check_format("parquet")
        try:
            filesystem, path = self._open_filesystem()
            return pyarrow.parquet.ParquetFile(filesystem.open_input_file(path))
        except (pa.ArrowException, *_UNREADABLE) as error:
            raise _build_read_error(self.path, error) from error


def _find_missing_lists(file: pyarrow.parquet.ParquetFile) -> dict[str, str]:
    """Return the columns of lists of a fixed length with a missing list, which Arrow does not read.

    Its error names no column: https://github.com/apache/arrow/issues/35692.
    """
    sizes = {f.name: f.type.list_size for f in file.schema_arrow if pa.types.is_fixed_size_list(f.type)}
    problems = {}
    for place, column in enumerate(file.schema):
        # NAME.list.element
        name = column.path.rsplit(".", 2)[0]
        if (size := sizes.get(name, 0)) < 2:
            continue
        groups = [file.metadata.row_group(group).column(place) for group in range(file.num_row_groups)]
        # A missing list takes the place of one value.
        missing = (file.metadata.num_rows * size - sum(group.num_values for group in groups)) // (size - 1)
        if missing:
            problems[name] = (
                f"lists of the fixed length {size} with {format_count(missing, 'missing list')}, which Arrow does not "
                "read; write it as a column of lists of any length"
            )
    return problems


def _is_binary(type: pa.DataType) -> bool:
    is_binary = pa.types.is_binary(type) or pa.types.is_large_binary(type) or pa.types.is_binary_view(type)
    return bool(is_binary or pa.types.is_fixed_size_binary(type))


def _is_text(column: pa.Array) -> bool:
    try:
        as_strings(column)
    except pa.ArrowInvalid:
        return False
    return True


@dataclass
class TFRecordReader(Reader):
    """TFRecord of tf.Example, plain or gzipped.

    https://www.tensorflow.org/tutorials/load_data/tfrecord describes the file format.
    """

    leaves_out_missing: ClassVar[bool] = True

    def find_unreadable(self) -> dict[str, str]:
        problems: dict[str, str] = {}
        for records, first in self._group_records():
            try:
                problems = {**examples.find_unreadable(records), **problems}
            except examples.ExampleError as error:
                raise DataError(f"{self.path}: record {first + error.index}: {error}") from error
        return problems

    def read_names(self) -> list[str]:
        first = next(self._group_records(), None)
        if first is None:
            raise DataError(f"{self.path}: holds no records")
        # Features that are no columns of strings have names too.
        return sorted({name for part in self._decode(*first, only=()) for name in part.names})

    def read_batches(self) -> Iterator[Texts]:
        for records, first in self._group_records():
            for part in self._decode(records, first, self.only):
                rows = np.arange(first + part.start, first + part.start + part.columns.num_rows)
                yield Texts(part.columns, rows, part.names)

    def find_places(self, rows: Collection[int]) -> dict[int, str]:
        return {row: f"{self.path}: record {row}" for row in rows}

    def _decode(self, records: Sequence[bytes], first: int, only: Collection[str] | None) -> Iterator[examples.Part]:
        try:
            yield from examples.decode(records, only, self.options.decimal)
        except examples.ExampleError as error:
            raise DataError(f"{self.path}: record {first + error.index}: {error}") from error

    def _group_records(self) -> Iterator[tuple[list[bytes], int]]:
        """Yield records that are decoded together, and the number of the first of them."""
        records: list[bytes] = []
        first = 1
        for _, record in self._read_records():
            records.append(record)
            if len(records) == _ROWS_TOGETHER:
                yield records, first
                first += len(records)
                records = []
        if records:
            yield records, first

    def _read_records(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, content) of each record; offsets count decompressed bytes.

        Raises:
          DataError: the file ends inside a record, or a checksum does not fit; names the offset.
        """
        self._check_format("tfrecord")
        offset, count = 0, 0
        try:
            with self._open_records() as file:
                while head := file.read(12):
                    if len(head) < 12:
                        raise self._build_damage_error("ends inside the head of a record", offset, count)
                    (length,) = struct.unpack("<Q", head[:8])
                    if compute_masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0]:
                        raise self._build_damage_error("the checksum of a record's length does not fit", offset, count)
                    body = file.read(length + 4)
                    if len(body) < length + 4:
                        raise self._build_damage_error("ends inside a record", offset, count)
                    if compute_masked_crc(body[:-4]) != struct.unpack("<I", body[-4:])[0]:
                        raise self._build_damage_error("the checksum of a record does not fit", offset, count)
                    yield offset, body[:-4]
                    offset += len(head) + len(body)
                    count += 1
        except _UNREADABLE as error:
            raise _build_read_error(self.path, error, f"after record {count} (byte {offset})") from error

    def _open_records(self) -> Any:
        """Open the file, decompressed up to where a gzipped one ends too early: Arrow would return nothing of it."""
        filesystem, path = self._open_filesystem()
        buffered = io.BufferedReader(filesystem.open_input_stream(path, compression=None))
        if buffered.peek(2)[:2] == _GZIP_MAGIC:
            return gzip.GzipFile(fileobj=buffered)
        buffered.close()
        return io.BufferedReader(open_decompressed(self.path))

    def _build_damage_error(self, what: str, offset: int, count: int) -> DataError:
        return DataError(f"{self.path}: is damaged at byte {offset}, after record {count}: {what}; restore the file")


@dataclass
class BigQueryReader(Reader):
    """A table of BigQuery, or a stream of one: its path is the URI of `bigquery.TableRows`. Rows have no places."""

    def __post_init__(self) -> None:
        self._source = bigquery.TableRows.from_uri(self.path)
        self.path = str(self._source)

    @cached_property
    def _description(self) -> bigquery.Description:
        return bigquery.describe(self._source)

    def read_names(self) -> list[str]:
        if self._source.stream and self.only is not None:
            # The session was opened for these columns, which were checked before.
            return list(dict.fromkeys(self.only))
        for name, type in self.find_unreadable().items():
            if self.only is not None and name in self.only:
                raise DataError(
                    f"{self.path}: column '{name}' has type {type}; expected numbers, strings, dates or times. "
                    f"Convert it in a query, or {self.terms.unreadable}"
                )
        return list(self._description.types)

    def find_unreadable(self) -> dict[str, str]:
        return self._description.unreadable

    def read_batches(self) -> Iterator[Texts]:
        names = [name for name in self.read_names() if self._is_selected(name)]
        row = 1
        for stream in [self._source] if self._source.stream else bigquery.open_streams(self._source, names, 1):
            for batch in bigquery.read_stream(stream):
                columns = [self._convert_column(batch.column(name), name) for name in names]
                yield Texts(pa.RecordBatch.from_arrays(columns, names=names), np.arange(row, row + len(batch)))
                row += len(batch)

    def find_places(self, rows: Collection[int]) -> dict[int, str]:
        return dict.fromkeys(rows, self.path)


def _build_read_error(path: str, error: BaseException, where: str = "") -> DataError:
    return DataError(f"{path}: cannot be read{' ' + where if where else ''}: {describe_cause(error)}")
