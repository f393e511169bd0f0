"""Reads columns that have several values in each row: lists and vectors. Imports no TensorFlow.

Such a row is one string wherever a table is strings: its values with the declared delimiter between them. A real list
(of Parquet, JSON or tf.Example) is marked until its column's rule is applied, since a value of it may hold the
delimiter.
"""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cli.counts import format_count

# The first character of a real list, the one between its values, and the one that stands for a null among them.
LIST_START, LIST_SEPARATOR, LIST_NULL = "\x1e", "\x1f", "\x00"
_BRACKETS = r"^\s*[\[\(]|[\]\)]\s*$"
# A list that a string has.
WRITTEN_LIST = r"^\s*\[.*\]\s*$"
_MAX_FLOAT32 = 3.4028235677973366e38


@dataclass(frozen=True)
class ItemFormat:
    """How several values in one row are written.

    Attributes:
      delimiter: String between the values.
      max_items: Limit on the values of a row; None for a vector.
      numbers: Number of numbers in a row of a vector; None for a list of categories.
    """

    delimiter: str
    max_items: int | None = None
    numbers: int | None = None

    @property
    def expected(self) -> str:
        """Description of a value, for messages."""
        if self.numbers is not None:
            return format_count(self.numbers, "number")
        return f"a list, or a string of values between {self.delimiter!r}"


def is_list_of_values(type_: pa.DataType) -> bool:
    """Return whether a type is that of lists of numbers or strings."""
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(is_list and not pa.types.is_nested(type_.value_type))


def as_list_strings(lists: pa.Array, decimal: str) -> pa.Array:
    """Return a column of lists as marked strings, null where a list is null; [n]."""
    values = lists.flatten()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_nested(values.type):
        raise pa.ArrowNotImplementedError(f"lists of {values.type}")
    strings = pc.fill_null(values.cast(pa.string()), LIST_NULL)
    if decimal != "." and pa.types.is_floating(values.type):
        strings = pc.replace_substring(strings, ".", decimal)
    # Built again from lengths: a sliced array, or one of a fixed size, has other offsets than its values.
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, strings), LIST_SEPARATOR)
    marked = pc.binary_join_element_wise(pa.scalar(LIST_START), joined, "")
    return pc.if_else(lists.is_valid(), marked, pa.scalar(None, pa.string()))


def join_items(values: Sequence[str | None]) -> str:
    """Return the values of one list as a marked string."""
    return LIST_START + LIST_SEPARATOR.join(LIST_NULL if value is None else value for value in values)


def split_items(text: str) -> list[str]:
    """Return the values of a marked string."""
    return text.removeprefix(LIST_START).split(LIST_SEPARATOR) if len(text) > 1 else []


def mark_written_lists(strings: pa.Array) -> pa.Array:
    """Return strings such as `["A", "B"]` or `['A', 'B']` as real lists, and all others as they are; [n]."""
    written = pc.fill_null(pc.match_substring_regex(strings, WRITTEN_LIST), False)
    if not pc.any(written).as_py():
        return strings
    encoded = strings.filter(written).dictionary_encode()
    marked = pa.array([_mark_list(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return pc.replace_with_mask(strings, written, marked.take(encoded.indices))


def _mark_list(text: str) -> str:
    """Return a list of JSON or Python as a marked string; any other text as it is."""
    try:
        values = json.loads(text)
    except ValueError:
        try:
            # As pandas writes a list into CSV. No name or call is evaluated.
            values = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
    if any(isinstance(value, bool) or not isinstance(value, str | int | float | None) for value in values):
        return text
    return join_items([value if value is None else str(value) for value in values])


def read_items(strings: pa.Array, item_format: ItemFormat | None) -> tuple[pa.Array, Mapping[int, str]]:
    """Return rows of several values as strings with the delimiter between them, and the reasons of faults by row.

    Args:
      strings: Values, null where one is missing, real lists marked; [n].
      item_format: How several values are written; None for a column of one value, in which a list is a fault.
    """
    if item_format is not None and item_format.numbers is None:
        strings = mark_written_lists(strings)
    is_list = pc.fill_null(pc.starts_with(strings, LIST_START), False)
    has_lists = pc.any(is_list).as_py()
    if item_format is None:
        if not has_lists:
            return strings, {}
        rows = np.flatnonzero(np.asarray(is_list)).tolist()
        sizes = {row: len(split_items(strings[row].as_py())) for row in rows}
        return strings, {
            row: f"expected one value, found a list of {size:,}; declare the column as a list or a vector"
            for row, size in sizes.items()
        }
    faults: dict[int, str] = {}
    if has_lists:
        # A value of a list with the delimiter would be two values.
        has_delimiter = pc.and_(is_list, pc.match_substring(strings, item_format.delimiter))
        has_null = pc.and_(is_list, pc.match_substring(strings, LIST_NULL))
        for row in np.flatnonzero(np.asarray(pc.fill_null(has_delimiter, False))).tolist():
            faults[row] = (
                f"a value of the list holds the delimiter {item_format.delimiter!r}; declare another delimiter"
            )
        for row in np.flatnonzero(np.asarray(pc.fill_null(has_null, False))).tolist():
            faults[row] = "expected values only, not a null"
        plain = pc.replace_substring(
            pc.replace_substring(strings, LIST_START, ""), LIST_SEPARATOR, item_format.delimiter
        )
        strings = pc.if_else(is_list, plain, strings)
    if item_format.numbers is not None:
        strings = pc.replace_substring_regex(strings, _BRACKETS, "")
    strings = pc.if_else(pc.equal(pc.utf8_trim_whitespace(strings), ""), pa.scalar(None, pa.string()), strings)
    if item_format.numbers is not None and item_format.delimiter.isspace():
        parts = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(strings))
    else:
        parts = pc.split_pattern(strings, item_format.delimiter)
    sizes = pc.fill_null(pc.list_value_length(parts), 0).to_numpy(zero_copy_only=False)
    if item_format.max_items is not None:
        for row in np.flatnonzero(sizes > item_format.max_items).tolist():
            faults.setdefault(
                row,
                f"expected at most {format_count(item_format.max_items, 'value')} (max_values), not "
                f"{int(sizes[row]):,}",
            )
    if item_format.numbers is not None:
        faults = {**_find_wrong_vectors(strings, parts, sizes, item_format.numbers), **faults}
    return strings, faults


def _find_wrong_vectors(strings: pa.Array, parts: pa.Array, sizes: np.ndarray, numbers: int) -> dict[int, str]:
    """Return the reasons why rows are not vectors of so many finite numbers."""
    valid = np.asarray(strings.is_valid())
    faults = {
        int(row): f"expected {format_count(numbers, 'number')} (length), not {int(sizes[row]):,}"
        for row in np.flatnonzero(valid & (sizes != numbers))
    }
    try:
        values = pc.utf8_trim_whitespace(parts.flatten()).cast(pa.float64()).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(~(np.abs(values) < _MAX_FLOAT32))
    except pa.ArrowInvalid:
        wrong = np.flatnonzero([not _is_number(text) for text in parts.flatten().to_pylist()])
    if len(wrong):
        owners = np.repeat(np.arange(len(sizes)), sizes)
        flat = parts.flatten()
        for place in reversed(wrong.tolist()):
            faults[int(owners[place])] = f"expected {numbers:,} finite numbers, found {flat[place].as_py()[:120]!r}"
    return faults


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and abs(float(text)) < _MAX_FLOAT32
    except ValueError:
        return False
