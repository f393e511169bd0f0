"""Writes the rows of one worker to streams, and turns these into shards. Imports no TensorFlow.

Rows that cannot be written are dropped and counted.
"""

import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import pyarrow as pa

from serving.model.model_call import CallValues
from serving.request_log.keys import read_keys
from serving.request_log.layout import LogLayout
from serving.request_log.messages import LogRows, RequestRecord
from serving.request_log.reasons import Reasons
from serving.request_log.sampling import KeySample
from serving.request_log.settings import RequestLogSettings
from serving.request_log.shards import ERROR, ID, KEY, LOG_FIELDS, ROW, TIME, VERSION, ShardDescription, build_schema
from serving.request_log.streams import Stream, StreamNames, convert_stream, delete_oldest, recover_streams

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 30.0
# Versions with different columns that are written side by side, such as those of a canary.
_MAX_STREAMS = 4
# Why rows are dropped.
DISK, COLUMNS = "disk", "columns"


class LogCounts(Protocol):
    """Counts of a log, for metrics; called in any thread."""

    def add_logged(self, rows: int) -> None:
        """Count rows that were written."""

    def add_dropped(self, reason: str, rows: int) -> None:
        """Count rows that were dropped: `queue`, `disk`, `columns` or `process`."""

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

    def wait(self) -> None:
        """Wait until the streams so far are shards; the next server takes those that cannot be."""
        done = threading.Event()
        self._closed.put(done)
        done.wait()

    def _run(self) -> None:
        try:
            for path, error in recover_streams(self._settings.folder):
                if error is None:
                    _LOG.info("%s: a worker left it; its rows are in a shard now", path)
                else:
                    self._report(f"{path}: a worker left it, and it cannot become a shard: {_explain(error)}")
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
            self._report(f"{stream.path}: cannot become a shard yet: {_explain(error)}; its rows are read all the same")
            self._failed.append(stream)
        else:
            self._message = ""
            stream.close()

    def _keep_budget(self) -> None:
        try:
            deleted = delete_oldest(self._settings.folder, self._settings.budget_bytes)
        except Exception as error:
            self._report(f"{self._settings.folder}: its oldest shards cannot be deleted: {_explain(error)}")
            return
        if deleted:
            self._counts.add_deleted(len(deleted))
            _LOG.warning("%s: deleted for --log-budget, and %d more", deleted[0], len(deleted) - 1)

    def _report(self, message: str) -> None:
        self._counts.add_failure()
        if message != self._message:
            self._message = message
            _LOG.error("request log: %s", message)


def _explain(error: Exception) -> str:
    """Return the reason of an error, without the number and the path of one of the file system."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class LogWriter:
    """Writes the rows of one worker; used by one thread."""

    def __init__(self, settings: RequestLogSettings, model: str, counts: LogCounts) -> None:
        """Args:
        settings: Settings of the log.
        model: Name of the model.
        counts: Counts of the log.
        """
        self._settings, self._model, self._counts = settings, model, counts
        self._sample, self._key_column = KeySample(settings.sample), settings.key_column
        self._names, self._reasons = StreamNames(), Reasons()
        self._tables: dict[int, _Table] = {}
        # By the text of their schema.
        self._streams: dict[str, Stream] = {}
        self._disk_error = ""
        self._shards = _Shards(settings, counts)

    def add_table(self, number: int, layout: LogLayout) -> None:
        """Take the columns that rows name by a number."""
        description = ShardDescription(
            model=self._model,
            sample=self._settings.sample,
            key=self._settings.key,
            masked=tuple(layout.masked),
        )
        schema = build_schema(layout.fields, description)
        self._tables[number] = _Table(layout, schema, schema.to_string(show_schema_metadata=True))

    def write(self, rows: LogRows) -> None:
        """Append those rows to a stream that are in the sample."""
        table = self._tables[rows.table]
        for batch in self._build_batches(table, rows.version, [RequestRecord(*request) for request in rows.requests]):
            if batch.num_rows:
                self._append_batch(table, batch)

    def rotate(self) -> None:
        """Turn streams that are large, old or damaged into shards, beside the writing."""
        now = time.monotonic()
        surplus = max(len(self._streams) - _MAX_STREAMS, 0)
        oldest = sorted(self._streams, key=lambda key: self._streams[key].started)[:surplus]
        for key, stream in list(self._streams.items()):
            is_old = now - stream.started >= self._settings.shard_seconds
            is_large = stream.size >= self._settings.shard_bytes
            if stream.is_damaged or is_old or is_large or key in oldest:
                self._shards.take(self._streams.pop(key))

    def close(self) -> None:
        """Turn all streams into shards."""
        for stream in self._streams.values():
            self._shards.take(stream)
        self._streams.clear()
        self._shards.wait()

    def _build_batches(
        self, table: _Table, version: int | None, requests: Sequence[RequestRecord]
    ) -> Iterable[pa.RecordBatch]:
        """Yield batches of rows; requests that cannot be converted are dropped."""
        try:
            yield self._build_batch(table, version, requests)
        except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError) as error:
            if len(requests) == 1:
                self._counts.add_dropped(COLUMNS, requests[0].rows)
                _LOG.error(
                    "request %s is not logged: its values do not fit: %s", requests[0].identity, type(error).__name__
                )
                return
            for request in requests:
                yield from self._build_batches(table, version, [request])

    def _build_batch(self, table: _Table, version: int | None, requests: Sequence[RequestRecord]) -> pa.RecordBatch:
        """Return the rows that are in the sample."""
        counts = [request.rows for request in requests]
        owners = np.repeat(np.arange(len(requests)), counts)
        firsts = np.cumsum([0, *counts[:-1]])
        column, count = self._key_column, len(owners)
        keys = [key for request in requests for key in read_keys(request.keys, request.rows, column)]
        identities = [request.identity for request in requests]
        log = {
            TIME: pa.array(np.array([request.microseconds for request in requests])[owners], pa.timestamp("us", "UTC")),
            ID: pa.array(identities, pa.string()).take(pa.array(owners)),
            ROW: pa.array(np.arange(count) - firsts[owners], pa.int32()),
            KEY: pa.array(keys, pa.string()),
        }
        if version is None:
            reasons = [self._reasons.find(request.error) for request in requests]
            log |= {
                VERSION: pa.array([request.chosen for request in requests], pa.int64()),
                ERROR: pa.array(reasons, pa.string()),
            }
            values = [pa.nulls(count, field.type) for field in table.layout.fields[len(LOG_FIELDS) :]]
        else:
            log |= {
                VERSION: pa.array(np.full(count, version, np.int64)),
                ERROR: pa.nulls(count, pa.string()),
            }
            values = [*_write_columns(table.layout, requests)]
        batch = pa.RecordBatch.from_arrays([*(log[field.name] for field in LOG_FIELDS), *values], schema=table.schema)
        if column is None or self._sample.is_all:
            return batch
        names = [key or identities[owner] for key, owner in zip(keys, owners.tolist(), strict=True)]
        return batch.filter(pa.array([self._sample.has_key(name) for name in names]))

    def _append_batch(self, table: _Table, batch: pa.RecordBatch) -> None:
        try:
            stream = self._find_stream(table)
            stream.append(batch)
        except OSError as error:
            self._counts.add_dropped(DISK, batch.num_rows)
            self._counts.add_failure()
            message = f"{self._settings.folder}: cannot be written: {_explain(error)}"
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


def _write_columns(layout: LogLayout, requests: Sequence[RequestRecord]) -> Iterator[pa.Array]:
    """Yield the values of all requests in each column."""
    calls: dict[bytes, int] = {}
    parts: list[CallValues] = []
    rows: list[int] = []
    end = 0
    for request in requests:
        first = calls.get(request.call)
        if first is None:
            first = calls[request.call] = end
            parts.append(CallValues.parse(request.call))
            end += len(next(iter(parts[-1].outputs.values())))
        rows += range(first + request.start, first + request.start + request.rows)
    is_all = rows == [*range(end)]
    inputs, outputs = [part.columns for part in parts], [part.outputs for part in parts]
    sources = [*((column, inputs) for column in layout.inputs), *((column, outputs) for column in layout.outputs)]
    for column, source in sources:
        values = [*chain.from_iterable(each[column.source] for each in source)]
        yield column.write(values if is_all else [values[row] for row in rows])
