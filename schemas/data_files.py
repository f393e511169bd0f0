"""Finds input files, local or remote, by pattern; `{SPAN}` and `{VERSION}` in it as TFX has them.

https://www.tensorflow.org/tfx/guide/examplegen#span describes spans and versions.
"""

import datetime
import fnmatch
import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs

from schemas.data import Data, FileSplit, Format
from schemas.errors import DataError
from schemas.readers import what_failed

_NUMBERS = re.compile(r"\{(SPAN|VERSION)(?::(\d+))?\}|\{(YYYY|MM|DD)\}")
_EPOCH = datetime.date(1970, 1, 1)
_CSV_ENDINGS = (".csv", ".tsv", ".txt")
_COMPRESSIONS = (".gz", ".bz2", ".zst")
_SPECIAL = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Input:
    """Files of a split: all of them, or those of one span."""

    split: str
    pattern: str
    span: int | None
    files: tuple[str, ...]


def inputs(data: Data) -> list[Input]:
    """What a config's split files are at this moment, the spans and versions of its window resolved.

    Raises:
      DataError: a pattern has no file, a span is not there, or a file belongs to two splits.
    """
    found: list[Input] = []
    for name, split in data.splits.items():
        if isinstance(split, FileSplit):
            for pattern, span in _of_window(data, name, split.files):
                found.append(Input(name, pattern, span, tuple(matching_files(data.base, pattern, name))))
    owner: dict[str, str] = {}
    for one in found:
        for path in one.files:
            if owner.setdefault(path, one.split) != one.split:
                raise DataError(f"{path}: is in the files of both '{owner[path]}' and '{one.split}' (data.splits)")
    return found


def has_spans(data: Data) -> bool:
    """Whether a pattern has numbers that stand for spans or versions, which only a list of the files can resolve."""
    return any(isinstance(split, FileSplit) and _NUMBERS.search(split.files) for split in data.splits.values())


def unlisted_inputs(data: Data) -> list[Input]:
    """The patterns of a config without spans, its files not looked for."""
    return [Input(name, split.files, None, ()) for name, split in data.splits.items() if isinstance(split, FileSplit)]


def matching_files(base: str, pattern: str, split: str) -> list[str]:
    """The files below `base` that match, in a stable order.

    Raises:
      DataError: there are none.
    """
    if "://" in base:
        files = _remote(base, pattern)
    else:
        files = sorted(path for path in glob.glob(os.path.join(base, pattern)) if os.path.isfile(path))
    if not files:
        raise DataError(f"{os.path.join(base, pattern)}: no such file (data.splits.{split}.files)")
    return files


def listed(source: str) -> list[str]:
    """The files of a path, a glob pattern or a folder, local or remote, in a stable order.

    Of a folder, those directly in it whose names do not start with `_` or `.`, which are not data.

    Raises:
      DataError: there are none, or they cannot be listed.
    """
    try:
        files = _listed_remotely(source) if "://" in source else _listed_here(source)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{source}: cannot be listed: {what_failed(error)}") from error
    if not files:
        raise DataError(f"{source}: {'holds no files' if os.path.isdir(source) else 'no such file'}")
    return sorted(files)


def guessed_format(path: str) -> Format | None:
    """What a file's name says of its format; None where it says nothing.

    >>> guessed_format("a.csv.gz"), guessed_format("data_tfrecord-00000-of-00001.gz"), guessed_format("a.xlsx")
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


def _listed_here(source: str) -> list[str]:
    if os.path.isfile(source):
        return [source]
    if os.path.isdir(source):
        return [entry.path for entry in os.scandir(source) if entry.is_file() and entry.name[0] not in "_."]
    return [path for path in glob.glob(source, recursive=True) if os.path.isfile(path)]


def _listed_remotely(source: str) -> list[str]:
    special = _SPECIAL.search(source)
    if special:
        base = source[: source.rindex("/", 0, special.start())]
        return _remote(base, source[len(base) + 1 :])
    filesystem, path = pyarrow.fs.FileSystem.from_uri(source.rstrip("/"))
    if filesystem.get_file_info(path).is_file:
        return [source]
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(path, allow_not_found=True))
    return [_uri(source, i.path) for i in found if i.is_file and i.base_name[0] not in "_."]


def _uri(base: str, path: str) -> str:
    """Of a path in the file system of another URI; who reads it (gs://anonymous@BUCKET) stays."""
    scheme, _, rest = base.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return f"{scheme}://{user}{at}{path}"


def _remote(base: str, pattern: str) -> list[str]:
    filesystem, folder = pyarrow.fs.FileSystem.from_uri(base)
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True))
    wanted = f"{folder}/{pattern}"
    return sorted(_uri(base, i.path) for i in found if i.is_file and fnmatch.fnmatch(i.path, wanted))


def _of_window(data: Data, split: str, pattern: str) -> list[tuple[str, int | None]]:
    """The pattern for each span of the window, highest version first filled in."""
    if not _NUMBERS.search(pattern):
        return [(pattern, None)]
    versions: dict[int, dict[int, str]] = {}
    for path in matching_files(data.base, _NUMBERS.sub("*", pattern), split):
        numbers = _numbers_in(
            pattern, os.path.relpath(path, data.base) if "://" not in path else path[len(data.base) + 1 :]
        )
        if numbers is not None:
            versions.setdefault(_span(numbers, path), {})[int(numbers.get("VERSION", "0"))] = _filled(pattern, numbers)
    if not versions:
        raise DataError(f"{os.path.join(data.base, pattern)}: no such file (data.splits.{split}.files)")
    latest = max(versions) if data.span is None else data.span
    wanted = range(latest - data.window + 1, latest + 1)
    gaps = [span for span in wanted if span not in versions]
    if gaps:
        there = ", ".join(map(str, sorted(versions)))
        raise DataError(
            f"{os.path.join(data.base, pattern)}: span {', '.join(map(str, gaps))} is missing; data.window asks for "
            f"{wanted[0]} to {latest}, and there are: {there}. Add the files, or set data.span or data.window"
        )
    return [(versions[span][max(versions[span])], span) for span in wanted]


def _numbers_in(pattern: str, path: str) -> dict[str, str] | None:
    """The texts that stand for SPAN, VERSION, YYYY, MM and DD in a path; None where it only looks alike."""
    expression, end, seen = "", 0, set()
    for match in _NUMBERS.finditer(pattern):
        name, width = match[1] or match[3], match[2] or {"YYYY": "4", "MM": "2", "DD": "2"}.get(match[3] or "")
        expression += fnmatch.translate(pattern[end : match.start()])[4:-3]
        expression += (
            f"(?P={name})" if name in seen else f"(?P<{name}>\\d{{{width}}})" if width else f"(?P<{name}>\\d+)"
        )
        seen.add(name)
        end = match.end()
    expression += fnmatch.translate(pattern[end:])[4:-3]
    found = re.fullmatch(expression, path)
    return found.groupdict() if found else None


def _span(numbers: Mapping[str, str], path: str) -> int:
    if "YYYY" not in numbers:
        return int(numbers.get("SPAN", "0"))
    try:
        date = datetime.date(int(numbers["YYYY"]), int(numbers.get("MM", "1")), int(numbers.get("DD", "1")))
    except ValueError as error:
        raise DataError(f"{path}: {'-'.join(numbers.values())} is not a date") from error
    return (date - _EPOCH).days


def _filled(pattern: str, numbers: Mapping[str, str]) -> str:
    return _NUMBERS.sub(lambda match: numbers[match[1] or match[3]], pattern)
