"""Imports Vertex AI's request-response log as shards of a request log. Imports no TensorFlow.

An import reads the table from where the last one ended, and a little before: BigQuery shows a row some time after its
`logging_time`. A request is imported once, whatever is read again, since the shards have its ID.

    FOLDER/requests-vertex-20261130T020000-v3-0f4c....parquet    serving/request_log/shards.py
           vertex_import.json                                   where the last import ended, by table
           .vertex_import.lock                                  held during an import
"""

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import filelock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cli.errors import ConfigError, PushError
from cli.state_files import write_atomically
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from schemas.sensitive import find_sensitive
from serving.model.golden_requests import GoldenRequests
from serving.model.inputs import build_inputs
from serving.registry.content import DECLARATION_FILE, GOLDEN_FILE, READ_OPTIONS_FILE
from serving.registry.vertex import staging
from serving.registry.vertex.registry import EndpointDeployments
from serving.request_log.shards import (
    ID,
    SHARD_PATTERN,
    RequestLogError,
    ShardDescription,
    list_shards,
    read_rows,
    write_shard,
)
from serving.request_log.vertex_columns import MalformedRequestError, VersionRows, parse_request
from serving.request_log.vertex_table import LoggedRequest

CURSOR_FILE = "vertex_import.json"
_LOCK_FILE = ".vertex_import.lock"
# How late a row may come; Google gives no number.
_OVERLAP = datetime.timedelta(minutes=10)
_REQUESTS_AT_ONCE, _ROWS_PER_SHARD = 1_000, 100_000

BEFORE, GOLDEN, MALFORMED = "imported before", "golden requests of pushes", "malformed"


class LogSource(Protocol):
    """A log of Vertex AI."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def has_cursor(self) -> bool:
        """Whether the rows before a time can be left out."""

    def read(self, since: datetime.datetime | None) -> Iterator[LoggedRequest]:
        """Yield the requests since a time, in any order."""


class _Cursor(BaseModel):
    model_config = ConfigDict(extra="forbid")

    time: datetime.datetime
    """The latest `logging_time` that was read."""
    skipped: dict[str, datetime.datetime] = Field(default_factory=dict)
    """Requests of the overlap that were read and are in no shard, with their times."""


class _Cursors(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tables: dict[str, _Cursor] = Field(default_factory=dict)


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import.

    Attributes:
      model: Name of the model.
      project: Project of the bucket with the versions.
      sample: Share of the requests that the log has.
      since: Time of the first request; None to continue where the last import ended.
      key: Column that `_request_key` comes from; empty for none.
      log_sensitive: Whether sensitive columns are written.
    """

    model: str
    project: str
    sample: float
    since: datetime.datetime | None = None
    key: str = ""
    log_sensitive: bool = False


@dataclass
class ImportReport:
    """Outcome of an import.

    Attributes:
      source: Name of the table or folder.
      since: Time from which it was read; None for its start.
      until: Time of the latest request that was read; None if there was none.
      requests, rows, rejected: Numbers of imported requests, of their rows, and of rejected requests among them.
      versions: Number of imported requests by version.
      shards: Names of the new files.
      skipped: Number of requests that were not imported, by reason.
      examples: First malformed request: its ID and its problem.
    """

    source: str
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    requests: int = 0
    rows: int = 0
    rejected: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    shards: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON document."""
        times = {name: time and time.isoformat() for name, time in (("since", self.since), ("until", self.until))}
        counts = {"requests": self.requests, "rows": self.rows, "rejected": self.rejected}
        versions = {str(number): count for number, count in sorted(self.versions.items()) if count}
        skipped = dict(self.skipped.most_common())
        return {
            "source": self.source,
            **times,
            **counts,
            "versions": versions,
            "skipped": skipped,
            "first_malformed": self.example,
            "shards": self.shards,
        }

    def format_lines(self) -> list[str]:
        """Return the outcome in words, a line each."""
        since = f" since {_write_time(self.since)}" if self.since else ""
        until = f", the latest of {_write_time(self.until)}" if self.until else ""
        lines = [
            f"{self.source}: imported {_format_count(self.requests)}{since}{until}: {_format_count(self.rows, 'row')}"
        ]
        lines += [
            f"  version {number}: {_format_count(count)}" for number, count in sorted(self.versions.items()) if count
        ]
        if self.rejected:
            lines.append(f"  rejected by the model: {_format_count(self.rejected)}")
        for reason, count in self.skipped.most_common():
            example = f"; the first: {self.example}" if reason == MALFORMED else ""
            lines.append(f"  not imported, {reason}: {_format_count(count)}{example}")
        return lines


def _format_count(number: int, noun: str = "request") -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def import_log(
    source: LogSource, folder: Path, deployments: EndpointDeployments, options: ImportOptions
) -> ImportReport:
    """Write the new requests of a log as shards of a folder.

    Args:
      source: Log of Vertex AI.
      folder: Folder of the request log; it may not exist yet.
      deployments: Endpoint whose requests are imported, and the versions of its deployments.
      options: Further options.

    Raises:
      DataError: The log cannot be read, is none, or has no request in the window; or the folder has another log.
      ConfigError: The key is a sensitive column.
      PushError: The bucket with the versions cannot be read.
    """
    with _report_disk_errors(folder), _lock(folder):
        cursors = _read_cursors(folder)
        cursor = cursors.tables.get(source.name) if source.has_cursor else None
        since = options.since or (cursor.time - _OVERLAP if cursor is not None else None)
        run = _Import(folder, deployments, options, ImportReport(source.name, since))
        run.skip_known(since, {} if cursor is None or options.since else cursor.skipped)
        for request in source.read(since):
            run.add(request)
        run.finish()
        if run.report.until is None and cursor is None:
            raise RequestLogError(_describe_nothing(source.name, since, deployments))
        if source.has_cursor and run.report.until is not None:
            # A clock that was ahead must not hide the requests after it.
            latest = min(run.report.until, datetime.datetime.now(datetime.UTC))
            time = max(latest, cursor.time) if cursor is not None else latest
            recent = {name: at for name, at in run.left_out.items() if at >= time - _OVERLAP}
            cursors.tables[source.name] = _Cursor(time=time, skipped=recent)
            write_atomically(folder / CURSOR_FILE, cursors.model_dump_json(indent=1), durable=True)
    return run.report


class _Import:
    """One import that is under way."""

    def __init__(
        self, folder: Path, deployments: EndpointDeployments, options: ImportOptions, report: ImportReport
    ) -> None:
        self.report = report
        # Requests that are in no shard, with their times.
        self.left_out: dict[str, datetime.datetime] = {}
        self._folder, self._deployments, self._options = folder, deployments, options
        self._endpoint = deployments.endpoint.rpartition("/")[2]
        self._known: set[str] = set()
        # By number; the reason why there are none for a version that cannot be read.
        self._versions: dict[int, VersionRows | str] = {}
        self._golden: dict[int, str] = {}

    def skip_known(self, since: datetime.datetime | None, skipped: Mapping[str, datetime.datetime]) -> None:
        """Leave out the requests that the shards have, and others that an earlier import has read.

        Raises:
          RequestLogError: The folder has the log of another model.
        """
        self.left_out = dict(skipped)
        self._known = {*skipped}
        if not any(self._folder.glob(SHARD_PATTERN)):
            return
        shards = list_shards(self._folder, self._options.model)
        for batch in read_rows(shards, [ID], since=since):
            self._known.update(batch.column(ID).to_pylist())

    def add(self, request: LoggedRequest) -> None:
        """Import a request, or count why it is not."""
        if request.time is not None:
            self.report.until = max(self.report.until or request.time, request.time)
        if request.id in self._known:
            self.report.skipped[BEFORE] += 1
            return
        reason = self._find_reason(request)
        if reason:
            self._skip(request, reason)
        if request.id:
            self._known.add(request.id)

    def _skip(self, request: LoggedRequest, reason: str) -> None:
        self.report.skipped[reason] += 1
        if request.id and request.time is not None:
            self.left_out[request.id] = request.time

    def _find_reason(self, request: LoggedRequest) -> str:
        """Take a request; return the reason if it is skipped, else the empty string."""
        if request.endpoint.rpartition("/")[2] != self._endpoint:
            return f"of another endpoint than {self._endpoint}"
        number = self._deployments.versions.get(request.deployment)
        if number is None:
            return f"of deployment {request.deployment or '(none)'}, which the registry does not have"
        rows = self._find_version(number)
        if isinstance(rows, str):
            return rows
        try:
            if not request.id or request.time is None:
                raise MalformedRequestError("it has no request_id" if request.time else "it has no logging_time")
            prediction = parse_request(request)
        except MalformedRequestError as error:
            self._note_malformed(request, str(error))
            return MALFORMED
        if _to_canonical_json(prediction.instances) == self._golden[number]:
            return GOLDEN
        rows.waiting.append((request, prediction))
        if len(rows.waiting) >= _REQUESTS_AT_ONCE:
            self._convert(rows)
        return ""

    def _note_malformed(self, request: LoggedRequest, problem: str) -> None:
        self.report.example = self.report.example or f"{request.id or 'a row'}: {problem}"

    def _convert(self, rows: VersionRows) -> None:
        """Convert the requests that wait, and write the rows if they are many."""
        requests, before = len(rows.waiting), len(rows)
        rejected = sum(bool(prediction.error) for _, prediction in rows.waiting)
        malformed = rows.convert()
        for request, problem in malformed:
            self._note_malformed(request, problem)
            self._skip(request, MALFORMED)
        self.report.rejected += rejected
        self.report.requests += requests - len(malformed)
        self.report.versions[rows.number] += requests - len(malformed)
        self.report.rows += len(rows) - before
        if len(rows) >= _ROWS_PER_SHARD:
            self._write(rows)

    def _find_version(self, number: int) -> VersionRows | str:
        if number not in self._versions:
            self._versions[number] = self._read_version(number)
        return self._versions[number]

    def _read_version(self, number: int) -> VersionRows | str:
        """Return the rows of a version, or the reason why its requests cannot be read.

        Raises:
          ConfigError: The key is a sensitive column.
          PushError: The bucket cannot be read.
        """
        folder = self._deployments.folders.get(number)
        names = (DECLARATION_FILE, READ_OPTIONS_FILE, GOLDEN_FILE)
        files = [folder and staging.read(f"{folder}/{name}", project=self._options.project) for name in names]
        if not files[0] or not files[1]:
            return (
                f"of version {number}, whose files are gone" if folder is None else f"of version {number}, {_FOREIGN}"
            )
        try:
            features = FeatureSet.model_validate_json(files[0])
            options = ReadOptions.model_validate_json(files[1])
            golden = GoldenRequests.from_json(files[2]) if files[2] else None
        except ValueError as error:
            raise PushError(f"{folder}: its declaration is damaged; push the model again") from error
        inputs = build_inputs(features, options)
        self._golden[number] = _to_canonical_json(golden.instances) if golden is not None else ""
        key = self._options.key
        sensitive = () if self._options.log_sensitive else find_sensitive(features, options)
        if key and key in sensitive:
            raise ConfigError(f"--log-key {key}: is a sensitive column; add --log-sensitive, or choose another one")
        masked = [column.column for column in inputs.values() if column.column in sensitive]
        return VersionRows(number, inputs, masked, key)

    def finish(self) -> None:
        """Write what is left."""
        for rows in self._versions.values():
            if isinstance(rows, VersionRows):
                self._convert(rows)
                if rows:
                    self._write(rows)

    def _write(self, rows: VersionRows) -> None:
        table = rows.take()
        ids = table.column(ID).to_pylist()
        digest = hashlib.sha256("\0".join(ids).encode()).hexdigest()[:16]
        start = table.column("_request_time")[0].as_py()
        name = f"requests-vertex-{start:%Y%m%dT%H%M%S}-v{rows.number}-{digest}.parquet"
        description = ShardDescription(
            model=self._options.model, sample=self._options.sample, key=rows.key, masked=tuple(rows.masked)
        )
        write_shard(self._folder / name, table, description)
        self.report.shards.append(name)


_FOREIGN = "which another tool pushed: it has no declaration of its inputs"


def _to_canonical_json(instances: Sequence[Any]) -> str:
    """Return rows in one spelling: Vertex AI writes the number 10 as 10.0."""
    return json.dumps(_as_floats(list(instances)), sort_keys=True)


def _as_floats(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int():
            return float(value)
        case list():
            return [_as_floats(item) for item in value]
        case dict():
            return {name: _as_floats(item) for name, item in value.items()}
        case _:
            return value


def _describe_nothing(source: str, since: datetime.datetime | None, deployments: EndpointDeployments) -> str:
    window = f" since {_write_time(since)}" if since else ""
    endpoint = deployments.endpoint.rpartition("/")[2]
    if deployments.request_log is None:
        hint = f"endpoint {endpoint} logs nothing: set push.vertex.request_log, and push"
    else:
        hint = f"endpoint {endpoint} logs {deployments.request_log}; a row takes some minutes"
    return f"{source}: has no request{window}; {hint}"


def _write_time(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _read_cursors(folder: Path) -> _Cursors:
    file = folder / CURSOR_FILE
    try:
        return _Cursors.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return _Cursors()
    except ValidationError as error:
        raise RequestLogError(f"{file}: is damaged; delete it, and the next import reads the whole table") from error


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / _LOCK_FILE, timeout=0):
            yield
    except filelock.Timeout as error:
        raise RequestLogError(f"{folder}: another import is writing there; wait for it") from error


@contextmanager
def _report_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestLogError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error
