"""Events of a server for other programs, one JSON object a line on standard output, and its log on standard error.

A request never waits for whoever reads them: a thread writes, and drops what does not fit its queue.
"""

import atexit
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

_MAX_QUEUED_LINES = 10_000
_LAST_LINES_SECONDS = 1.0
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
        self._lines: queue.Queue[bytes | threading.Event] = queue.Queue(_MAX_QUEUED_LINES)
        threading.Thread(target=self._write_lines, name=f"output-{descriptor}", daemon=True).start()

    def write(self, line: bytes) -> None:
        """Queue a line, or drop it; never block."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._on_drop()

    def flush(self) -> None:
        """Wait until the queued lines are written, at most a second."""
        written = threading.Event()
        try:
            self._lines.put(written, timeout=_LAST_LINES_SECONDS)
        except queue.Full:
            return
        written.wait(_LAST_LINES_SECONDS)

    def _write_lines(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                # The reader is gone, or the disk is full; the next line may get through.
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
    line = orjson.dumps({"time": _now(), "event": event, **fields}, option=orjson.OPT_APPEND_NEWLINE)
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


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
