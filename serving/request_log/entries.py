"""The entry of one request in the log, which the server fills with references and keys."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.model.model_call import Answer
from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.columns import LoggedVersion
from serving.request_log.keys import Keys, write_key


class Entry:
    """One request, which waits for its answer, and then to be written.

    Attributes:
      identity: ID of the request.
      microseconds: Time of the request, since 1970.
      keys: Keys of its rows.
      column: Column that has the key of each row; None if there is none.
      version: Version that answered; None if the request was rejected.
      answer: Its answer; None if the request was rejected.
      rows: Number of its rows.
      chosen: Number of the version that is to answer; None before one is chosen.
      error: Message of its rejection; empty if there is none.
    """

    __slots__ = (
        "_append",
        "answer",
        "chosen",
        "column",
        "error",
        "identity",
        "keys",
        "microseconds",
        "rows",
        "version",
    )

    def __init__(
        self, append: Callable[["Entry"], None], identity: str, header_key: str | None, column: str | None
    ) -> None:
        """Args:
        append: function that hands the entry to the log.
        identity: ID of the request.
        header_key: key of all rows.
        column: column that has the key of each row; None if there is none.
        """
        self._append = append
        self.identity = identity
        self.microseconds = time.time_ns() // 1000
        self.keys: Keys = header_key
        self.column = column
        self.version: LoggedVersion | None = None
        self.chosen: int | None = None
        self.answer: Answer | None = None
        self.rows = 1
        self.error = ""

    def take_answer(self, version: LoggedVersion, answer: Answer) -> None:
        """Take an answer; of several for one request, the first one is logged."""
        if self.answer is None:
            self.version, self.answer, self.rows = version, answer, answer.rows

    def finish(self, error: str = "") -> None:
        """Hand the entry to the log, unless the request had no answer.

        Args:
          error: Message of the answer if the request was rejected.
        """
        if error:
            self.version = self.answer = None
            self.rows = 1
            # The rows that its keys belong to are not logged.
            self.keys = self.keys if isinstance(self.keys, str) else None
        elif self.answer is None:
            return
        self.error = error
        self._append(self)

    def take_row_keys(self, predictor: Predictor | TensorPredictor, rows: list[Any]) -> list[Any]:
        """Take the keys in rows of named values; return the rows as the model takes them.

        A key that is not a column of the training table is taken out, since the model would reject it.
        """
        column = self.column
        if column is None:
            return rows
        self.keys = tuple(write_key(row.get(column)) if isinstance(row, Mapping) else None for row in rows)
        if _has_column(predictor, column):
            return rows
        return [
            {name: value for name, value in row.items() if name != column} if isinstance(row, Mapping) else row
            for row in rows
        ]

    def take_column_keys(self, predictor: Predictor | TensorPredictor, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take the keys in named columns; return the columns as the model takes them."""
        if self.column is None or self.column not in columns:
            return columns
        keys = columns[self.column]
        self.keys = tuple(map(write_key, keys)) if isinstance(keys, list) else ()
        if _has_column(predictor, self.column):
            return columns
        return {name: values for name, values in columns.items() if name != self.column}

    def take_records(self, records: Sequence[bytes]) -> None:
        """Take serialized tf.Example that have the keys, to be read later."""
        if self.column is not None:
            self.keys = tuple(records)


def _has_column(predictor: Predictor | TensorPredictor, column: str) -> bool:
    if isinstance(predictor, TensorPredictor):
        return column in predictor.specs
    return column in predictor.inputs.own_columns or column in predictor.inputs.other_columns
