"""The request log of one worker: no answer waits for it.

A request adds its serialized values to a bounded queue. A thread sends the queue to a process, which writes it.
Requests that find the queue full, and rows that cannot be written, are dropped and counted.
"""

import contextlib
import logging
import math
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from cli.errors import ConfigError
from serving.model.model_call import serialize_rows
from serving.request_log.columns import LoggedVersion, build_layout
from serving.request_log.entries import Entry
from serving.request_log.keys import read_keys
from serving.request_log.layout import LogLayout
from serving.request_log.messages import LogReport, LogRows, LogStart, LogTable, Message, write_message
from serving.request_log.sampling import KeySample
from serving.request_log.settings import FOLDER_FLAG, KEY_FLAG, RequestLogSettings
from serving.request_log.shards import RequestLogError
from serving.request_log.writer import COLUMNS, LogCounts

_LOG = logging.getLogger(__name__)
# A worker that is killed loses what waits so long. A send of many requests takes little longer than one of few; each
# takes the interpreter from the requests of its time.
_WAIT_SECONDS = 0.6
_MESSAGE_REQUESTS = 1024
# A message fits, so that a send does not wait for the process. The largest size that Linux gives without a privilege.
_PIPE_BYTES = 1 << 20
# A process that ends is replaced at once, and not again within this time.
_RETRY_SECONDS = 30.0
_CLOSE_SECONDS = 10.0
# Of a request without its values.
_REQUEST_BYTES = 200
_MAX_WAITING_ROWS, _MAX_WAITING_BYTES = 65_536, 64 << 20
# Why rows are dropped.
QUEUE, PROCESS = "queue", "process"


def check_version(settings: RequestLogSettings, version: LoggedVersion) -> LogLayout:
    """Return the columns of a version, if its requests can be logged.

    Raises:
      ConfigError: A column has a name of the log's own, has values that no table has, or the key is sensitive.
    """
    column, predictor = settings.key_column, version.predictor
    if column is not None and not settings.log_sensitive and column in predictor.inputs.sensitive_columns:
        raise ConfigError(
            f"{KEY_FLAG} {column}: the column is sensitive, and the log would have its values; name another key, or "
            "give --log-sensitive"
        )
    try:
        return build_layout(version, log_sensitive=settings.log_sensitive)
    except RequestLogError as error:
        raise ConfigError(f"{FOLDER_FLAG} {settings.folder}: {error}") from error


class _Tables:
    """The columns of versions, by the numbers that a process knows them by."""

    def __init__(self, settings: RequestLogSettings, find_default: Callable[[], LoggedVersion | None]) -> None:
        self._settings, self._find_default = settings, find_default
        # By number and signature. A version may be dropped, and its model with it. The table is None if its requests
        # cannot be logged.
        self._tables: dict[tuple[int, str], tuple[weakref.ref[LoggedVersion], LogTable | None]] = {}
        self._plain = LogTable(0, LogLayout())
        self._last = 0
        self._sent: set[int] = set()

    def find(self, version: LoggedVersion | None) -> LogTable | None:
        """Return the columns of a version, those of the default for rejections; None if they cannot be logged."""
        if version is not None:
            return self._find_version(version)
        default = self._find_default()
        return (None if default is None else self._find_version(default)) or self._plain

    def is_new(self, table: LogTable) -> bool:
        """Return whether a table was not asked for since the process was started."""
        is_new = table.number not in self._sent
        self._sent.add(table.number)
        return is_new

    def forget_process(self) -> None:
        """Forget all tables: they are new to another process."""
        self._sent.clear()

    def _find_version(self, version: LoggedVersion) -> LogTable | None:
        key = (version.number, version.signature)
        owner, table = self._tables.get(key, (None, None))
        if owner is None or owner() is not version:
            try:
                table = LogTable(self._last + 1, check_version(self._settings, version))
                self._last += 1
            except ConfigError as error:
                table = None
                _LOG.error("requests of version %d are not logged: %s", version.number, error)
            self._tables[key] = (weakref.ref(version), table)
        return table


class _WriterProcess:
    """A process that writes; one thread sends to it, and another takes its reports.

    Attributes:
      sent: Numbers of rows and bytes that were sent to it.
      taken: Numbers of rows and bytes that it has written, or dropped.
    """

    def __init__(self, settings: RequestLogSettings, model: str, take_report: Callable[[LogReport], None]) -> None:
        """Start it.

        Raises:
          OSError: It cannot be started.
        """
        self.sent, self.taken = [0, 0], [0, 0]
        self._take_report = take_report
        command = [sys.executable, "-m", "serving.request_log.process"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES)
        self._input, self._output = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        self._reader = threading.Thread(target=self._read, name="request-log-reports", daemon=True)
        self._reader.start()
        self.send(LogStart(settings, model))

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, and all of its reports were taken."""
        return not self._reader.is_alive()

    def send(self, message: Message) -> None:
        """Send a message; one to a process that has ended is lost."""
        if isinstance(message, LogRows):
            self.sent[0] += message.rows
            self.sent[1] += message.size
        try:
            write_message(self._input, message)
        except BrokenPipeError:
            self._reader.join()

    def end(self) -> int:
        """Let it write the rest; return its exit code. A negative one is that of a signal."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        self._reader.join()
        self._output.close()
        return self._process.wait()

    def _read(self) -> None:
        while True:
            try:
                report: LogReport = pickle.load(self._output)
            except (EOFError, pickle.UnpicklingError):
                return
            self.taken[0] += report.rows
            self.taken[1] += report.size
            self._take_report(report)


@dataclass(slots=True)
class _WaitingRows:
    """Requests that one version answered, or that were rejected, which wait to be sent.

    Attributes:
      version: The version; None for rejected requests.
      requests: The requests, with the fields of `RequestRecord`.
      rows: Number of their rows.
      size: Size of all, in bytes; the first request of a call has its values.
    """

    version: LoggedVersion | None
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    rows: int = 0
    size: int = 0


class RequestLog:
    """The log of one worker."""

    def __init__(
        self,
        settings: RequestLogSettings,
        model_name: str,
        counts: LogCounts,
        find_default: Callable[[], LoggedVersion | None],
    ) -> None:
        """Args:
        settings: settings of the log.
        model_name: name of the model.
        counts: counts for metrics.
        find_default: function that returns the version whose columns a rejected request has.

        Raises:
          ConfigError: rows of the default version cannot be logged, or the key is sensitive.
        """
        self._settings, self._model_name, self._counts = settings, model_name, counts
        self._sample = KeySample(settings.sample)
        self._header, self._key_column = settings.header, settings.key_column
        self._tables = _Tables(settings, find_default)
        # By the ID of a version. The lock is held for as long as a request takes to be added.
        self._waiting: dict[int, _WaitingRows] = {}
        self._last_content = b""
        self._changes = threading.Lock()
        # Rows and bytes that were added, and those that no process has any more. Each is written by one thread only:
        # the event loop's, and the sender's.
        self._added, self._settled = [0, 0], [0, 0]
        self._process: _WriterProcess | None = None
        self._retry_at = self._ended_at = -math.inf
        self._is_closing = False
        self._wake = threading.Event()
        default = find_default()
        if default is not None:
            check_version(settings, default)
        self._sender = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._sender.start()

    def start_entry(self, identity: str, headers: Mapping[str, str]) -> Entry | None:
        """Return the entry of a request; None if the request is not in the sample.

        Args:
          identity: ID of the request.
          headers: Headers of the request, by names in lower case.
        """
        header_key = (headers.get(self._header) or None) if self._header is not None else None
        # Keys of rows are read later, beside the requests.
        if self._key_column is None and not self._sample.has_key(header_key or identity):
            return None
        return Entry(self._append, identity, header_key, self._key_column)

    def close(self, seconds: float = _CLOSE_SECONDS) -> None:
        """Write what is left, and turn it into shards, within some seconds; the process takes longer if it must."""
        self._is_closing = True
        self._wake.set()
        self._sender.join(seconds)

    def _append(self, entry: Entry) -> None:
        if self._key_column is not None and not self._has_sampled_row(entry):
            return
        added, settled, process, rows = self._added, self._settled, self._process, entry.rows
        taken = process.taken if process is not None else (0, 0)
        if (
            added[0] - settled[0] - taken[0] + rows > _MAX_WAITING_ROWS
            or added[1] - settled[1] - taken[1] > _MAX_WAITING_BYTES
        ):
            self._counts.add_dropped(QUEUE, rows)
            return
        content, start, size, answer = b"", 0, _REQUEST_BYTES, entry.answer
        if answer is not None:
            if self._sample.is_all:
                # All requests of a call share its rows.
                content, start = answer.call.content, answer.start
            else:
                content = serialize_rows(answer.columns, answer.outputs)
            if content is not self._last_content:
                self._last_content = content
                size += len(content)
        request = (entry.identity, entry.microseconds, rows, entry.keys, entry.error, entry.chosen, content, start)
        added[0] += rows
        added[1] += size
        with self._changes:
            waiting = self._waiting.get(id(entry.version))
            if waiting is None:
                waiting = self._waiting[id(entry.version)] = _WaitingRows(entry.version)
            waiting.requests.append(request)
            waiting.rows += rows
            waiting.size += size
            is_full = len(waiting.requests) == _MESSAGE_REQUESTS
        if is_full:
            self._wake.set()

    def _has_sampled_row(self, entry: Entry) -> bool:
        """Return whether a row may be in the sample; keys of several rows, and of tf.Example, are read later."""
        keys = entry.keys
        are_records = isinstance(keys, tuple) and bool(keys) and isinstance(keys[0], bytes)
        if self._sample.is_all or entry.rows > 1 or are_records:
            return True
        return self._sample.has_key(read_keys(keys, 1, self._key_column)[0] or entry.identity)

    def _run(self) -> None:
        is_closing = False
        while not is_closing:
            # What was added before it closes is sent in this round.
            is_closing = self._is_closing
            try:
                self._keep_process()
                self._send_rows()
            except Exception:
                # An error of this program must not end the log of the worker.
                self._counts.add_failure()
                _LOG.exception("request log: rows may be lost")
            if not is_closing:
                self._wake.wait(_WAIT_SECONDS)
                self._wake.clear()
        if self._process is not None:
            self._settle(self._process)

    def _keep_process(self) -> None:
        """Start a process if there is none; settle one that has ended."""
        now = time.monotonic()
        if self._process is not None:
            if not self._process.has_ended:
                return
            self._retry_at, self._ended_at = self._ended_at + _RETRY_SECONDS, now
            self._settle(self._process)
            self._process = None
        if now < self._retry_at:
            return
        self._tables.forget_process()
        try:
            self._process = _WriterProcess(self._settings, self._model_name, self._take_report)
        except OSError as error:
            self._retry_at = now + _RETRY_SECONDS
            self._counts.add_failure()
            _LOG.error("request log: no process can be started to write it; rows are dropped: %s", error.strerror)

    def _settle(self, process: _WriterProcess) -> None:
        """End a process, and count the rows that it has not taken."""
        code = process.end()
        lost = process.sent[0] - process.taken[0]
        if code or lost:
            self._counts.add_failure()
            _LOG.error(
                "request log: the process that writes it ended with %s; %d rows are lost, and another is "
                "started within %d s",
                *(f"signal {-code}" if code < 0 else f"exit code {code}", lost, _RETRY_SECONDS),
            )
        if lost:
            self._counts.add_dropped(PROCESS, lost)
        self._settled = [before + sent for before, sent in zip(self._settled, process.sent, strict=True)]

    def _send_rows(self) -> None:
        """Send the rows so far; drop them if no process takes them."""
        with self._changes:
            waiting, self._waiting = [*self._waiting.values()], {}
        process = self._process
        for each in waiting:
            table = self._tables.find(each.version) if process is not None else None
            if process is None or table is None:
                self._counts.add_dropped(PROCESS if process is None else COLUMNS, each.rows)
                self._settled = [self._settled[0] + each.rows, self._settled[1] + each.size]
                continue
            if self._tables.is_new(table):
                process.send(table)
            number = None if each.version is None else each.version.number
            process.send(LogRows(table.number, number, each.requests, each.rows, each.size))

    def _take_report(self, report: LogReport) -> None:
        """Take a report of the process, in a thread of its own."""
        if report.logged:
            self._counts.add_logged(report.logged)
        for reason, rows in report.dropped.items():
            self._counts.add_dropped(reason, rows)
        if report.deleted:
            self._counts.add_deleted(report.deleted)
        for _ in range(report.failures):
            self._counts.add_failure()
        for level, line in report.lines:
            _LOG.log(level, "%s", line)
