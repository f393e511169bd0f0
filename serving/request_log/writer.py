"""Writes the request log of one worker, beside the requests: no answer waits for it.

A request appends its entry to a bounded queue. Twice a second, one thread makes record batches of the entries and
appends them to streams; another turns streams into shards and keeps the disk budget. Entries that find the queue full,
and rows that cannot be written, are dropped and counted.
"""

import logging
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from cli.errors import ConfigError
from serving.request_log.columns import CallPart, LoggedVersion, LogLayout, build_layout
from serving.request_log.entries import Entry, read_keys
from serving.request_log.reasons import Reasons
from serving.request_log.sampling import Sample
from serving.request_log.settings import FOLDER_FLAG, KEY_FLAG, RequestLogSettings
from serving.request_log.shards import (
    ERROR,
    ID,
    KEY,
    LOG_FIELDS,
    ROW,
    TIME,
    VERSION,
    RequestLogError,
    ShardDescription,
    build_schema,
)
from serving.request_log.streams import Stream, StreamNames, convert_stream, delete_oldest, recover_streams

_LOG = logging.getLogger(__name__)
# Each write costs as much as 700 rows, however few it has. A worker that is killed loses at most a second.
_WAIT_SECONDS = 0.4
# A long write rests after so much work, so that no request waits for the interpreter until all of it is done. Rests
# are few, since the caches are cold after each. Those of one version take so long at most.
_WORK_SECONDS, _REST_SECONDS = 0.003, 0.1
_RETRY_SECONDS = 30.0
_LAST_ROWS_SECONDS = 5.0
_MAX_WAITING_ROWS, _MAX_WAITING_BYTES = 65_536, 64 << 20
# Versions with different columns that are written side by side, such as those of a canary.
_MAX_STREAMS = 4
QUEUE, DISK, COLUMNS = "queue", "disk", "columns"


class LogCounts(Protocol):
    """Counts of a log, for metrics; called in any thread."""

    def add_logged(self, rows: int) -> None:
        """Count rows that were written."""

    def add_dropped(self, reason: str, rows: int) -> None:
        """Count rows that were dropped: `queue`, `disk` or `columns`."""

    def add_deleted(self, shards: int) -> None:
        """Count shards that the budget deleted."""

    def add_failure(self) -> None:
        """Count a write that failed."""


@dataclass(frozen=True)
class _Table:
    """The columns of a version, the schema of their batches, and its text."""

    layout: LogLayout
    schema: pa.Schema
    text: str


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


class _Shards:
    """Turns streams into shards in a thread of its own, which ends with the process."""

    def __init__(self, settings: RequestLogSettings, counts: LogCounts) -> None:
        self._settings, self._counts = settings, counts
        self._closed: queue.Queue[Stream | threading.Event] = queue.Queue()
        self._failed: list[Stream] = []
        self._message = ""
        threading.Thread(target=self._run, name="request-log-shards", daemon=True).start()

    def take(self, stream: Stream) -> None:
        """Turn a stream that is complete into a shard, later."""
        self._closed.put(stream)

    def wait(self, seconds: float) -> None:
        """Wait until the streams so far are shards, at most so long; the next server takes those that remain."""
        done = threading.Event()
        self._closed.put(done)
        done.wait(seconds)

    def _run(self) -> None:
        try:
            for path, error in recover_streams(self._settings.folder):
                if error is None:
                    _LOG.info("%s: a worker left it; its rows are in a shard now", path)
                else:
                    self._report(f"{path}: a worker left it, and it cannot become a shard: {error}")
            self._keep_budget()
        except Exception as error:
            self._report(f"{self._settings.folder}: streams of dead workers cannot be read: {error}")
        while True:
            try:
                item = self._closed.get(timeout=_RETRY_SECONDS)
            except queue.Empty:
                item = None
            failed, self._failed = self._failed, []
            for stream in [*failed, *([item] if isinstance(item, Stream) else [])]:
                self._convert(stream)
            self._keep_budget()
            if isinstance(item, threading.Event):
                item.set()

    def _convert(self, stream: Stream) -> None:
        try:
            convert_stream(stream.path)
        except Exception as error:
            # Readers take the stream as it is.
            self._report(f"{stream.path}: cannot become a shard yet: {error}")
            self._failed.append(stream)
        else:
            self._message = ""
            stream.close()

    def _keep_budget(self) -> None:
        try:
            deleted = delete_oldest(self._settings.folder, self._settings.budget_bytes)
        except Exception as error:
            self._report(f"{self._settings.folder}: its oldest shards cannot be deleted: {error}")
            return
        if deleted:
            self._counts.add_deleted(len(deleted))
            _LOG.warning("%s: deleted for --log-budget, and %d more", deleted[0], len(deleted) - 1)

    def _report(self, message: str) -> None:
        self._counts.add_failure()
        if message != self._message:
            self._message = message
            _LOG.error("request log: %s", message)


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
        self._sample = Sample(settings.sample)
        self._header, self._key_column = settings.header, settings.key_column
        self._find_default = find_default
        self._names = StreamNames()
        self._reasons = Reasons()
        self._entries: deque[Entry] = deque()
        # Each is written by one thread only: the event loop's, and the writer's.
        self._added, self._taken = [0, 0], [0, 0]
        # By number and signature. A version may be dropped, and its model with it. The table is None if its requests
        # cannot be logged.
        self._tables: dict[tuple[int, str], tuple[weakref.ref[LoggedVersion], _Table | None]] = {}
        # By the text of their schema.
        self._streams: dict[str, Stream] = {}
        self._is_closing = False
        self._disk_error = ""
        self._flushes: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
        self._wake = threading.Event()
        default = find_default()
        if default is not None:
            check_version(settings, default)
        self._shards = _Shards(settings, counts)
        threading.Thread(target=self._run, name="request-log", daemon=True).start()

    def start_entry(self, identity: str, headers: Mapping[str, str]) -> Entry | None:
        """Return the entry of a request, current from now on; None if the request is not in the sample.

        Args:
          identity: ID of the request.
          headers: Headers of the request, by names in lower case.
        """
        header_key = (headers.get(self._header) or None) if self._header is not None else None
        # Keys of rows are read later, beside the requests.
        if self._key_column is None and not self._sample.has(header_key or identity):
            return None
        return Entry(self._append, identity, header_key, self._key_column)

    def flush(self, seconds: float = _LAST_ROWS_SECONDS) -> bool:
        """Return whether all entries so far were written, or dropped, within some seconds."""
        done = threading.Event()
        self._flushes.put(done)
        self._wake.set()
        return done.wait(seconds)

    def close(self) -> None:
        """Write what is left, and turn it into shards, within some seconds."""
        self._is_closing = True
        if self.flush():
            self._shards.wait(_LAST_ROWS_SECONDS)

    def _append(self, entry: Entry) -> None:
        if not self._has_sampled_row(entry):
            return
        added, taken, rows = self._added, self._taken, entry.rows
        if added[0] - taken[0] + rows > _MAX_WAITING_ROWS or added[1] - taken[1] > _MAX_WAITING_BYTES:
            self._counts.add_dropped(QUEUE, rows)
            return
        if entry.call is not None and not self._sample.is_all:
            # The other requests of the call are not logged, and their rows do not wait.
            entry.call, entry.start = entry.call.select(entry.start, rows), 0
        added[0] += rows
        added[1] += entry.size
        self._entries.append(entry)

    def _has_sampled_row(self, entry: Entry) -> bool:
        """Return whether a row may be in the sample; keys of several rows, and of tf.Example, are read later."""
        column, keys = self._key_column, entry.keys
        if column is None or self._sample.is_all or entry.rows > 1:
            return True
        if isinstance(keys, tuple) and isinstance(keys[0], bytes):
            return True
        return self._sample.has(read_keys(keys, 1, column)[0] or entry.identity)

    def _run(self) -> None:
        while True:
            self._wake.wait(_WAIT_SECONDS)
            self._wake.clear()
            waiting = [self._flushes.get() for _ in range(self._flushes.qsize())]
            self._write_entries()
            for each in waiting:
                each.set()

    def _write_entries(self) -> None:
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        try:
            self._write(entries)
            self._rotate()
        except Exception:
            # An error of this program must not end the log of the worker.
            self._counts.add_failure()
            _LOG.exception("request log: rows may be lost")
        self._taken[0] += sum(entry.rows for entry in entries)
        self._taken[1] += sum(entry.size for entry in entries)

    def _write(self, entries: Sequence[Entry]) -> None:
        """Write entries, those of one version together."""
        groups: dict[int, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(id(entry.version), []).append(entry)
        for group in groups.values():
            table = self._find_table(group[0].version)
            if table is None:
                self._counts.add_dropped(COLUMNS, sum(entry.rows for entry in group))
                continue
            for batch in self._build_batches(table, group):
                if batch.num_rows:
                    self._append_batch(table, batch)

    def _find_table(self, version: LoggedVersion | None) -> _Table | None:
        """Return the columns of a version, those of the default for rejections; None if they cannot be logged."""
        rejected = version is None
        if version is None:
            version = self._find_default()
        table = None if version is None else self._find_version_table(version)
        return self._build_table(LogLayout((), (), ())) if table is None and rejected else table

    def _find_version_table(self, version: LoggedVersion) -> _Table | None:
        key = (version.number, version.signature)
        owner, table = self._tables.get(key, (None, None))
        if owner is None or owner() is not version:
            try:
                table = self._build_table(check_version(self._settings, version))
            except ConfigError as error:
                table = None
                _LOG.error("requests of version %d are not logged: %s", version.number, error)
            self._tables[key] = (weakref.ref(version), table)
        return table

    def _build_table(self, layout: LogLayout) -> _Table:
        description = ShardDescription(
            model=self._model_name,
            sample=self._settings.sample,
            key=self._settings.key,
            masked=tuple(layout.masked),
        )
        schema = build_schema(layout.fields, description)
        return _Table(layout, schema, schema.to_string(show_schema_metadata=True))

    def _build_batches(self, table: _Table, entries: Sequence[Entry]) -> Iterable[pa.RecordBatch]:
        """Yield batches of rows; entries that cannot be converted are dropped."""
        try:
            yield self._build_batch(table, entries)
        except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError) as error:
            if len(entries) == 1:
                self._counts.add_dropped(COLUMNS, entries[0].rows)
                _LOG.error(
                    "request %s is not logged: its values do not fit: %s", entries[0].identity, type(error).__name__
                )
                return
            for entry in entries:
                yield from self._build_batches(table, [entry])

    def _build_batch(self, table: _Table, entries: Sequence[Entry]) -> pa.RecordBatch:
        """Return the rows of entries of one version, or of rejected requests, that are in the sample."""
        counts = [entry.rows for entry in entries]
        owners = np.repeat(np.arange(len(entries)), counts)
        firsts = np.cumsum([0, *counts[:-1]])
        column, version = self._key_column, entries[0].version
        keys = [key for entry in entries for key in read_keys(entry.keys, entry.rows, column)]
        log = {
            TIME: pa.array(np.array([entry.microseconds for entry in entries])[owners], pa.timestamp("us", "UTC")),
            ID: pa.array([entry.identity for entry in entries], pa.string()).take(pa.array(owners)),
            ROW: pa.array(np.arange(len(owners)) - firsts[owners], pa.int32()),
            KEY: pa.array(keys, pa.string()),
        }
        if version is None:
            reasons = [self._reasons.find(entry.error) for entry in entries]
            log |= {VERSION: pa.nulls(len(owners), pa.int64()), ERROR: pa.array(reasons, pa.string())}
            values = [pa.nulls(len(owners), field.type) for field in table.layout.fields[len(LOG_FIELDS) :]]
        else:
            log |= {
                VERSION: pa.array(np.full(len(owners), version.number, np.int64)),
                ERROR: pa.nulls(len(owners), pa.string()),
            }
            values, started = [], time.thread_time()
            for array in table.layout.write(_join_parts(entries)):
                values.append(array)
                if time.thread_time() - started > _WORK_SECONDS and not self._wake.is_set():
                    time.sleep(_REST_SECONDS / len(table.schema))
                    started = time.thread_time()
        batch = pa.RecordBatch.from_arrays([*(log[field.name] for field in LOG_FIELDS), *values], schema=table.schema)
        if column is None or self._sample.is_all:
            return batch
        names = [key or entries[owner].identity for key, owner in zip(keys, owners.tolist(), strict=True)]
        return batch.filter(pa.array([self._sample.has(name) for name in names]))

    def _append_batch(self, table: _Table, batch: pa.RecordBatch) -> None:
        try:
            stream = self._find_stream(table)
            stream.append(batch)
        except OSError as error:
            self._counts.add_dropped(DISK, batch.num_rows)
            self._counts.add_failure()
            message = f"{self._settings.folder}: cannot be written: {error.strerror or error}"
            if message != self._disk_error:
                self._disk_error = message
                _LOG.error("request log: %s; rows are dropped until it can", message)
            return
        self._counts.add_logged(batch.num_rows)
        if self._disk_error:
            self._disk_error = ""
            _LOG.info("request log: %s can be written again", self._settings.folder)

    def _find_stream(self, table: _Table) -> Stream:
        stream = self._streams.get(table.text)
        if stream is not None and stream.has_moved():
            _LOG.error("request log: %s is gone; a new one is written", stream.path)
            self._streams.pop(table.text).close()
            stream = None
        if stream is None:
            stream = self._streams[table.text] = Stream(self._settings.folder, self._names, table.schema)
        return stream

    def _rotate(self) -> None:
        """Hand streams that are large, old or damaged to those who make shards of them."""
        now = time.monotonic()
        surplus = max(len(self._streams) - _MAX_STREAMS, 0)
        oldest = sorted(self._streams, key=lambda key: self._streams[key].started)[:surplus]
        for key, stream in list(self._streams.items()):
            is_old = now - stream.started >= self._settings.shard_seconds
            is_large = stream.size >= self._settings.shard_bytes
            if self._is_closing or stream.is_damaged or is_old or is_large or key in oldest:
                self._shards.take(self._streams.pop(key))


def _join_parts(entries: Sequence[Entry]) -> list[CallPart]:
    """Return the rows of entries, those that follow each other in one call as one part."""
    parts: list[CallPart] = []
    for entry in entries:
        assert entry.call is not None
        start, end = entry.start, entry.start + entry.rows
        if parts and parts[-1][0] is entry.call and parts[-1][1].stop == start:
            parts[-1] = (entry.call, slice(parts[-1][1].start, end))
        else:
            parts.append((entry.call, slice(start, end)))
    return parts
