"""The process that writes the log of one worker, beside the worker: `python -m serving.request_log.process`.

It has an interpreter of its own, so that no answer waits for a write. It takes messages by its standard input, reports
by its standard output, and ends with the worker, however that one ends: what the worker has sent is written then.
"""

import contextlib
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

from serving.request_log.messages import LogReport, LogRows, LogStart, LogTable, Message, read_message
from serving.request_log.writer import LogWriter

_LOG = logging.getLogger(__name__)
_WAITING_MESSAGES = 4
# Rows are gathered, since a write of many costs little more than one of few; a long write would keep a processor from
# answers. A process that is killed loses them.
_GATHER_SECONDS, _GATHER_ROWS = 0.2, 4_096
# Answers have the processors first.
_NICENESS = 10


class _Reports(logging.Handler):
    """Gathers what the writer does for the next report; called in any thread."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._report = LogReport()
        self._changes = threading.Lock()

    def add_logged(self, rows: int) -> None:
        with self._changes:
            self._report.logged += rows

    def add_dropped(self, reason: str, rows: int) -> None:
        with self._changes:
            self._report.dropped[reason] += rows

    def add_deleted(self, shards: int) -> None:
        with self._changes:
            self._report.deleted += shards

    def add_failure(self) -> None:
        with self._changes:
            self._report.failures += 1

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        with self._changes:
            self._report.lines.append((record.levelno, line))

    def send(self, rows: int = 0, size: int = 0) -> None:
        """Send what was gathered, if there is anything."""
        with self._changes:
            report, self._report = self._report, LogReport()
        report.rows, report.size = rows, size
        if report != LogReport():
            # The worker may have ended.
            with contextlib.suppress(BrokenPipeError):
                self._file.write(pickle.dumps(report))


def main() -> None:
    """Write what a worker sends, until it ends."""
    # A terminal and a service manager signal all processes of a server; this one writes the rest first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    incoming, outgoing = sys.stdin.buffer, open(os.dup(1), "wb", buffering=0)  # noqa: SIM115
    # Reports alone go there.
    os.dup2(2, 1)
    start = read_message(incoming)
    if not isinstance(start, LogStart):
        return
    reports = _Reports(outgoing)
    logging.getLogger().addHandler(reports)
    logging.getLogger().setLevel(logging.INFO)
    writer = LogWriter(start.settings, start.model, reports)
    messages: queue.Queue[Message | None] = queue.Queue(_WAITING_MESSAGES)
    threading.Thread(target=_read, args=(incoming, messages), daemon=True).start()
    has_ended = False
    while not has_ended:
        groups: dict[tuple[int, int | None], LogRows] = {}
        for message in _gather(messages):
            match message:
                case LogTable():
                    writer.add_table(message.number, message.layout)
                case LogRows(table, version):
                    if groups.setdefault((table, version), message) is not message:
                        groups[table, version].add(message)
                case None:
                    has_ended = True
        for group in groups.values():
            _write(writer, reports, group)
        writer.rotate()
        reports.send()
    writer.close()
    reports.send()


def _read(file: BinaryIO, messages: "queue.Queue[Message | None]") -> None:
    try:
        while (message := read_message(file)) is not None:
            messages.put(message)
    finally:
        # Also after a message that cannot be read: another process takes over.
        messages.put(None)


def _gather(messages: "queue.Queue[Message | None]") -> Iterator[Message | None]:
    """Yield the messages that come within some time, fewer if they have many rows; None is the last of all."""
    deadline, rows = time.monotonic() + _GATHER_SECONDS, 0
    while rows < _GATHER_ROWS:
        try:
            message = messages.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            return
        yield message
        if message is None:
            return
        if isinstance(message, LogRows):
            rows += message.rows


def _write(writer: LogWriter, reports: _Reports, rows: LogRows) -> None:
    try:
        writer.write(rows)
    except Exception:
        # An error of this program must not end the log of the worker.
        reports.add_failure()
        _LOG.exception("request log: rows may be lost")
    reports.send(rows.rows, rows.size)


if __name__ == "__main__":
    main()
