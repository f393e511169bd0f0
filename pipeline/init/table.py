"""Reads a table as columns of strings, and finds what stands for a missing value."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from zoneinfo import available_timezones

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from pipeline.init.label_order import MAX_NUMBERED_CLASSES
from pipeline.init.missing import MOSTLY_NUMBERS, MissingValues, are_missing_words, find_missing, is_missing_number
from pipeline.init.notes import Notes, Rank
from pipeline.init.places import Places
from pipeline.init.progress import ProgressLines
from pipeline.init.requests import Requests
from pipeline.init.source import TableSource, list_data_files, suggest_no_header
from pipeline.init.spellings import explain_mixed, note_signs
from pipeline.profile.columns import Column
from schemas.data import CsvOptions
from schemas.tables.items import LIST_START, WRITTEN_LIST, mark_written_lists
from schemas.tables.number_format import NumberFormat, find_number_format, to_plain_numbers
from schemas.tables.readers import Ragged, Reader, Terms, open_table
from schemas.tables.values import as_missing

# Errors name the flags of `init`.
# Nearly all values.
_MOST = 0.95
_TERMS = Terms(encoding="--encoding", missing_values="--missing-value")
# As many rows of train and of test are profiled at most; of wide tables fewer, so that they fit into memory.
_ROWS_READ, _VALUES_READ = 1_000_000, 100_000_000
_MAX_SHOWN, _MAX_SHOWN_CHARS, _MAX_NAMES = 5, 40, 4


@dataclass(frozen=True)
class RawTable:
    """All columns of the files.

    Attributes:
      columns: Columns of strings by name, null where a value is missing, without the bad rows.
      rows: Number of rows that were read.
      is_test: Whether each row is of the test files; None without such files.
      complete: Whether all rows were read.
      csv: How the files and the numbers in them are written.
      missing: Strings that stand for a missing value.
      unusable: Columns that cannot be read, with the reason.
      ragged: Number of rows with a wrong number of fields.
      bad_rows: Number of rows with a string in a column of numbers.
      mixed: By column of numbers, how many rows have a string, and the first one.
      places: Where each row of the columns is.
      time_zones: By column of timestamps, the time zone that all files have.
    """

    columns: dict[str, Column]
    rows: int
    is_test: NDArray[np.bool_] | None
    complete: bool
    csv: CsvOptions
    missing: MissingValues
    unusable: dict[str, str]
    ragged: int
    bad_rows: int
    mixed: dict[str, tuple[int, str]]
    places: Places
    time_zones: dict[str, str]


def read_table(source: TableSource, requests: Requests, notes: Notes, progress: ProgressLines) -> RawTable:
    """Read the files of a source.

    Args:
      source: Files, and how they are written.
      requests: Choices of the user.
      notes: Gets what the user should check.
      progress: Gets the number of rows now and then.

    Raises:
      DataError: The files cannot be read, or hold no rows.
    """
    parts = _read_parts(source, requests, progress)
    counts = [part.row_count for part in parts]
    strings = _take_strings(parts)
    progress.report_step(f"looking for missing values in {format_count(len(strings), 'column')}")
    number_format, mixed_formats = find_number_format(strings, _is_comma_decimal(source))
    columns = {
        name: Column(name, texts if number_format.is_plain else _to_plain(name, texts, number_format, requests))
        for name, texts in strings.items()
    }
    unusable = {name: f"holds {kind}" for part in parts for name, kind in part.unreadable.items()}
    unusable |= {name: f"is not in {path}" for part in parts for name, path in part.absent.items()}
    _remove_unusable(columns, unusable, mixed_formats, requests, notes)
    _note_comma(strings, number_format, source, notes)
    _remove_mixed(columns, strings, number_format, requests, unusable, notes)
    missing = find_missing(columns, requests.label, requests.missing_values, notes)
    columns = {
        name: mark_missing(column, missing.of_label if name == requests.label else missing.list_strings(name))
        for name, column in columns.items()
    }
    rows = sum(counts)
    is_test = None if len(parts) == 1 else np.arange(rows) >= counts[0]
    good, mixed = _find_mixed(columns, rows)
    bad_rows = int(np.count_nonzero(~good))
    places = Places.from_parts([numbered for part in parts for numbered in part.numbered])
    _note_ragged(parts, notes)
    if bad_rows:
        _note_mixed(mixed, places.describe(int(np.argmin(good))), notes)
        places = places.filter(good)
        columns = {name: Column(name, column.texts.filter(pa.array(good))) for name, column in columns.items()}
        is_test = is_test[good] if is_test is not None else None
    return RawTable(
        columns=columns,
        rows=rows,
        is_test=is_test,
        complete=all(part.is_complete for part in parts),
        csv=source.csv.model_copy(update=_build_options(number_format)),
        missing=missing,
        unusable=unusable,
        ragged=sum(len(part.ragged) for part in parts),
        bad_rows=bad_rows,
        mixed=mixed,
        places=places,
        time_zones=_find_time_zones(source),
    )


def _read_parts(source: TableSource, requests: Requests, progress: ProgressLines) -> list["_Part"]:
    """Return the rows of train and, if there are such files, those of test."""
    train = _read_files(source, source.train, progress, requests.sensitive)
    if source.test is None:
        return [train]
    test = _read_files(source, source.test, progress, requests.sensitive, frozenset(train.names))
    if requests.label in train.names and requests.label not in test.names:
        raise DataError(f"{source.base / source.test}: has no column '{requests.label}', the label (--test)")
    return [train, test]


def _take_strings(parts: Sequence["_Part"]) -> dict[str, pa.Array]:
    """Return the columns of all parts as strings, and clear the rows of the parts, which are needed once."""
    rows = pa.concat_tables([part.rows for part in parts], promote_options="default")
    for part in parts:
        part.batches.clear()
    return {name: _combine_strings(rows.column(name)) for name in rows.column_names}


def _remove_unusable(
    columns: dict[str, Column],
    unusable: dict[str, str],
    mixed_formats: Mapping[str, str],
    requests: Requests,
    notes: Notes,
) -> None:
    """Remove columns that cannot be read, and those whose numbers have another format than most; note each."""
    for name, reason in unusable.items():
        notes.add(Rank.COLUMN, f"'{name}' {reason}: left out")
        columns.pop(name, None)
    for name, reason in mixed_formats.items():
        notes.add(Rank.COLUMN, f"'{name}': {reason}")
        # The run would reject its numbers.
        if name != requests.label and columns[name].number_share > 0:
            unusable[name] = reason
            del columns[name]


def _is_comma_decimal(source: TableSource) -> bool:
    """Return whether the delimiter implies that a comma precedes the fraction, so that commas separate no fields."""
    return source.format == "csv" and source.csv.delimiter == ";"


def _note_comma(strings: dict[str, pa.Array], number_format: NumberFormat, source: TableSource, notes: Notes) -> None:
    """Note numbers such as 12,345 that only the delimiter decides on."""
    if not _is_comma_decimal(source) or number_format.decimal != "," or number_format.thousands is not None:
        return
    detected, _ = find_number_format(strings)
    if detected.thousands == ",":
        notes.add(
            Rank.ROWS,
            "numbers such as '12,345' are read as 12.345, since the delimiter is ';'; if they are thousands, set "
            "data.csv.decimal: '.' and data.csv.thousands: ','",
        )


def _remove_mixed(
    columns: dict[str, Column],
    strings: dict[str, pa.Array],
    number_format: NumberFormat,
    requests: Requests,
    unusable: dict[str, str],
    notes: Notes,
) -> None:
    """Note numbers that are written in several ways; leave out columns of which only some are read as numbers."""
    numbers = {name: strings[name] for name, column in columns.items() if column.number_share >= MOSTLY_NUMBERS}
    note_signs(numbers, number_format, notes)
    used = {*numbers, requests.label, *requests.keep, *requests.drop}
    for name in [name for name in columns if name not in used]:
        reason = explain_mixed(strings[name], number_format)
        if reason:
            notes.add(Rank.COLUMN, f"'{name}' {reason}: left out; write them in one way")
            unusable[name] = reason
            del columns[name]


def _to_plain(name: str, strings: pa.Array, number_format: NumberFormat, requests: Requests) -> pa.Array:
    """Return a column of numbers with plain ones, another column as it is."""
    plain = pc.coalesce(to_plain_numbers(pc.utf8_trim_whitespace(strings), number_format), strings)
    column = Column(name, plain)
    markers = [v for v in column.not_numbers if is_missing_number(v) or v in requests.missing_values]
    others = [value for value in column.not_numbers if value not in markers]
    is_rare = len(others) <= (1 - MOSTLY_NUMBERS) * column.distinct
    is_numbers = column.number_share > 0 and (is_rare or are_missing_words(column, others, markers))
    # Classes are spelled as the file writes them.
    is_class = name == requests.label and column.distinct <= MAX_NUMBERED_CLASSES
    return plain if is_numbers and not is_class else strings


def _build_options(number_format: NumberFormat) -> dict[str, Any]:
    """Return a format of numbers as options of CSV."""
    return {**asdict(number_format), "currency": tuple(number_format.currency)}


def mark_missing(column: Column, missing_values: Sequence[str]) -> Column:
    """Return a column with null where a value is missing; a number stands for its value, however it is written."""
    markers = [value for value in missing_values if value]
    if not markers:
        return column
    texts = as_missing(column.texts, markers)
    changed = Column(column.name, texts) if texts.null_count > column.texts.null_count else column
    numbers = [float(value) for value in markers if Column("", pa.array([value])).is_number]
    if numbers and changed.is_number:
        is_filled = np.isin(changed.numbers, numbers)
        if is_filled.any():
            changed = Column(column.name, pc.if_else(pa.array(is_filled), pa.scalar(None, pa.string()), changed.texts))
    return changed


@dataclass
class _Part:
    """Rows of the files of one split."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    numbered: list[tuple[Reader, NDArray[np.int64]]] = field(default_factory=list)
    ragged: list[tuple[Reader, Ragged]] = field(default_factory=list)
    is_complete: bool = True
    unreadable: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    @property
    def row_count(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    @property
    def rows(self) -> pa.Table:
        return pa.concat_tables([pa.Table.from_batches([batch]) for batch in self.batches], promote_options="default")


def _find_time_zones(source: TableSource) -> dict[str, str]:
    """Return the time zone of each column of timestamps of Parquet; without those of several zones, and offsets."""
    if source.format != "parquet":
        return {}
    zones: dict[str, set[str | None]] = {}
    for pattern in filter(None, (source.train, source.test)):
        for path in list_data_files(source.base, pattern):
            for field_ in pyarrow.parquet.read_schema(path):
                if pa.types.is_timestamp(field_.type):
                    zones.setdefault(field_.name, set()).add(field_.type.tz)
    return {name: zone for name, (zone, *others) in zones.items() if zone in available_timezones() and not others}


def _read_files(
    source: TableSource,
    pattern: str,
    progress: ProgressLines,
    sensitive: Sequence[str],
    train_columns: frozenset[str] = frozenset(),
) -> _Part:
    """Read the files of a pattern, of which each must have some known column, if there are any."""
    part = _Part()
    rows = 0
    files = list_data_files(source.base, pattern)
    for number, path in enumerate(files):
        reader = open_table(path, source.format, source.csv, terms=_TERMS, is_masked=bool(sensitive))
        names = reader.read_names()
        if not reader.leaves_out_missing:
            _check_sensitive(source, path, names, sensitive)
        _check_names(source, path, names, train_columns)
        if not reader.leaves_out_missing:
            # Each file of a split must have all columns.
            others = {name: files[0] for name in names if name not in part.names} if number else {}
            described = f"{path}, which has {', '.join(map(repr, names[:_MAX_NAMES]))}"
            part.absent |= {**others, **{name: described for name in part.names if name not in names}}
        part.names |= {*names}
        part.unreadable |= reader.find_unreadable()
        unnamed = names.count("")
        if unnamed > 1:
            part.unreadable[""] = f"{unnamed} columns without a name"
        if part.unreadable:
            readable = [name for name in names if name not in part.unreadable]
            reader = open_table(path, source.format, source.csv, only=readable, terms=_TERMS, is_masked=bool(sensitive))
        # Each file may fill its share of the limits, so that later files are read too.
        limit = min(_ROWS_READ, _VALUES_READ // max(1, len(names))) * (number + 1) // len(files)
        for texts in reader.read_batches():
            batch = texts.columns.slice(0, limit - rows)
            part.batches.append(batch)
            part.numbered.append((reader, texts.rows[: batch.num_rows]))
            rows += batch.num_rows
            progress.report_step(
                f"read {format_count(rows, 'row')} of {source.base / pattern}, file {number + 1} of {len(files)}"
            )
            if batch.num_rows < texts.columns.num_rows:
                part.is_complete = False
                break
        part.ragged += [(reader, row) for row in reader.ragged]
    if not rows:
        ragged = (
            f" that fit its header: all {len(part.ragged):,} have another number of fields{_describe_delimiter(source)}"
            if part.ragged
            else ""
        )
        raise DataError(f"{source.base / pattern}: holds no rows{ragged}")
    return part


def _check_sensitive(source: TableSource, path: str, names: Sequence[str], sensitive: Sequence[str]) -> None:
    """Reject a header without a sensitive column, and show none of its names: without a header they are values."""
    for name in sensitive:
        if name not in names:
            raise ConfigError(
                f"--sensitive {name}: {path} has no such column; its {len(names)} names are not shown, since they may "
                f"be values{suggest_no_header(source)}"
            )


def _check_names(source: TableSource, path: str, names: Sequence[str], train_columns: frozenset[str]) -> None:
    """Reject a header with duplicates, or one without any of the columns of train."""
    repeated = [name for name, count in Counter(names).items() if name and count > 1]
    if repeated:
        examples = ", ".join(map(repr, repeated[:3]))
        raise DataError(f"{path}: the header names {examples} twice{suggest_no_header(source)}")
    if train_columns and not train_columns & {*names}:
        examples = ", ".join(map(repr, names[:3]))
        raise DataError(
            f"{path}: has none of the columns of {source.base / source.train}; it has {examples}"
            f"{_describe_delimiter(source)} (--test)"
        )


def _describe_delimiter(source: TableSource) -> str:
    return f", read with the delimiter {source.csv.delimiter!r}" if source.format == "csv" else ""


def _combine_strings(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, with null in place of the empty string and of the empty list.

    Where nearly all values are written as lists, they are real lists, as a run reads them.
    """
    strings = column.cast(pa.string()).combine_chunks()
    written = pc.sum(pc.match_substring_regex(strings, WRITTEN_LIST)).as_py() or 0
    if written and written >= _MOST * (len(strings) - strings.null_count):
        strings = mark_written_lists(strings)
    is_empty = pc.is_in(strings, pa.array(["", LIST_START]))
    return as_missing(strings, ("", LIST_START)) if pc.any(is_empty).as_py() else strings


def _find_mixed(columns: dict[str, Column], rows: int) -> tuple[NDArray[np.bool_], dict[str, tuple[int, str]]]:
    """Return whether each row has numbers only in columns of numbers, and what was found first instead by column."""
    mixed: dict[str, tuple[int, str]] = {}
    good = np.ones(rows, dtype=bool)
    for name, column in columns.items():
        if MOSTLY_NUMBERS <= column.number_share < 1:
            bad = np.asarray(pc.fill_null(pc.is_in(column.texts, pa.array(column.not_numbers)), False))
            mixed[name] = (int(np.count_nonzero(bad)), str(column.texts[int(np.argmax(bad))].as_py()))
            good &= ~bad
    return good, mixed


def _note_ragged(parts: Sequence[_Part], notes: Notes) -> None:
    """Note where the first row with a wrong number of fields is."""
    ragged = [row for part in parts for row in part.ragged]
    if ragged:
        reader, first = ragged[0]
        place = reader.find_places([first.row])[first.row]
        notes.add(
            Rank.ROWS,
            f"{format_count(len(ragged), 'row', 'have')} a wrong number of fields, first {place}: {first.reason}",
        )


def _note_mixed(mixed: Mapping[str, tuple[int, str]], first: str, notes: Notes) -> None:
    """Note columns of numbers that have a string in some rows.

    Args:
      mixed: By column, how many rows have a string, and the first one.
      first: Place of the first of these rows.
      notes: Gets the note.
    """
    examples = [
        f"'{name}' ({text[:_MAX_SHOWN_CHARS]!r}{f' and {count - 1:,} more' if count > 1 else ''})"
        for name, (count, text) in list(mixed.items())[:_MAX_SHOWN]
    ]
    more = f" and {len(mixed) - _MAX_SHOWN:,} more columns" if len(mixed) > _MAX_SHOWN else ""
    notes.add(
        Rank.ROWS,
        f"strings among the numbers of {', '.join(examples)}{more}, first in {first}: correct them, or name what "
        "stands for a missing value with --missing-value",
    )
