"""Writes the request log of one worker, beside the requests: no answer waits for it.

A request appends its entry to a bounded queue. Twice a second or more often, one thread makes record batches of the
entries and appends them to streams; another turns streams into shards and keeps the disk budget. Entries that find the
queue full, and rows that cannot be written, are dropped and counted.
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
from serving.request_log.columns import Layout, LoggedVersion, build_layout
from serving.request_log.entries import Entry, Record, read_keys
from serving.request_log.reasons import Reasons
from serving.request_log.sampling import is_sampled
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
_FLUSH_SECONDS = 0.25
_RETRY_SECONDS = 30.0
_LAST_ROWS_SECONDS = 5.0
_MAX_WAITING_ROWS, _MAX_WAITING_BYTES = 65_536, 64 << 20
# Versions with different columns that are written side by side, such as those of a canary.
_MAX_STREAMS = 4
QUEUE, DISK, COLUMNS = "queue", "disk", "columns"


class Counts(Protocol):
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
class _Columns:
    """The columns of a version, which are None if its requests cannot be logged.

    The version itself may be dropped meanwhile, and its model with it.
    """

    version: "weakref.ref[LoggedVersion]"
    layout: Layout | None


def check_version(settings: RequestLogSettings, version: LoggedVersion) -> Layout:
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

    def __init__(self, settings: RequestLogSettings, counts: Counts) -> None:
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
        for path, error in recover_streams(self._settings.folder):
            if error is None:
                _LOG.info("%s: a worker left it; its rows are in a shard now", path)
            else:
                self._report(f"{path}: a worker left it, and it cannot become a shard: {error}")
        self._keep_budget()
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
        except (OSError, pa.ArrowException, RequestLogError) as error:
            # Readers take the stream as it is.
            self._report(f"{stream.path}: cannot become a shard yet: {error}")
            self._failed.append(stream)
        else:
            self._message = ""
            stream.close()

    def _keep_budget(self) -> None:
        try:
            deleted = delete_oldest(self._settings.folder, self._settings.budget_bytes)
        except OSError as error:
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
        counts: Counts,
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
        self._find_default = find_default
        self._names = StreamNames()
        self._reasons = Reasons()
        self._records: deque[Record] = deque()
        # Each is written by one thread only: the event loop's, and the writer's.
        self._added, self._taken = [0, 0], [0, 0]
        # By number and signature; those of the records that wait.
        self._versions: dict[tuple[int, str], LoggedVersion] = {}
        self._columns: dict[tuple[int, str], _Columns] = {}
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
        header = self._settings.header
        header_key = (headers.get(header) or None) if header is not None else None
        # Keys of rows are read later, beside the requests.
        if self._settings.key_column is None and not is_sampled(header_key or identity, self._settings.sample):
            return None
        return Entry(self._append, identity, header_key, self._settings.key_column)

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

    def _append(self, record: Record, version: LoggedVersion | None) -> None:
        added, taken = self._added, self._taken
        rows, size = record[-2:]
        if added[0] - taken[0] + rows > _MAX_WAITING_ROWS or added[1] - taken[1] > _MAX_WAITING_BYTES:
            self._counts.add_dropped(QUEUE, rows)
            return
        if version is not None:
            self._versions[version.number, version.signature] = version
        added[0] += rows
        added[1] += size
        self._records.append(record)

    def _run(self) -> None:
        while True:
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
            waiting = [self._flushes.get() for _ in range(self._flushes.qsize())]
            records = [self._records.popleft() for _ in range(len(self._records))]
            try:
                self._write(records)
                self._rotate()
            except Exception:
                # An error of this program must not end the log of the worker.
                self._counts.add_failure()
                _LOG.exception("request log: rows may be lost")
            self._taken[0] += sum(record[-2] for record in records)
            self._taken[1] += sum(record[-1] for record in records)
            for each in waiting:
                each.set()

    def _write(self, records: Sequence[Record]) -> None:
        """Write records, those of the same columns together."""
        groups: dict[tuple[int | None, str, bool], list[Record]] = {}
        for record in records:
            groups.setdefault((record[3], record[4], record[8] == 1), []).append(record)
        for (number, signature, _), group in groups.items():
            if number is None:
                default = self._find_default()
                layout = self._find_layout(default) if default is not None else None
                layout = layout or Layout((), (), ())
            else:
                version = self._versions.pop((number, signature), None)
                layout = self._find_layout(version) if version is not None else self._columns[number, signature].layout
            if layout is None:
                self._counts.add_dropped(COLUMNS, sum(record[8] for record in group))
                continue
            schema = self._build_schema(layout)
            for batch in self._build_batches(layout, schema, group):
                if batch.num_rows:
                    self._append_batch(batch)

    def _find_layout(self, version: LoggedVersion) -> Layout | None:
        """Return the columns of a version; None if its requests cannot be logged."""
        key = (version.number, version.signature)
        columns = self._columns.get(key)
        if columns is None or columns.version() is not version:
            layout = None
            try:
                layout = check_version(self._settings, version)
            except ConfigError as error:
                _LOG.error("requests of version %d are not logged: %s", version.number, error)
            columns = self._columns[key] = _Columns(weakref.ref(version), layout)
        return columns.layout

    def _build_schema(self, layout: Layout) -> pa.Schema:
        description = ShardDescription(
            model=self._model_name,
            sample=self._settings.sample,
            key=self._settings.key,
            masked=tuple(layout.masked),
        )
        return build_schema(layout.fields, description)

    def _build_batches(self, layout: Layout, schema: pa.Schema, records: Sequence[Record]) -> Iterable[pa.RecordBatch]:
        """Yield batches of rows; records that cannot be converted are dropped."""
        try:
            yield self._build_batch(layout, schema, records)
        except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError) as error:
            if len(records) == 1:
                identity, *_, rows, _ = records[0]
                self._counts.add_dropped(COLUMNS, rows)
                _LOG.error("request %s is not logged: its values do not fit: %s", identity, type(error).__name__)
                return
            for record in records:
                yield from self._build_batches(layout, schema, [record])

    def _build_batch(self, layout: Layout, schema: pa.Schema, records: Sequence[Record]) -> pa.RecordBatch:
        """Return the rows of records of one version, or of rejected requests, that are in the sample."""
        identities, times, keys, numbers, _, inputs, outputs, errors, counts, _ = zip(*records, strict=True)
        owners = np.repeat(np.arange(len(records)), counts)
        column = self._settings.key_column
        row_keys = [key for part, count in zip(keys, counts, strict=True) for key in read_keys(part, count, column)]
        log = {
            TIME: pa.array(np.array(times)[owners], pa.timestamp("us", "UTC")),
            ID: pa.array(identities, pa.string()).take(pa.array(owners)),
            ROW: pa.array(np.concatenate([np.arange(count) for count in counts]), pa.int32()),
            KEY: pa.array(row_keys, pa.string()),
        }
        if numbers[0] is None:
            reasons = [self._reasons.find(error) for error in errors]
            log |= {VERSION: pa.nulls(len(owners), pa.int64()), ERROR: pa.array(reasons, pa.string())}
            values = [pa.nulls(len(owners), field.type) for field in layout.fields[len(LOG_FIELDS) :]]
        else:
            log |= {
                VERSION: pa.array(np.full(len(owners), numbers[0], np.int64)),
                ERROR: pa.nulls(len(owners), pa.string()),
            }
            values = layout.write(inputs, outputs, single=counts[0] == 1)
        batch = pa.RecordBatch.from_arrays([*(log[field.name] for field in LOG_FIELDS), *values], schema=schema)
        if column is None or self._settings.sample >= 1:
            return batch
        names = [key or identities[owner] for key, owner in zip(row_keys, owners.tolist(), strict=True)]
        return batch.filter(pa.array([is_sampled(name, self._settings.sample) for name in names]))

    def _append_batch(self, batch: pa.RecordBatch) -> None:
        try:
            stream = self._find_stream(batch.schema)
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

    def _find_stream(self, schema: pa.Schema) -> Stream:
        key = schema.to_string(show_schema_metadata=True)
        stream = self._streams.get(key)
        if stream is not None and stream.has_moved():
            _LOG.error("request log: %s is gone; a new one is written", stream.path)
            self._streams.pop(key).close()
            stream = None
        if stream is None:
            stream = self._streams[key] = Stream(self._settings.folder, self._names, schema)
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
