"""Finds input files, local or remote, by name or pattern; `{SPAN}` and `{VERSION}` in it as TFX has them.

A name that exists goes before the pattern that it could be. `data [1]/a[b].csv` is that file if it exists, and
`data [1]/*.csv` is of the folder `data [1]` if it exists. In a pattern `[[]`, `[*]` and `[?]` stand for themselves.

https://www.tensorflow.org/tfx/guide/examplegen#span describes spans and versions.
"""

import contextlib
import datetime
import fnmatch
import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs

from cli.errors import DataError
from schemas.data import Data, FileSplit, Format
from schemas.tables import bigquery, locations
from schemas.tables.locations import describe_cause

_NUMBERS = re.compile(r"\{(SPAN|VERSION)(?::(\d+))?\}|\{(YYYY|MM|DD)\}")
_EPOCH = datetime.date(1970, 1, 1)
_CSV_ENDINGS = (".csv", ".tsv", ".txt")
_COMPRESSIONS = (".gz", ".bz2", ".zst")
_SPECIAL = re.compile(r"[*?\[]")


class MissingFilesError(DataError):
    """No file has a name that fits the pattern of a split."""


@dataclass(frozen=True)
class SplitInput:
    """Files of a split, all of them or those of one span; or its rows in BigQuery."""

    split: str
    pattern: str
    span: int | None
    files: tuple[str, ...]


def resolve_inputs(data: Data) -> list[SplitInput]:
    """Return what a config's split files are at this moment, the spans and versions of its window resolved.

    Of BigQuery, the tables; queries are run.

    Raises:
      DataError: a pattern has no file, a span is not there, or a file belongs to two splits. Or a table or query of
        BigQuery cannot be read.
    """
    if data.bigquery is not None:
        return [
            SplitInput(name, split.pattern, None, (bigquery.find_rows(data.input_base, name, split.pattern).uri,))
            for name, split in data.read_splits.items()
        ]
    split_inputs: list[SplitInput] = []
    for name, split in data.splits.items():
        if isinstance(split, FileSplit):
            for pattern, span in _resolve_window(data, name, split.files):
                split_inputs.append(SplitInput(name, pattern, span, tuple(match_files(data.base, pattern, name))))
    owner: dict[str, str] = {}
    for split_input in split_inputs:
        for path in split_input.files:
            if owner.setdefault(path, split_input.split) != split_input.split:
                raise DataError(
                    f"{path}: is in the files of both '{owner[path]}' and '{split_input.split}' (data.splits)"
                )
    return split_inputs


def has_spans(data: Data) -> bool:
    """Return whether a pattern has numbers that stand for spans or versions, which a list of files resolves."""
    return any(isinstance(split, FileSplit) and _NUMBERS.search(split.files) for split in data.splits.values())


def name_next_file(data: Data, split: str, today: datetime.date | None = None) -> str:
    """Return the path of a new file of a split: version 1 of its next span, or of today's where spans are dates.

    Args:
      data: Location of the files, on this machine.
      split: Split that is read from files.
      today: Date of a span that is one; None for the current one.

    Raises:
      DataError: The pattern leaves the name open.
    """
    declared = data.splits[split]
    assert isinstance(declared, FileSplit)
    pattern = declared.files
    spans = [0]
    if _NUMBERS.search(pattern):
        with contextlib.suppress(DataError):
            for path in _match_all_spans(data.base, pattern, split):
                numbers = _parse_numbers(pattern, os.path.relpath(path, data.base))
                if numbers is not None and "SPAN" in numbers:
                    spans.append(int(numbers["SPAN"]))
    date = today or datetime.datetime.now(datetime.UTC).date()
    values = {"SPAN": max(spans) + 1, "VERSION": 1, "YYYY": date.year, "MM": date.month, "DD": date.day}
    widths = {"YYYY": 4, "MM": 2, "DD": 2}

    def fill(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        return f"{values[name]:0{match[2] or widths.get(name, 0)}}" if match[2] or name in widths else str(values[name])

    name = _NUMBERS.sub(fill, pattern)
    # One star of the file's own name is its free part.
    folder, _, last = name.rpartition("/")
    last = last.replace("*", "outcomes", 1)
    name = f"{folder}/{last}" if folder else last
    if _SPECIAL.search(name):
        raise DataError(f"data.splits.{split}.files: '{pattern}' leaves the name of a new file open; give it: --output")
    return os.path.join(data.base, name)


def list_patterns(data: Data) -> list[SplitInput]:
    """Return the patterns, tables and queries of a config without spans, its files not looked for."""
    return [SplitInput(name, split.pattern, None, ()) for name, split in data.read_splits.items()]


def match_files(base: str, pattern: str, split: str) -> list[str]:
    """Return the files below `base` that have a name or match a pattern, in a stable order.

    Args:
      base: Folder, never a pattern.
      pattern: Name or glob pattern below it; `**` stands for any number of folders.
      split: Name of the split, for the error.

    Raises:
      DataError: There are none, or they cannot be listed.
    """
    try:
        files = _match_remote_files(base, pattern) if locations.is_remote(base) else _match_local_files(base, pattern)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{base}: cannot be listed: {describe_cause(error)} (data.base)") from error
    if not files:
        raise MissingFilesError(f"{os.path.join(base, pattern)}: no such file (data.splits.{split}.files)")
    return files


def list_files(source: str) -> list[str]:
    """Return the files of a path, a glob pattern or a folder, local or remote, in a stable order.

    Of a folder, those directly in it whose names do not start with `_` or `.`, which are not data.

    Raises:
      DataError: there are none, or they cannot be listed.
    """
    try:
        files = _list_remote_files(source) if "://" in source else _list_local_files(source)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source}: cannot be listed: {describe_cause(error)}") from error
    if not files:
        raise DataError(f"{source}: {'holds no files' if os.path.isdir(source) else 'no such file'}")
    return sorted(files)


def guess_format(path: str) -> Format | None:
    """Return the format that a file's name suggests; None if it suggests none.

    >>> guess_format("a.csv.gz"), guess_format("data_tfrecord-00000-of-00001.gz"), guess_format("a.xlsx")
    ('csv', 'tfrecord', None)
    """
    name = os.path.basename(path).lower()
    for ending in _COMPRESSIONS:
        name = name.removesuffix(ending)
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    if "tfrecord" in name or re.search(r"-\d+-of-\d+$", name):
        return "tfrecord"
    return "csv" if name.endswith(_CSV_ENDINGS) else None


def split_literal_folder(path: str, base: str = "") -> tuple[str, str]:
    """Split a local path into the longest folder that exists, taken literally, and the rest, which may be a pattern.

    Args:
      path: Path from `base`, or an absolute one.
      base: Folder; "" is the current one.
    """
    if path.startswith("/"):
        base, path = "/", path.lstrip("/")
    while "/" in path:
        name, _, below = path.partition("/")
        if not os.path.isdir(os.path.join(base, name)):
            break
        base, path = os.path.join(base, name), below.lstrip("/")
    return base, path


def _match_local_files(base: str, pattern: str) -> list[str]:
    """Return the files of a name or pattern below a folder; "" is the current one."""
    literal = os.path.join(base, pattern)
    if os.path.isfile(literal):
        return [literal]
    folder, rest = split_literal_folder(pattern, base)
    paths = (os.path.join(folder, name) for name in glob.glob(rest, root_dir=folder or None, recursive=True))
    return sorted(path for path in paths if os.path.isfile(path))


def _list_local_files(source: str) -> list[str]:
    if os.path.isdir(source):
        return [entry.path for entry in os.scandir(source) if entry.is_file() and entry.name[0] not in "_."]
    return _match_local_files("", source)


def _list_remote_files(source: str) -> list[str]:
    source = source.rstrip("/")
    filesystem, path = locations.open_filesystem(source)
    if filesystem.get_file_info(path).is_file:
        return [source]
    infos = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    files = [locations.locate(source, i.path) for i in infos if i.is_file and i.base_name[0] not in "_."]
    special = _SPECIAL.search(source)
    if files or special is None:
        return files
    base = source[: source.rindex("/", 0, special.start())]
    return _match_remote_files(base, source[len(base) + 1 :])


def _match_remote_files(base: str, pattern: str) -> list[str]:
    """Return the files of a name or pattern below a remote folder."""
    filesystem, folder = locations.open_filesystem(base)
    literal = f"{folder}/{pattern}"
    if filesystem.get_file_info(literal).is_file:
        return [locations.locate(base, literal)]
    selector = pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True)
    names = [i.path[len(folder) + 1 :] for i in filesystem.get_file_info(selector) if i.is_file]
    below, steps = "", pattern.split("/")
    while len(steps) > 1 and any(name.startswith(f"{below}{steps[0]}/") for name in names):
        below = f"{below}{steps.pop(0)}/"
    fitting = [n for n in names if n.startswith(below) and _is_match(n[len(below) :].split("/"), steps)]
    return sorted(locations.locate(base, f"{folder}/{name}") for name in fitting)


def _is_match(names: Sequence[str], steps: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern, by the rules of Python's `glob`."""
    if not steps:
        return not names
    if steps[0] == "**":
        return any(_is_match(names[start:], steps[1:]) for start in range(len(names) + 1))
    if not names or (names[0].startswith(".") and not steps[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(names[0], steps[0]) and _is_match(names[1:], steps[1:])


def _resolve_window(data: Data, split: str, pattern: str) -> list[tuple[str, int | None]]:
    """Return the pattern for each span of the window, highest version first filled in."""
    if not _NUMBERS.search(pattern):
        return [(pattern, None)]
    patterns = find_spans(data.base, pattern, split)
    latest = max(patterns) if data.span is None else data.span
    spans = range(latest - data.window + 1, latest + 1)
    gaps = [span for span in spans if span not in patterns]
    if gaps:
        present = ", ".join(map(str, patterns))
        raise DataError(
            f"{os.path.join(data.base, pattern)}: span {', '.join(map(str, gaps))} is missing; data.window asks for "
            f"{spans[0]} to {latest}, and there are: {present}. Add the files, or set data.span or data.window"
        )
    return [(patterns[span], span) for span in spans]


def find_spans(base: str, pattern: str, split: str) -> dict[int, str]:
    """Return the pattern of each span that has files now, its highest version filled in, in the order of the spans.

    Args:
      base: Folder of the files.
      pattern: Pattern below it, with numbers that stand for spans or versions.
      split: Name of the split, for the error.

    Raises:
      DataError: There is none, or the files cannot be listed.
    """
    versions: dict[int, dict[int, str]] = {}
    for path in _match_all_spans(base, pattern, split):
        is_remote = locations.is_remote(path)
        below = path[len(base.rstrip("/")) + 1 :] if is_remote else os.path.relpath(path, base)
        numbers = _parse_numbers(pattern, below)
        if numbers is not None:
            versions.setdefault(_parse_span(numbers, path), {})[int(numbers.get("VERSION", "0"))] = _fill(
                pattern, numbers
            )
    if not versions:
        raise MissingFilesError(f"{os.path.join(base, pattern)}: no such file (data.splits.{split}.files)")
    return {span: versions[span][max(versions[span])] for span in sorted(versions)}


def has_span_numbers(pattern: str) -> bool:
    """Return whether a pattern has numbers that stand for spans; versions alone are none."""
    return any((match[1] or match[3]) != "VERSION" for match in _NUMBERS.finditer(pattern))


def format_span(pattern: str, span: int) -> str:
    """Return a span as the names of its files have it: a number, or a date."""
    return (_EPOCH + datetime.timedelta(days=span)).isoformat() if "{YYYY}" in pattern else str(span)


def _match_all_spans(base: str, pattern: str, split: str) -> list[str]:
    """Return the files of a pattern with numbers: those whose names are the rest literally, if there are any."""
    ends = [0, *(end for match in _NUMBERS.finditer(pattern) for end in match.span()), len(pattern)]
    literal = "*".join(glob.escape(pattern[start:end]) for start, end in zip(ends[::2], ends[1::2], strict=True))
    with contextlib.suppress(DataError):
        return match_files(base, literal, split)
    return match_files(base, _NUMBERS.sub("*", pattern), split)


def _parse_numbers(pattern: str, path: str) -> dict[str, str] | None:
    """Return the texts that stand for SPAN, VERSION, YYYY, MM and DD in a path; None if it does not match."""
    expression, end, seen = "", 0, set()
    for match in _NUMBERS.finditer(pattern):
        name, width = match[1] or match[3], match[2] or {"YYYY": "4", "MM": "2", "DD": "2"}.get(match[3] or "")
        expression += _build_expression(pattern[end : match.start()])
        expression += (
            f"(?P={name})" if name in seen else f"(?P<{name}>\\d{{{width}}})" if width else f"(?P<{name}>\\d+)"
        )
        seen.add(name)
        end = match.end()
    expression += _build_expression(pattern[end:])
    whole_match = re.fullmatch(expression, path)
    return whole_match.groupdict() if whole_match else None


def _build_expression(text: str) -> str:
    """Return a regular expression for a piece of a path, each of whose names stands for itself or is a pattern."""
    return "/".join(f"(?:{re.escape(name)}|{fnmatch.translate(name)[4:-3]})" for name in text.split("/"))


def _parse_span(numbers: Mapping[str, str], path: str) -> int:
    if "YYYY" not in numbers:
        return int(numbers.get("SPAN", "0"))
    try:
        date = datetime.date(int(numbers["YYYY"]), int(numbers.get("MM", "1")), int(numbers.get("DD", "1")))
    except ValueError as error:
        raise DataError(f"{path}: {'-'.join(numbers.values())} is not a date") from error
    return (date - _EPOCH).days


def _fill(pattern: str, numbers: Mapping[str, str]) -> str:
    return _NUMBERS.sub(lambda match: numbers[match[1] or match[3]], pattern)
