"""Writes logged predictions with labels as the next span of a config's data, with the features as they were served.

A prediction is in one span only: the hashes of the rows that were written are kept beside the joined rows.
"""

import datetime
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cli.counts import format_count
from cli.errors import ConfigError, DataError
from pipeline.config.pipeline_config import PipelineConfig
from schemas.data import Data, FileSplit
from schemas.declaration import suggest_name
from schemas.tables import locations
from schemas.tables.data_files import name_next_file
from serving.outcomes.join import open_outcomes
from serving.outcomes.store import HASH, IS_EARLY, LABEL, SHARD, WEIGHT, JoinSummary, read_summary
from serving.request_log.shards import KEY, TIME, AbsentColumnError, RequestLogError, Shard, list_shards

_PURPOSE = "the next span of the training data"


@dataclass(frozen=True)
class TrainingSpan:
    """A file that was written.

    Attributes:
      path: Its path.
      rows: Number of rows.
      written_before: Number of rows that are left out because an earlier span has them.
      first, last: Times of the first and the last prediction.
    """

    path: Path
    rows: int
    written_before: int
    first: datetime.datetime
    last: datetime.datetime


def write_span(
    config: PipelineConfig,
    log: Path,
    *,
    split: str = "train",
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
    output: Path | None = None,
) -> TrainingSpan:
    """Write the labelled predictions that no earlier span has.

    Args:
      config: Config whose data the span is for.
      log: Folder of the request log.
      split: Split whose pattern names the file.
      since: Start of the time of prediction, inclusive; None for the first.
      until: End, exclusive; None for the last.
      output: Path of the file; None for the next file of the split's pattern.

    Raises:
      ConfigError: The data of the config are not such files, or the file exists.
      DataError: There are no new rows.
      RequestLogError: A column was not logged, or the log cannot be read.
    """
    list_shards(log)
    summary = read_summary(log)
    if summary is None:
        raise RequestLogError(
            f"{log}: no labels were joined yet: python -m serving.outcomes FILE --key COLUMN --log {log} --model FOLDER"
        )
    _check_config(config, summary, split)
    target = output or _find_target(config.data, split)
    if target.exists():
        pattern = f"Let data.splits.{split}.files have {{SPAN}}, or name" if output is None else "Name"
        raise ConfigError(f"{target}: exists already; it is never overwritten. {pattern} another file with --output")
    with open_outcomes(log) as outcomes:
        pattern = f"{config.data.base}\0{split}"
        prefix = f"written-{hashlib.sha256(pattern.encode()).hexdigest()[:8]}"
        before = _read_hashes(outcomes, prefix)
        rows = _JoinedRows(outcomes / summary.joined, config, summary, since, until, before)
        temporary = outcomes / f".unfinished-{os.getpid()}-span.parquet"
        try:
            hashes, written_before, first, last = rows.write(log, temporary)
            if first is None or last is None:
                some = f"; earlier spans have {written_before:,}" if written_before else ""
                raise DataError(f"{log}: has no new predictions with a label in this time{some}")
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(temporary, target)
            number = len([*outcomes.glob(f"{prefix}-*.parquet")]) + 1
            kept = outcomes / f".unfinished-{os.getpid()}-hashes.parquet"
            pq.write_table(pa.table({HASH: hashes}, metadata={"file": str(target)}), kept)
            kept.replace(outcomes / f"{prefix}-{number:05}.parquet")
        except OSError as error:
            raise RequestLogError(f"{target}: cannot be written: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return TrainingSpan(target, len(hashes), written_before, first, last)


def _check_config(config: PipelineConfig, summary: JoinSummary, split: str) -> None:
    """Check that the rows of a log can be a file of the config's data."""
    data, label = config.data, config.label
    if split not in data.read_splits:
        raise ConfigError(f"--split {split}: is not a split that is read; {suggest_name(split, [*data.read_splits])}")
    if data.format != "parquet":
        raise ConfigError(
            f"data.format: {data.format}: the rows of a request log are written as Parquet; convert the other spans, "
            "and set data.format: parquet"
        )
    if label.expression is not None:
        raise ConfigError(
            f"label.expression: the label '{label.column}' is computed from columns of the data, and a log has its "
            "values; declare it as a column in a config for these spans"
        )
    if (label.column, label.kind, tuple(label.classes)) != (summary.label, summary.kind, tuple(summary.classes)):
        raise ConfigError(
            f"label: the config has '{label.column}' ({label.kind}), and the joined labels are of '{summary.label}' "
            f"({summary.kind}); expected the same label and classes"
        )
    if data.weight_column is not None and not summary.weight:
        raise ConfigError(
            f"data.weight_column: the joined labels have no weights, and '{data.weight_column}' needs one for each "
            "row; join a file that has them"
        )


def _find_target(data: Data, split: str) -> Path:
    """Return the path of the next file of a split."""
    declared = data.splits[split]
    if not isinstance(declared, FileSplit) or locations.is_remote(data.base):
        raise ConfigError(f"splits.{split}: its rows are not in files of this machine; name the new file with --output")
    return Path(name_next_file(data, split))


def _move(source: Path, target: Path) -> None:
    """Move a file to a place that may be on another disk; a reader gets all of it, or nothing."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with source.open("rb") as opened, temporary.open("wb") as copy:
            while block := opened.read(1 << 20):
                copy.write(block)
        # Unlike a rename, it fails if another process has written the file meanwhile.
        os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _read_hashes(outcomes: Path, prefix: str) -> NDArray[np.uint64]:
    """Return the hashes of the rows that earlier spans have."""
    try:
        tables = [pq.read_table(path).column(HASH) for path in sorted(outcomes.glob(f"{prefix}-*.parquet"))]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RequestLogError(f"{outcomes}: the rows of earlier spans cannot be read: {error}") from error
    return np.concatenate([np.asarray(table) for table in tables]) if tables else np.zeros(0, np.uint64)


class _JoinedRows:
    """Joined rows in a window of time, as rows of the training table."""

    def __init__(
        self,
        path: Path,
        config: PipelineConfig,
        summary: JoinSummary,
        since: datetime.datetime | None,
        until: datetime.datetime | None,
        before: NDArray[np.uint64],
    ) -> None:
        self._path, self._summary, self._since, self._until, self._before = path, summary, since, until, before
        self._label, self._weight = config.label.column, config.data.weight_column
        self._group = config.data.group_column
        columns = [*config.feature_set.raw_features, *config.data.split_columns]
        self._columns = [name for name in dict.fromkeys(columns) if name not in (self._label, self._weight)]

    def write(
        self, log: Path, target: Path
    ) -> tuple[NDArray[np.uint64], int, datetime.datetime | None, datetime.datetime | None]:
        """Write the rows; return their hashes, how many earlier spans have, and the first and last time."""
        shards = self._describe_shards(log)
        checked: set[str] = set()
        hashes: list[NDArray[np.uint64]] = []
        times: list[datetime.datetime] = []
        written_before = 0
        writer: pq.ParquetWriter | None = None
        try:
            for batch in self._read_batches():
                is_new = ~np.isin(np.asarray(batch.column(HASH)), self._before)
                written_before += int((~is_new).sum())
                batch = batch.filter(pa.array(is_new))
                if not batch.num_rows:
                    continue
                for name in set(batch.column(SHARD).unique().to_pylist()) - checked:
                    self._check_columns(shards[name])
                    checked.add(name)
                rows = self._convert(batch, shards)
                writer = writer or pq.ParquetWriter(target, rows.schema, compression="zstd")
                writer.write_table(rows)
                hashes.append(np.asarray(batch.column(HASH)))
                bounds = pc.min_max(batch.column(TIME)).as_py()
                times += [bounds["min"], bounds["max"]]
        finally:
            if writer is not None:
                writer.close()
        every = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        return every, written_before, min(times, default=None), max(times, default=None)

    def _check_columns(self, shard: Shard) -> None:
        try:
            shard.check_columns(self._list_columns(shard), _PURPOSE)
        except AbsentColumnError as error:
            raise RequestLogError(f"{error}; name the time from which it was logged with --since") from error

    def _list_columns(self, shard: Shard) -> list[str]:
        """Return the columns that a shard must have; the key may be the column of the groups."""
        group = [self._group] if self._group is not None and self._group != shard.description.key else []
        return [*self._columns, *group]

    def _describe_shards(self, log: Path) -> dict[str, Shard]:
        """Return the shards by name; one whose file is gone has the columns of the joined rows."""
        present = {shard.path.stem: shard for shard in list_shards(log)}
        schema = pq.read_schema(self._path)
        return {
            name: present.get(name) or Shard(log / name, schema, shard.description)
            for name, shard in self._summary.shards.items()
        }

    def _read_batches(self) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(self._path) as file:
                names = {*file.schema_arrow.names}
                selected_names = [
                    *self._columns,
                    *([self._group] if self._group else []),
                    TIME,
                    KEY,
                    LABEL,
                    WEIGHT,
                    HASH,
                ]
                present = [name for name in dict.fromkeys([*selected_names, SHARD, IS_EARLY]) if name in names]
                for batch in file.iter_batches(columns=present):
                    selected = pc.invert(batch.column(IS_EARLY))
                    if self._since is not None:
                        selected = pc.and_(selected, pc.greater_equal(batch.column(TIME), pa.scalar(self._since)))
                    if self._until is not None:
                        selected = pc.and_(selected, pc.less(batch.column(TIME), pa.scalar(self._until)))
                    yield batch.filter(selected)
        except (OSError, pa.ArrowException) as error:
            raise RequestLogError(f"{self._path}: cannot be read: {error}; join again") from error

    def _convert(self, batch: pa.RecordBatch, shards: dict[str, Shard]) -> pa.Table:
        """Return rows by the names of the training table."""
        columns = {name: batch.column(name) for name in self._columns}
        if self._group is not None and self._group not in columns:
            has_own = self._group in batch.schema.names
            columns[self._group] = batch.column(self._group) if has_own else batch.column(KEY)
        columns[self._label] = batch.column(LABEL)
        if self._weight is not None:
            weights = batch.column(WEIGHT)
            if weights.null_count:
                raise DataError(
                    f"{self._path}: {format_count(weights.null_count, 'label', 'have')} no weight, and "
                    f"data.weight_column '{self._weight}' needs one for each row; join a file that has them"
                )
            columns[self._weight] = weights
        return pa.table(columns)


def parse_time(text: str | None, flag: str) -> datetime.datetime | None:
    """Return a date or time of ISO 8601, which is UTC without an offset.

    Raises:
      ConfigError: It is another text.
    """
    if text is None:
        return None
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{flag} {text}: is not a date or time; expected one such as 2026-11-01") from error
    return time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)
