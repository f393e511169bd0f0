"""Messages between a worker of the server and the process that writes its log. Imports no TensorFlow.

A message is a pickle; both are processes of one program. The columns of rows are pickles of their own behind it, so
that no long one keeps a thread that answers requests from running.
"""

import pickle
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, BinaryIO

import numpy as np

from serving.request_log.keys import Keys
from serving.request_log.layout import LogLayout
from serving.request_log.settings import RequestLogSettings


@dataclass(frozen=True, slots=True)
class LogStart:
    """The first message to a writing process."""

    settings: RequestLogSettings
    model: str


@dataclass(frozen=True, slots=True)
class LogTable:
    """Columns that rows will have.

    Attributes:
      number: Number by which rows name them.
      layout: The columns.
    """

    number: int
    layout: LogLayout


@dataclass(frozen=True, slots=True)
class LogRows:
    """Requests that the same version answered, or that were rejected.

    Attributes:
      table: Number of their columns.
      version: Number of the version; None for rejected requests.
      identities, microseconds, counts, keys, errors: ID of each request, its time since 1970, its number of rows, the
        keys of these, and the message of its rejection.
      chosen: Number of the version that would have answered each request that was rejected; None if it is not known.
      size: Size of the content of all, in bytes.
      columns: Values of each column of the table, one a row; of rejected requests none.
    """

    table: int
    version: int | None
    identities: Sequence[str]
    microseconds: Sequence[int]
    counts: Sequence[int]
    keys: Sequence[Keys]
    errors: Sequence[str]
    chosen: Sequence[int | None]
    size: int
    columns: Sequence[Any] = ()

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.counts)

    @classmethod
    def join(cls, messages: Sequence["LogRows"]) -> "LogRows":
        """Return the requests of several messages of one table and version as one message."""
        if len(messages) == 1:
            return messages[0]
        return cls(
            messages[0].table,
            messages[0].version,
            _concatenate(each.identities for each in messages),
            _concatenate(each.microseconds for each in messages),
            _concatenate(each.counts for each in messages),
            _concatenate(each.keys for each in messages),
            _concatenate(each.errors for each in messages),
            _concatenate(each.chosen for each in messages),
            sum(each.size for each in messages),
            [_join_values(parts) for parts in zip(*(each.columns for each in messages), strict=True)],
        )

    def split(self) -> list["LogRows"]:
        """Return each request on its own; their sizes are left out."""
        ends = np.cumsum([0, *self.counts]).tolist()
        return [
            LogRows(
                self.table,
                self.version,
                self.identities[n : n + 1],
                self.microseconds[n : n + 1],
                self.counts[n : n + 1],
                self.keys[n : n + 1],
                self.errors[n : n + 1],
                self.chosen[n : n + 1],
                0,
                [values[start:end] for values in self.columns],
            )
            for n, (start, end) in enumerate(pairwise(ends))
        ]


Message = LogStart | LogTable | LogRows


@dataclass(slots=True)
class LogReport:
    """The work of the writing process since its last report.

    Attributes:
      rows, size: Number of rows that it has taken, and the size of their content.
      logged: Number of rows that were written.
      dropped: Number of rows that were dropped, by reason.
      deleted: Number of shards that were deleted for the budget.
      failures: Number of writes that failed.
      lines: Levels and texts for the server's log.
    """

    rows: int = 0
    size: int = 0
    logged: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    failures: int = 0
    lines: list[tuple[int, str]] = field(default_factory=list)


def _concatenate(parts: Iterable[Sequence[Any]]) -> list[Any]:
    return [*chain.from_iterable(parts)]


def _join_values(parts: Sequence[Any]) -> Any:
    """Return the values of a column of several messages: a list of an input, an array of an output."""
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else _concatenate(parts)


def write_message(file: BinaryIO, message: Message) -> None:
    """Write a message.

    Raises:
      OSError: The other process has ended.
    """
    columns: Sequence[Any] = ()
    if isinstance(message, LogRows):
        columns, message = message.columns, replace(message, columns=[None] * len(message.columns))
    for part in (message, *columns):
        file.write(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
    file.flush()


def read_message(file: BinaryIO) -> Message | None:
    """Return the next message; None if the worker has ended, or was killed within one."""
    try:
        message: Message = pickle.load(file)
        if isinstance(message, LogRows):
            message = replace(message, columns=[pickle.load(file) for _ in message.columns])
    except (EOFError, pickle.UnpicklingError):
        return None
    return message
