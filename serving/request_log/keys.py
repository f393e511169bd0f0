"""The keys of the rows of a request. Imports no TensorFlow."""

from collections.abc import Sequence
from typing import Any

from schemas.tables import examples

# Keys of the rows of a request: that of all, those by row, or the serialized tf.Example that have them.
Keys = str | tuple[str | None, ...] | tuple[bytes, ...] | None


def write_key(value: Any) -> str | None:
    """Return a key of a request as a string; None for a value that is not a key."""
    if isinstance(value, list) and len(value) == 1:
        # Columns of shape [rows, 1].
        (value,) = value
    match value:
        case str():
            return value or None
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            # 42.0 is the 42 of another client.
            return str(int(value)) if value.is_integer() else repr(value)
        case bytes():
            return value.decode(errors="replace") or None
    return None


def read_keys(keys: Keys, rows: int, column: str | None) -> list[str | None]:
    """Return the keys of a request, one a row; this may take a while."""
    if not isinstance(keys, tuple):
        return [keys] * rows
    if len(keys) != rows or column is None:
        return [None] * rows
    records = [key for key in keys if isinstance(key, bytes)]
    return _read_example_keys(records, column) if records else [key for key in keys if not isinstance(key, bytes)]


def _read_example_keys(records: Sequence[bytes], column: str) -> list[str | None]:
    keys: list[str | None] = [None] * len(records)
    for part in examples.decode(records, {column}):
        if column in part.columns.schema.names:
            strings = part.columns.column(column).to_pylist()
            keys[part.start : part.start + len(strings)] = strings
    return [write_key(key) for key in keys]
