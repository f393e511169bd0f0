"""Messages between a worker of the server and the process that writes its log. Imports no TensorFlow.

A message is a pickle; both are processes of one program. The values of a call of the model are a pickle of their own,
which the message has once for all requests of the call.
"""

import pickle
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

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


class RequestRecord(NamedTuple):
    """One request.

    Attributes:
      identity: Its ID.
      microseconds: Its time since 1970.
      rows: Number of its rows.
      keys: Keys of these.
      error: Message of its rejection; empty if there is none.
      chosen: Number of the version that would have answered a request that was rejected; None if it is not known.
      call: Serialized rows of a call, with those of the request; empty if the request was rejected.
      start: Place of its first row among them.
    """

    identity: str
    microseconds: int
    rows: int
    keys: Keys
    error: str
    chosen: int | None
    call: bytes
    start: int


@dataclass(slots=True)
class LogRows:
    """Requests that the same version answered, or that were rejected.

    Attributes:
      table: Number of their columns.
      version: Number of the version; None for rejected requests.
      requests: The requests, as tuples: those of a class take seven times as long to be serialized.
      rows: Number of their rows.
      size: Size of all, in bytes.
    """

    table: int
    version: int | None
    requests: list[tuple[Any, ...]]
    rows: int
    size: int

    def add(self, other: "LogRows") -> None:
        """Add the requests of another message of the same table and version."""
        self.requests += other.requests
        self.rows += other.rows
        self.size += other.size


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


def write_message(file: BinaryIO, message: Message) -> None:
    """Write a message.

    Raises:
      OSError: The other process has ended.
    """
    # One write: each gives the interpreter away, and waits to get it back.
    file.write(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
    file.flush()


def read_message(file: BinaryIO) -> Message | None:
    """Return the next message; None if the worker has ended, or was killed within one."""
    try:
        message: Message = pickle.load(file)
    except (EOFError, pickle.UnpicklingError):
        return None
    return message
