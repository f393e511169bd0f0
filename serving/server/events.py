"""Events of a server for other programs, one JSON object a line on standard output, and its log on standard error.

A request never waits for whoever reads them: a thread writes, and drops what does not fit its queue.
"""

import atexit
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

_MAX_QUEUED_LINES = 10_000
_LAST_LINES_SECONDS = 1.0
# Lines that come within it are written together.
_GATHER_SECONDS = 0.01
STDOUT, STDERR = 1, 2


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own, which ends with the process."""

    def __init__(self, descriptor: int, on_drop: Callable[[], None]) -> None:
        """Args:
        descriptor: number of the file.
        on_drop: called for each line that is dropped, since the reader is too slow or gone.
        """
        self._on_drop = on_drop
        self._descriptor = descriptor
        self._lines: deque[bytes | threading.Event] = deque()
        self._has_lines = threading.Event()
        threading.Thread(target=self._write_lines, name=f"output-{descriptor}", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Queue a line, or drop it; never block."""
        if len(self._lines) >= _MAX_QUEUED_LINES:
            self._on_drop()
            return
        self._lines.append(line)
        if not self._has_lines.is_set():
            self._has_lines.set()

    def flush(self) -> None:
        """Wait until the queued lines are written, at most a second."""
        written = threading.Event()
        self._lines.append(written)
        self._has_lines.set()
        written.wait(_LAST_LINES_SECONDS)

    def _write_lines(self) -> None:
        while True:
            self._has_lines.wait()
            # To wake this thread for each line would cost a request more than the line itself.
            time.sleep(_GATHER_SECONDS)
            self._has_lines.clear()
            while self._lines:
                self._write(self._gather())

    def _gather(self) -> bytes:
        """Return the next lines, as many as a pipe takes without those of another worker between them."""
        lines = b""
        while self._lines:
            line = self._lines[0]
            if isinstance(line, threading.Event):
                if lines:
                    break
                line.set()
            elif lines and len(lines) + len(line) > select.PIPE_BUF:
                break
            else:
                lines += line
            self._lines.popleft()
        return lines

    def _write(self, lines: bytes) -> None:
        try:
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]
        except OSError:
            # The reader is gone, or the disk is full; the next lines may get through.
            for _ in range(lines.count(b"\n")):
                self._on_drop()


_writers: dict[int, LineWriter] = {}


def open_output(on_drop: Callable[[], None]) -> None:
    """Start the writers of this process, once it has forked.

    Args:
      on_drop: called for each line that is dropped, in any thread.
    """
    for descriptor in (STDOUT, STDERR):
        _writers[descriptor] = LineWriter(descriptor, on_drop)
    atexit.register(flush)


def write(event: str, **values: Any) -> None:
    """Queue an event; omit values that are None."""
    fields = {key: value for key, value in values.items() if value is not None}
    line = orjson.dumps({"time": _format_now(), "event": event, **fields}, option=orjson.OPT_APPEND_NEWLINE)
    _writers[STDOUT].write(line)


def flush() -> None:
    """Wait until the last events and messages are written, at most a second each."""
    for each in _writers.values():
        each.flush()


class LogHandler(logging.Handler):
    """Queues messages for standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one message."""
        try:
            _writers[STDERR].write(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except Exception:
            self.handleError(record)


def _format_now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
