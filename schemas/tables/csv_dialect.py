"""Finds out how a CSV file is written: its encoding, delimiter, quotes and spaces. Imports no TensorFlow."""

import codecs
import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from pydantic import ValidationError

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from schemas.data import CsvOptions
from schemas.sensitive import MASK
from schemas.tables.csv_quotes import QuoteCheck
from schemas.tables.file_kinds import check_format, detect_encoding_mark, open_decompressed
from schemas.tables.locations import describe_cause

Quote = Literal['"', "'", "none"]
DELIMITERS = (",", "\t", ";", "|")
# The first bytes decide on the delimiter; so many on encoding and quotes.
_SAMPLE_BYTES = 1 << 20
# The limit of the csv module, 128 KiB, is below that of a value.
csv.field_size_limit(_SAMPLE_BYTES)
_CHECKED_BYTES = 256 << 20
_ROWS = 2_000
_LEAST_ROWS = 10
# Rows with another number of fields are bad rows, which are few.
_MOSTLY = 0.9
_MAX_SHOWN_CHARS = 40
_ASCII = bytes(range(0x80))
_NOT_IN_CP1252 = {0x81, 0x8D, 0x8F, 0x90, 0x9D}
# Letters of Central Europe's cp1250, which are signs in cp1252: Białystok would be Bia³ystok.
_SIGN_IN_WORD = re.compile(rb"[a-z][\xb3\xb9\xbe\xbf][a-z]{2}|\xa3\xf3[a-z]")
# Those of several bytes a letter read little that is written in another encoding, so they come first.
_CANDIDATES = ("shift_jis", "euc_jp", "gb18030", "big5", "euc_kr", "cp1251", "cp1250", "cp1253", "koi8_r")
# A few other letters in long runs are a line of dashes, or the like.
_LEAST_LETTERS = 6


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written, and notes on that for the user.

    Attributes:
      options: Options that read the file.
      notes: Sentences on options that another file may need differently.
    """

    options: CsvOptions
    notes: list[str] = field(default_factory=list)


def find_dialect(
    path: str,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    quote: Quote | None = None,
    column_names: Sequence[str] = (),
    header: bool = True,
    is_masked: bool = False,
) -> Dialect:
    """Find out how a CSV file is written, plain or compressed.

    Args:
      path: Path or URI.
      encoding: Encoding of the text; found out if omitted.
      delimiter: Character between values; found out if omitted.
      quote: Character around values; found out if omitted.
      column_names: Names of the columns if the file has no header.
      header: Whether the first row names the columns. Without one and without names, they are column_1 and so on.
      is_masked: Whether notes and errors must not show the content of the file.

    Raises:
      ConfigError: An argument is not possible.
      DataError: The file cannot be read, has no rows, or is not CSV.
    """
    _check_arguments(encoding=encoding, delimiter=delimiter, quote=quote)
    check_format(path, "csv", "data.format:")
    notes: list[str] = []
    try:
        if encoding is None:
            encoding, notes = _find_encoding(path, is_masked=is_masked)
        lines = _read_lines(path, encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in {encoding}: {error.reason}; name its encoding") from error
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {describe_cause(error)}") from error
    if not lines:
        raise DataError(f"{path}: holds no rows")
    if lines[0].lower().startswith("sep="):
        raise DataError(f"{path}:1: is a line for Excel, {lines[0].strip()!r}; remove it")
    mark = delimiter or _find_delimiter(lines, len(column_names))
    options = CsvOptions(delimiter=mark, encoding=encoding, quote=quote or '"')
    if quote is None:
        options, quote_notes = _with_quote(path, options, lines, is_masked=is_masked)
        notes += quote_notes
    rows = _parse_rows(lines, options)
    _check_names(path, rows, column_names)
    _check_rows(path, lines, rows, options, has_header=header and not column_names)
    inner = [value for row in rows[1:] if len(row) == len(rows[0]) for value in row[1:] if value]
    strip = bool(inner) and sum(value.startswith(" ") for value in inner) > _MOSTLY * len(inner)
    if not header and not column_names:
        column_names = [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
    changes = {"column_names": tuple(column_names), "strip_spaces": strip}
    return Dialect(CsvOptions.model_validate({**options.model_dump(), **changes}), notes)


def _check_arguments(**arguments: str | None) -> None:
    try:
        CsvOptions.model_validate({name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            message = f"--{problem['loc'][0]}: {message}, found {problem['input']!r}"
        raise ConfigError(message) from error


def _find_encoding(path: str, *, is_masked: bool) -> tuple[str, list[str]]:
    """Return the encoding of a file and notes on it: UTF-8 only if all of its bytes are."""
    with open_decompressed(path) as file:
        start = file.read(_SAMPLE_BYTES)
    marked = detect_encoding_mark(start)
    if marked is not None:
        return marked, []
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 0
    first: tuple[int, UnicodeDecodeError] | None = None
    seen: set[int] = set()
    for block in _read_blocks(path):
        if first is None:
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                first = lines + error.object[: error.start].count(b"\n") + 1, error
        if first is not None:
            seen |= {*block.translate(None, _ASCII)}
        lines += block.count(b"\n")
    return ("utf-8", []) if first is None else _find_one_byte_encoding(path, *first, seen, is_masked=is_masked)


def _find_one_byte_encoding(
    path: str, line: int, error: UnicodeDecodeError, seen: set[int], *, is_masked: bool
) -> tuple[str, list[str]]:
    """Return the encoding of Western Europe that has these bytes: latin-1 has control characters at 0x80 to 0x9f.

    Raises:
      DataError: The bytes are of another encoding.
    """
    controls = bytes(sorted(byte for byte in seen if byte < 0xA0))
    encoding = "cp1252" if controls else "latin-1"
    start = error.object.rfind(b"\n", 0, error.start) + 1
    lines = error.object[start:]
    if _NOT_IN_CP1252 & seen or _SIGN_IN_WORD.search(lines) or _has_long_runs(lines):
        raise DataError(
            f"{path}:{line}: is not UTF-8, nor an encoding of Western Europe such as cp1252; name the encoding with "
            f"--encoding: {_list_candidates(lines, is_masked=is_masked)}"
        )
    text = error.object[max(start, error.start - _MAX_SHOWN_CHARS // 2) :].splitlines()[0][:_MAX_SHOWN_CHARS]
    sample = MASK if is_masked else repr(text.decode(encoding, errors="replace"))
    return encoding, [
        f"{path}:{line}: is not UTF-8; read as {encoding}, it has {sample}. "
        "If that is wrong, name the encoding with --encoding"
    ]


def _has_long_runs(content: bytes) -> bool:
    """Return whether most bytes above ASCII have two such neighbours, as in Cyrillic, Greek, Chinese or Japanese.

    In the languages of Western Europe such letters stand alone.
    """
    runs = re.findall(rb"[\x80-\xff]+", content)
    total = sum(map(len, runs))
    long = [run for run in runs if len(run) > 2]
    return 2 * sum(map(len, long)) > total and len({*b"".join(long)}) >= _LEAST_LETTERS


def _list_candidates(content: bytes, *, is_masked: bool) -> str:
    """Return the encodings that read all of some lines without control characters, each with a word that it reads.

    Args:
      content: Lines that are not ASCII, the last of which may be cut off.
    """
    place = next(index for index, byte in enumerate(content) if byte >= 0x80)
    examples = []
    for encoding in _CANDIDATES:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(content)
        except UnicodeDecodeError:
            continue
        if not any(unicodedata.category(letter) in ("Cc", "Co") for letter in {*text} - {*"\r\n\t"}):
            sample = text[place:].splitlines()[0].split(",")[0].split(";")[0][: _MAX_SHOWN_CHARS // 2]
            examples.append(f"{encoding} reads {MASK if is_masked else repr(sample)}")
    if not examples:
        return f"it has the bytes {MASK if is_masked else content[place : place + 8]!r}"
    return ", ".join(examples)


def _read_blocks(path: str) -> Iterator[bytes]:
    """Yield the first bytes of a file, decompressed."""
    with open_decompressed(path) as file:
        for _ in range(_CHECKED_BYTES // _SAMPLE_BYTES):
            block = file.read(_SAMPLE_BYTES)
            if not block:
                return
            yield block


def _read_lines(path: str, encoding: str) -> list[str]:
    """Return the first lines that have a character, line ends included; the last only if it is whole."""
    with open_decompressed(path) as file:
        start = file.read(_SAMPLE_BYTES)
    is_whole = len(start) < _SAMPLE_BYTES
    text = codecs.getincrementaldecoder(encoding)().decode(start, final=is_whole).removeprefix("\ufeff")
    lines = io.StringIO(text, newline="").readlines()
    lines = lines if is_whole or len(lines) < 2 else lines[:-1]
    return [line for line in lines if line.strip("\r\n")][:_ROWS]


def _parse_rows(lines: Sequence[str], options: CsvOptions) -> list[list[str]]:
    if options.quote == "none":
        return list(csv.reader(lines, delimiter=options.delimiter, quoting=csv.QUOTE_NONE))
    rows = list(csv.reader(lines, delimiter=options.delimiter, quotechar=options.quote))
    # The last row of a sample may be cut off within quotes.
    return rows[:-1] if len(lines) == _ROWS and len(rows) > 1 else rows


def _find_delimiter(lines: Sequence[str], columns: int) -> str:
    """Return the character that cuts nearly every row into the fields of the first row.

    Args:
      lines: First lines of the file.
      columns: Number of columns if it is known, else 0.
    """
    fields: dict[str, int] = {}
    shares: dict[str, float] = {}
    usual: dict[str, tuple[float, int]] = {}
    for mark in (*DELIMITERS, " "):
        counts = Counter(len(row) for row in _parse_rows(lines, CsvOptions(delimiter=mark)))
        first = next(iter(counts))
        fields[mark] = columns or first
        shares[mark] = counts[fields[mark]] / counts.total()
        number, rows = counts.most_common(1)[0]
        usual[mark] = (rows / counts.total() if number > 1 else 0, number)
    consistent = [mark for mark in DELIMITERS if fields[mark] > 1 and shares[mark] >= _MOSTLY]
    if not consistent:
        if fields[" "] > 1 and shares[" "] == 1 and all(fields[mark] == 1 for mark in DELIMITERS):
            return " "
        # Lines before the header, or rows that do not fit it.
        several = [mark for mark in DELIMITERS if fields[mark] > 1] or DELIMITERS
        return max(several, key=lambda mark: (shares[mark] if fields[mark] > 1 else 0, usual[mark]))
    best = max(consistent, key=lambda mark: (fields[mark], shares[mark]))
    # A comma may be that of numbers: a;1,5;2,5 has one field more by its commas.
    rarer = [mark for mark in consistent if best == "," != mark and fields[mark] + 1 >= fields[best]]
    return rarer[0] if rarer else best


def _with_quote(
    path: str, options: CsvOptions, lines: Sequence[str], *, is_masked: bool
) -> tuple[CsvOptions, list[str]]:
    """Return options with the quotes that a file has, and notes on them."""
    single = options.model_copy(update={"quote": "'"})
    share = _compute_fitting_share(_parse_rows(lines, single))
    if _has_single_quotes(_parse_rows(lines, options)) or _MOSTLY <= share > _compute_fitting_share(
        _parse_rows(lines, options)
    ):
        return single, []
    problem = _find_quote_problem(path, options, len(_parse_rows(lines, options)[0]), is_masked=is_masked)
    if problem is None:
        return options, []
    plain = options.model_copy(update={"quote": "none"})
    if _compute_fitting_share(_parse_rows(lines, plain)) < _MOSTLY:
        return options, []
    line, reason = problem
    return plain, [f"{path}:{line}: a quote {reason}; so quotes are read as characters like any other (data.csv.quote)"]


def _check_names(path: str, rows: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """Reject names of columns that most rows have more or fewer fields than."""
    if not names:
        return
    fields, count = Counter(len(row) for row in rows).most_common(1)[0]
    if fields != len(names) and 2 * count > len(rows):
        raise ConfigError(
            f"--column-names: names {format_count(len(names), 'column')}, but the rows of {path} have "
            f"{format_count(fields, 'field')}"
        )


def _check_rows(
    path: str, lines: Sequence[str], rows: Sequence[Sequence[str]], options: CsvOptions, *, has_header: bool
) -> None:
    """Reject a file whose rows do not fit its header, or that another reader would cut into rows that do.

    Raises:
      DataError: Names the remedy.
    """
    share = _compute_fitting_share(rows)
    if share >= _MOSTLY or len(rows) < _LEAST_ROWS:
        return
    others: dict[str, tuple[str, dict[str, Any]]] = {
        "has spaces before its quotes": ("skipinitialspace=True", {"skipinitialspace": True}),
        "has backslashes before quotes within values": (
            "escapechar='\\\\'",
            {"escapechar": "\\", "doublequote": False},
        ),
    }
    for fault, (argument, arguments) in others.items():
        fitting = _compute_fitting_share(list(csv.reader(lines, delimiter=options.delimiter, **arguments)))
        if fitting >= _MOSTLY:
            raise DataError(
                f"{path}: {fault}; write it as RFC 4180 has it, as in pandas.read_csv('{path}', "
                f"sep={options.delimiter!r}, {argument}).to_csv(...)"
            )
    number, fitting_rows = Counter(len(row) for row in rows[1:]).most_common(1)[0]
    if has_header and fitting_rows >= _MOSTLY * (len(rows) - 1):
        raise DataError(
            f"{path}:1: the header has {len(rows[0])} of the {number} fields of a row; correct the header, or remove "
            "the lines before it"
        )


def _compute_fitting_share(rows: Sequence[Sequence[str]]) -> float:
    """Return the share of rows with as many fields as the first one."""
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _has_single_quotes(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a column's values stand between single quotes."""
    for column in zip(*[row for row in rows[1:] if len(row) == len(rows[0])], strict=False):
        values = [value.strip() for value in column if value.strip()]
        if values and all(len(value) > 1 and value[0] == value[-1] == "'" for value in values):
            return True
    return False


def _find_quote_problem(path: str, options: CsvOptions, fields: int, *, is_masked: bool) -> tuple[int, str] | None:
    """Return the line of the first quote that swallows rows, and the reason; None if none does."""
    check = QuoteCheck(options.delimiter, options.quote, fields, is_masked=is_masked)
    decoder = codecs.getincrementaldecoder(options.encoding)(errors="replace")
    for block in _read_blocks(path):
        check.add(block if options.encoding == "utf-8" else decoder.decode(block).encode())
        if check.problem is not None:
            return check.problem
    check.add(b"")
    return check.problem
