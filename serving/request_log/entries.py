"""The entry of one request in the log, which the routes fill with references and nothing else.

The entry of a request is a context variable, so that the code between a route and the model need not pass it on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from schemas.tables import examples
from serving.model.inputs import Columns
from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.columns import LoggedVersion, Outputs
from serving.request_log.sampling import write_key

MAX_REQUEST_ID_CHARS = 128
_CURRENT: ContextVar["Entry | None"] = ContextVar("request_log_entry", default=None)

# Keys of the rows of a request: that of all, values by row, or the serialized tf.Example that have them.
Keys = str | tuple[Any, ...] | None
# What waits to be written, of one request: its ID, time in microseconds, keys, number and signature of the version,
# inputs, outputs, message of its rejection, rows, bytes. The inputs of a single row are its values, else columns.
# A plain tuple of plain values: Python's garbage collector passes over it, and would walk through all of a model for
# some thousands of objects that it sees live on.
Record = tuple[str, int, Keys, int | None, str, Mapping[str, Any], Outputs, str, int, int]


class Entry:
    """One request, until it has its answer."""

    __slots__ = (
        "_append",
        "_columns",
        "_identity",
        "_keys",
        "_microseconds",
        "_outputs",
        "_rows",
        "_version",
        "column",
    )

    def __init__(
        self,
        append: Callable[[Record, LoggedVersion | None], None],
        identity: str,
        header_key: str | None,
        column: str | None,
    ) -> None:
        """Args:
        append: function that hands a record to the log.
        identity: ID of the request.
        header_key: key of all rows.
        column: column that has the key of each row; None if there is none.
        """
        self._append = append
        self._identity = identity
        self._microseconds = time.time_ns() // 1000
        self._keys: Keys = header_key
        self._version: LoggedVersion | None = None
        self._columns: Columns = {}
        self._outputs: Outputs = {}
        self._rows = 1
        self.column = column
        _CURRENT.set(self)

    def take_keys(self, keys: Sequence[Any]) -> None:
        """Take the keys of the rows, or the serialized tf.Example that have them."""
        self._keys = tuple(keys)

    def take_prediction(self, version: LoggedVersion, columns: Columns, outputs: Outputs, rows: int) -> None:
        """Take a prediction; of several for one request, the first one is logged."""
        if self._version is None:
            self._version, self._columns, self._outputs, self._rows = version, columns, outputs, rows

    def finish(self, error: str = "", size: int = 0) -> None:
        """Hand the entry to the log, unless the request had no answer.

        Args:
          error: Message of the answer if the request was rejected.
          size: Size of its content, in bytes.
        """
        _CURRENT.set(None)
        version, keys = self._version, self._keys
        if error:
            # The rows that its keys belong to are not logged.
            keys = keys if isinstance(keys, str) else None
            self._append((self._identity, self._microseconds, keys, None, "", {}, {}, error, 1, size), None)
        elif version is not None:
            inputs: Mapping[str, Any] = self._columns
            if self._rows == 1:
                inputs = {name: values[0] for name, values in inputs.items()}
            record = (
                *(self._identity, self._microseconds, keys, version.number, version.signature),
                *(inputs, self._outputs, "", self._rows, size),
            )
            self._append(record, version)


def read_keys(keys: Keys, rows: int, column: str | None) -> list[str | None]:
    """Return the keys of a request, one a row; this may take a while."""
    if not isinstance(keys, tuple):
        return [keys] * rows
    if len(keys) != rows or column is None:
        return [None] * rows
    if isinstance(keys[0], bytes):
        return _read_example_keys(keys, column)
    return [write_key(value) for value in keys]


def _read_example_keys(records: Sequence[bytes], column: str) -> list[str | None]:
    keys: list[str | None] = [None] * len(records)
    for part in examples.decode(records, {column}):
        if column in part.columns.schema.names:
            strings = part.columns.column(column).to_pylist()
            keys[part.start : part.start + len(strings)] = strings
    return [write_key(key) for key in keys]


def note_prediction(version: LoggedVersion, columns: Columns, outputs: Outputs, rows: int) -> None:
    """Add a prediction to the entry of the current request."""
    entry = _CURRENT.get()
    if entry is not None:
        entry.take_prediction(version, columns, outputs, rows)


def note_row_keys(predictor: Predictor | TensorPredictor, rows: list[Any]) -> list[Any]:
    """Note the keys in rows of named values; return the rows as the model takes them.

    A key that is not a column of the training table is taken out, since the model would reject it.
    """
    entry = _CURRENT.get()
    if entry is None or entry.column is None:
        return rows
    column = entry.column
    entry.take_keys([row.get(column) if isinstance(row, Mapping) else None for row in rows])
    if _takes(predictor, column):
        return rows
    return [
        {name: value for name, value in row.items() if name != column} if isinstance(row, Mapping) else row
        for row in rows
    ]


def note_column_keys(predictor: Predictor | TensorPredictor, columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Note the keys in named columns; return the columns as the model takes them."""
    entry = _CURRENT.get()
    if entry is None or entry.column is None or entry.column not in columns:
        return columns
    keys = columns[entry.column]
    entry.take_keys(keys if isinstance(keys, list) else [])
    if _takes(predictor, entry.column):
        return columns
    return {name: values for name, values in columns.items() if name != entry.column}


def note_record_keys(records: Sequence[bytes]) -> None:
    """Note serialized tf.Example that have the keys, to be read later."""
    entry = _CURRENT.get()
    if entry is not None and entry.column is not None:
        entry.take_keys(records)


def _takes(predictor: Predictor | TensorPredictor, column: str) -> bool:
    if isinstance(predictor, TensorPredictor):
        return column in predictor.specs
    return column in predictor.inputs.own_columns or column in predictor.inputs.other_columns
