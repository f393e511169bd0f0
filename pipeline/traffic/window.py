"""A window of the request log: its rows by version, its rejections, and the statistics of one version's rows."""

import datetime
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.errors import ConfigError, DataError
from components.table_statistics import TableStatistics
from schemas.features import ColumnType
from schemas.tables.log_columns import PREDICTION_PREFIX
from serving.request_log.shards import (
    ERROR,
    KEY,
    ROW,
    TIME,
    VERSION,
    RequestLogError,
    Shard,
    read_rows,
)

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
# Outputs that identify the model are the same in all rows, and those of several numbers have no histogram.
_IDENTITY_OUTPUTS = ("model_version", "schema_hash", "classes")
Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatistics


@dataclass(frozen=True)
class TrafficColumns:
    """The input columns of a version.

    Attributes:
      types: Columns of the training data that requests have, and the type of each in the statistics.
      delimiters: String between two values of a row, of each column of lists.
      uncounted: Columns of which only missing values are compared.
      sensitive: Columns whose values no page shows.
    """

    types: Mapping[str, ColumnType]
    delimiters: Mapping[str, str]
    uncounted: Collection[str]
    sensitive: Collection[str]


@dataclass(frozen=True)
class LogWindow:
    """The rows of a window.

    Attributes:
      version: Version whose statistics were counted.
      since, until: Start and end; the end is the time of reading.
      rows: Number of predicted rows by version, all versions.
      answered: Number of their requests.
      keyless: Number of rows without the key of the log, by its column or header; none if all have it.
      rejections: Number of rejected requests by version and reason, the most frequent first; the version is the one
        that would have answered, None if it is not known.
      future: Number of rows with a time after the end, which are in no other number.
      latest: Latest of these times; None if there are none.
      samples: Shares of the requests that the log has.
      masked: Input columns that were not logged.
      inputs: Statistics of the inputs.
      outputs: Statistics of the outputs.
    """

    version: int
    since: datetime.datetime
    until: datetime.datetime
    rows: Mapping[int, int]
    answered: int
    keyless: Mapping[str, int]
    rejections: Mapping[tuple[int | None, str], int]
    future: int
    latest: datetime.datetime | None
    samples: Sequence[float]
    masked: Sequence[str]
    inputs: Statistics
    outputs: Statistics

    @property
    def reasons(self) -> dict[str, int]:
        """Number of rejected requests by reason, the most frequent first."""
        reasons: Counter[str] = Counter()
        for (_, reason), count in self.rejections.items():
            reasons[reason] += count
        return dict(reasons.most_common())

    @property
    def rejected(self) -> dict[int | None, int]:
        """Number of rejected requests by version; None comes last."""
        versions: Counter[int | None] = Counter()
        for (version, _), count in self.rejections.items():
            versions[version] += count
        return dict(sorted(versions.items(), key=lambda item: (item[0] is None, item[0] or 0)))


def parse_since(text: str, now: datetime.datetime) -> datetime.datetime:
    """Return the start of a window.

    Args:
      text: Duration such as `1d`, or a date or time of ISO 8601, which is UTC without an offset.
      now: Time of reading.

    Raises:
      ConfigError: It is neither, or is not before `now`.
    """
    match = _DURATION.fullmatch(text)
    try:
        if match is not None:
            return now - datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
        start = datetime.datetime.fromisoformat(text)
        start = start if start.tzinfo is not None else start.replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"--since {text}: expected a duration such as 30m, 12h, 1d or 2w, or a date such as 2026-11-30"
        ) from error
    if start >= now:
        raise ConfigError(f"--since {text}: is not in the past; it is {now:%Y-%m-%d %H:%M} UTC")
    return start


def read_window(
    shards: Sequence[Shard],
    columns: TrafficColumns,
    version: int,
    *,
    since: datetime.datetime,
    until: datetime.datetime,
) -> LogWindow:
    """Return a window of the log.

    Args:
      shards: Shards of the log.
      columns: Input columns of the version.
      version: Version whose rows are compared.
      since: Start, inclusive.
      until: Time of reading; rows with a later time are counted alone.

    Raises:
      RequestLogError: A shard is damaged, or lacks a column of the version.
    """
    # Before or after another start of the server, other columns may have been masked.
    shards = [shard for shard in shards if any(True for _ in read_rows([shard], [TIME], since=since))]
    masked = [name for name in columns.types if any(name in shard.description.masked for shard in shards)]
    inputs = TableStatistics(
        {name: type_ for name, type_ in columns.types.items() if name not in masked},
        delimiters=columns.delimiters,
        uncounted=columns.uncounted,
        sensitive=columns.sensitive,
    )
    outputs = _create_outputs(shards)
    rows: Counter[int] = Counter()
    rejections: Counter[tuple[int | None, str]] = Counter()
    keyless: Counter[str] = Counter()
    answered, future, latest = 0, 0, None
    samples: set[float] = set()
    for shard in shards:
        for batch in read_rows([shard], _choose_columns(shard, inputs, outputs), since=since):
            is_past = pc.less(batch.column(TIME), pa.scalar(until))
            later = batch.filter(pc.invert(is_past))
            if later.num_rows:
                future += later.num_rows
                newest = pc.max(later.column(TIME)).as_py()
                latest = newest if latest is None else max(latest, newest)
            batch = batch.filter(is_past)
            if not batch.num_rows:
                continue
            samples.add(shard.description.sample)
            is_answered = batch.column(ERROR).is_null()
            rejected = batch.filter(pc.invert(is_answered))
            versions, reasons = (rejected.column(name).to_pylist() for name in (VERSION, ERROR))
            rejections.update(zip(versions, reasons, strict=True))
            batch = batch.filter(is_answered)
            rows.update(_count_values(batch.column(VERSION)))
            if shard.description.key and batch.column(KEY).null_count:
                keyless[shard.description.key] += batch.column(KEY).null_count
            answered += pc.sum(pc.equal(batch.column(ROW), 0)).as_py() or 0
            batch = batch.filter(pc.equal(batch.column(VERSION), version))
            if batch.num_rows:
                _add_rows(shard, batch, inputs, outputs, version)
    return LogWindow(
        version,
        since,
        until,
        dict(sorted(rows.items())),
        answered,
        dict(keyless),
        dict(rejections.most_common()),
        future,
        latest,
        sorted(samples),
        masked,
        inputs.build(),
        outputs.build(),
    )


def read_first_outputs(
    shards: Sequence[Shard], version: int, *, days: int, before: datetime.datetime
) -> tuple[Statistics, datetime.datetime] | None:
    """Return the outputs of a version on its first days, and their end; None unless these are over at a time.

    Args:
      shards: Shards of the log.
      version: Version of the model.
      days: Number of days.
      before: Time at which they have to be over.
    """
    start = None
    for shard in shards:
        for batch in read_rows([shard], [TIME, VERSION, ERROR], until=before):
            times = _select_version(batch, version).column(TIME)
            if len(times):
                first = pc.min(times).as_py()
                start = first if start is None else min(start, first)
    end = start + datetime.timedelta(days=days) if start is not None else None
    if end is None or end > before:
        return None
    outputs = _create_outputs(shards)
    for shard in shards:
        names = [PREDICTION_PREFIX + name for name in outputs.columns]
        if not set(names) <= {*shard.schema.names}:
            continue
        for batch in read_rows([shard], [VERSION, ERROR, *names], since=start, until=end):
            outputs.add(_rename_outputs(_select_version(batch, version), outputs))
    return outputs.build(), end


def _select_version(batch: pa.RecordBatch, version: int) -> pa.RecordBatch:
    return batch.filter(
        pc.and_(batch.column(ERROR).is_null(), pc.fill_null(pc.equal(batch.column(VERSION), version), False))
    )


def _create_outputs(shards: Sequence[Shard]) -> TableStatistics:
    """Return empty statistics of the outputs with one number or string in each row."""
    types: dict[str, ColumnType] = {}
    for shard in shards:
        for name in shard.outputs:
            type_ = shard.schema.field(PREDICTION_PREFIX + name).type
            if name in _IDENTITY_OUTPUTS:
                continue
            if pa.types.is_floating(type_) or pa.types.is_integer(type_):
                types.setdefault(name, "float")
            elif pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_dictionary(type_):
                types.setdefault(name, "string")
    return TableStatistics(types)


def _choose_columns(shard: Shard, inputs: TableStatistics, outputs: TableStatistics) -> list[str]:
    """Return the columns that a shard has of those that are read; a shard of another version may lack some."""
    names = [TIME, VERSION, ERROR, ROW, KEY, *inputs.columns, *(PREDICTION_PREFIX + name for name in outputs.columns)]
    return [name for name in names if name in shard.schema.names]


def _add_rows(
    shard: Shard, batch: pa.RecordBatch, inputs: TableStatistics, outputs: TableStatistics, version: int
) -> None:
    """Add the rows of the version to the statistics.

    Raises:
      RequestLogError: The shard lacks a column, or has one of another type.
    """
    shard.check_declared(
        inputs.columns,
        "such traffic is not compared: remove monitoring.request_log, and name the log in infra_validation.replay",
    )
    shard.check_columns(inputs.columns, f"the comparison with the training data of version {version}")
    try:
        inputs.add(batch)
        if all(PREDICTION_PREFIX + name in batch.schema.names for name in outputs.columns):
            outputs.add(_rename_outputs(batch, outputs))
    except DataError as error:
        raise RequestLogError(f"{shard.path}: {error}") from error


def _rename_outputs(batch: pa.RecordBatch, outputs: TableStatistics) -> pa.RecordBatch:
    names = outputs.columns
    return pa.RecordBatch.from_arrays([batch.column(PREDICTION_PREFIX + name) for name in names], names=names)


def _count_values(column: pa.Array) -> dict[Any, int]:
    """Return the number of rows of each value, without nulls."""
    counted = pc.value_counts(column.drop_null())
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
