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


class Entry:
    """One request.

    Attributes:
      identity: ID of the request.
      microseconds: Time when it came, since 1970.
      rows: Number of its rows; 1 if it was rejected.
      bytes: Size of its content.
      version: Version that predicted it; None if it was rejected.
      columns, outputs: Inputs and outputs of the model.
      error: Message of the answer; empty unless it was rejected.
    """

    __slots__ = (
        "_append",
        "_are_records",
        "_header_key",
        "_key_column",
        "_keys",
        "bytes",
        "columns",
        "error",
        "identity",
        "microseconds",
        "outputs",
        "rows",
        "version",
    )

    def __init__(
        self, append: Callable[["Entry"], None], identity: str, header_key: str | None, key_column: str | None
    ) -> None:
        self._append = append
        self._header_key, self._key_column = header_key, key_column
        # Values of the key's column, or serialized records that have it.
        self._keys: Sequence[Any] | None = None
        self._are_records = False
        self.identity = identity
        self.microseconds = time.time_ns() // 1000
        self.rows, self.bytes = 1, 0
        self.version: LoggedVersion | None = None
        self.columns: Columns = {}
        self.outputs: Outputs = {}
        self.error = ""
        _CURRENT.set(self)

    def finish(self, error: str = "", size: int = 0) -> None:
        """Hand the entry to the log, unless the request had no answer.

        Args:
          error: Message of the answer if the request was rejected.
          size: Size of its content, in bytes.
        """
        _CURRENT.set(None)
        if error:
            self.version, self.columns, self.outputs, self.rows = None, {}, {}, 1
        elif self.version is None:
            return
        self.error, self.bytes = error, size
        self._append(self)

    def read_keys(self) -> list[str | None]:
        """Return the key of each row; this may take a while."""
        if self._keys is None or self.version is None or len(self._keys) != self.rows:
            return [self._header_key] * self.rows
        if self._are_records:
            return _read_example_keys(self._keys, self._key_column or "")
        return [write_key(value) for value in self._keys]


def _read_example_keys(records: Sequence[bytes], column: str) -> list[str | None]:
    keys = [None] * len(records)
    for part in examples.decode(records, {column}):
        if column in part.columns.schema.names:
            strings = part.columns.column(column).to_pylist()
            keys[part.start : part.start + len(strings)] = strings
    return [write_key(key) for key in keys]


def note_prediction(version: LoggedVersion, columns: Columns, outputs: Outputs, rows: int) -> None:
    """Add the prediction of the current request to its entry; of several, the first one is logged."""
    entry = _CURRENT.get()
    if entry is not None and entry.version is None:
        entry.version, entry.columns, entry.outputs, entry.rows = version, columns, outputs, rows


def take_row_keys(predictor: Predictor | TensorPredictor, rows: list[Any]) -> list[Any]:
    """Note the keys in rows of named values; return the rows as the model takes them.

    A key that is no column of the training table is taken out, since the model would reject it.
    """
    entry = _CURRENT.get()
    column = entry._key_column if entry is not None else None
    if entry is None or column is None:
        return rows
    entry._keys = [row.get(column) if isinstance(row, Mapping) else None for row in rows]
    if _takes(predictor, column):
        return rows
    return [
        {name: value for name, value in row.items() if name != column} if isinstance(row, Mapping) else row
        for row in rows
    ]


def take_column_keys(predictor: Predictor | TensorPredictor, columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Note the keys in named columns; return them as `take_row_keys` does."""
    entry = _CURRENT.get()
    column = entry._key_column if entry is not None else None
    if entry is None or column is None or column not in columns:
        return columns
    keys = columns[column]
    entry._keys = list(keys) if isinstance(keys, list) else None
    if _takes(predictor, column):
        return columns
    return {name: values for name, values in columns.items() if name != column}


def take_record_keys(records: Sequence[bytes]) -> None:
    """Note serialized tf.Example that have the keys, to be read later."""
    entry = _CURRENT.get()
    if entry is not None and entry._key_column is not None:
        entry._keys, entry._are_records = records, True


def _takes(predictor: Predictor | TensorPredictor, column: str) -> bool:
    if isinstance(predictor, TensorPredictor):
        return column in predictor.specs
    return column in predictor.inputs.own_columns or column in predictor.inputs.other_columns
