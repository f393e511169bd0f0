"""The fingerprint of input files by their content, which the cache of ExampleGen follows. Imports no TFX."""

import hashlib
from collections.abc import Iterable
from typing import Protocol

from schemas.data import Data
from schemas.tables import bigquery
from schemas.tables.content_hash import FileContent, Memory, contents
from schemas.tables.data_files import inputs, matching_files

# Between a split's name and the span that one of its inputs holds.
SPAN_SEPARATOR = "@"
# Hashes of earlier runs, below the folder of ExampleGen's output.
MEMORY_FILE = ".system/input_hashes.json"
# TFX's name of the fingerprint among the properties of the examples.
FINGERPRINT_PROPERTY = "input_fingerprint"


class SplitPattern(Protocol):
    """A split of TFX's input config, or `schemas.tables.data_files.Input`."""

    @property
    def name(self) -> str:
        """Name of the split, with its span behind SPAN_SEPARATOR."""

    @property
    def pattern(self) -> str:
        """Pattern of its files, or table or query."""


class _NamedPattern:
    def __init__(self, name: str, pattern: str) -> None:
        self.name, self.pattern = name, pattern


def name_input(split: str, span: int | None) -> str:
    """Return the name of an input: of a split, or of one of its spans."""
    return split if span is None else f"{split}{SPAN_SEPARATOR}{span}"


def compute_fingerprint(base: str, splits: Iterable[SplitPattern], memory: Memory) -> str:
    """Return a line for each split: the number of its files, their bytes, and a hash of their names and contents.

    Args:
      base: Folder of the files, or URI of the project that reads BigQuery.
      splits: Names and patterns, whose spans are resolved.
      memory: Hashes of earlier runs.

    Raises:
      DataError: A pattern matches no file, or a file, table or query cannot be read.
    """
    if bigquery.is_bigquery(base):
        return "\n".join(bigquery.fingerprint(base, split.name, split.pattern) for split in splits)
    files = [(split.name, matching_files(base, split.pattern, _get_split_name(split))) for split in splits]
    paths = list(dict.fromkeys(path for _, matching in files for path in matching))
    contents_by_path = dict(zip(paths, contents(paths, memory), strict=True))
    return "\n".join(
        _format_line(base, name, {path: contents_by_path[path] for path in matching}) for name, matching in files
    )


def compute_data_fingerprint(data: Data, memory: Memory) -> str:
    """Return the fingerprint that ExampleGen would have now; empty if another ExampleGen reads the data.

    Raises:
      DataError: The files of a split do not exist, or cannot be read.
    """
    if data.example_gen is not None:
        return ""
    if data.bigquery is not None:
        patterns = [_NamedPattern(name, split.pattern) for name, split in data.read_splits.items()]
    else:
        patterns = [_NamedPattern(name_input(i.split, i.span), i.pattern) for i in inputs(data)]
    return compute_fingerprint(data.input_base, patterns, memory)


def _format_line(base: str, split: str, contents_of: dict[str, FileContent]) -> str:
    # With their names, for these are in error messages and in `rejects.jsonl`.
    named = [f"{path.removeprefix(base)}\0{content.digest}" for path, content in contents_of.items()]
    digest = hashlib.blake2b("\0".join(named).encode(errors="surrogateescape"), digest_size=16).hexdigest()
    total = sum(content.bytes for content in contents_of.values())
    return f"split:{split},num_files:{len(contents_of)},total_bytes:{total},content:{digest}"


def _get_split_name(split: SplitPattern) -> str:
    return str(split.name.split(SPAN_SEPARATOR)[0])
