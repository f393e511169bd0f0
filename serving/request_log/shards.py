"""The shards of a request log: their columns, how they are read, and how one is written. Imports no TensorFlow.

A row of a shard is a row of a request. It has the input columns of the model, as the training table has them: by name
and type, with nulls where values are missing. So a shard is a data file for ExampleGen. Columns of the log start with
`_request_`, outputs of the model with `_prediction_`. A rejected request is one row with `_request_error` and nothing
else. A version with other columns starts a new shard.
"""

import contextlib
import datetime
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from cli.errors import DataError
from schemas.tables.log_columns import PREDICTION_PREFIX

FORMAT = 1
SHARD_PATTERN = "requests-*.parquet"
# A worker appends to a stream; its end may be cut off. It becomes a shard when it is rotated.
STREAM_PATTERN = "requests-*.arrow"
FILE_MODE, FOLDER_MODE = 0o640, 0o750
_DESCRIPTION_KEY = b"request_log"

TIME, ID, ROW, KEY = "_request_time", "_request_id", "_request_row", "_request_key"
VERSION, ERROR = "_request_version", "_request_error"
LOG_FIELDS: Sequence[pa.Field] = (
    pa.field(TIME, pa.timestamp("us", "UTC"), nullable=False),
    pa.field(ID, pa.string(), nullable=False),
    pa.field(ROW, pa.int32(), nullable=False),
    pa.field(KEY, pa.string()),
    pa.field(VERSION, pa.int64()),
    pa.field(ERROR, pa.string()),
)


class RequestLogError(DataError):
    """A request log cannot be read or written, or lacks what is needed of it."""


class AbsentColumnError(RequestLogError):
    """A column was not logged."""


class DeletedShardError(RequestLogError):
    """A shard was deleted since it was listed, such as for --log-budget."""


class ShardDescription(BaseModel):
    """Facts that the rows of a shard have in common, in the metadata of its file.

    Attributes:
      format: Number of the format.
      model: Name of the model.
      sample: Share of the requests that the log has.
      key: Column or header that `_request_key` comes from; empty if there is none.
      masked: Sensitive columns that were left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    model: str
    sample: float
    key: str = ""
    masked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shard:
    """One file of a log.

    Attributes:
      path: Its path.
      schema: Its Arrow schema.
      description: What its rows have in common.
    """

    path: Path
    schema: pa.Schema
    description: ShardDescription

    @property
    def input_columns(self) -> list[str]:
        """The input columns of the model."""
        log = {field.name for field in LOG_FIELDS}
        return [name for name in self.schema.names if name not in log and not name.startswith(PREDICTION_PREFIX)]

    @property
    def outputs(self) -> list[str]:
        """The outputs of the model, without the prefix of their columns."""
        return [
            name.removeprefix(PREDICTION_PREFIX) for name in self.schema.names if name.startswith(PREDICTION_PREFIX)
        ]

    def check_columns(self, columns: Collection[str], purpose: str) -> None:
        """Check that the shard has all input columns that something needs.

        Raises:
          AbsentColumnError: A column is masked, or the shard lacks it.
        """
        for name in columns:
            if name in self.description.masked:
                raise AbsentColumnError(
                    f"{self.path}: column '{name}' is sensitive and was not logged; {purpose} needs it; "
                    "log it with --log-sensitive"
                )
            if name not in self.schema.names:
                raise AbsentColumnError(f"{self.path}: has no column '{name}'; {purpose} needs it")

    def check_declared(self, columns: Collection[str], problem: str) -> None:
        """Check that the shard has a column that the config declares.

        Args:
          columns: Columns of the training data that requests have.
          problem: What is not possible without one, and the remedy.

        Raises:
          RequestLogError: It has none, as the log of a model of the user's own `run_fn`.
        """
        if columns and self.input_columns and not {*columns} & {*self.input_columns}:
            tensors = ", ".join(self.input_columns)
            raise RequestLogError(
                f"{self.path}: has the tensors of a model of your own ({tensors}), expected columns of the training "
                f"data; {problem}"
            )

    def check_model(self, model: str) -> None:
        """Check that the shard is of a model.

        Raises:
          RequestLogError: It is of another one.
        """
        if self.description.model != model:
            raise RequestLogError(
                f"{self.path}: is of the model '{self.description.model}', expected '{model}'; name another folder"
            )

    def read_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in the order of the log.

        Args:
          columns: Names of the columns; None for all.

        Raises:
          DeletedShardError: The file was deleted.
          RequestLogError: It is damaged.
        """
        # A stream may have become a shard since it was listed.
        for path in (self.path, self.path.with_suffix(".parquet")):
            try:
                yield from _read_file(path, columns)
            except FileNotFoundError:
                continue
            except (OSError, pa.ArrowException) as error:
                raise RequestLogError(f"{self.path}: cannot be read: {error}") from error
            else:
                return
        raise DeletedShardError(f"{self.path}: cannot be read: No such file or directory")


def list_shards(folder: Path, model: str | None = None) -> list[Shard]:
    """Return the shards of a log, those that workers still write among them, in the order of their names.

    Args:
      folder: Folder of the log.
      model: Name of the model that all must be of; None for any.

    Raises:
      RequestLogError: There is no such folder, no shard, or one that is not of this format, or of another model.
    """
    if not folder.is_dir():
        raise RequestLogError(f"{folder}: there is no such folder; a server writes one with --log-requests")
    # First the streams: one that becomes a shard meanwhile is listed by both, and counts once.
    by_name = {path.stem: path for path in [*list_streams(folder), *folder.glob(SHARD_PATTERN)]}
    shards = [shard for _, path in sorted(by_name.items()) if (shard := open_shard(path)) is not None]
    if model is not None:
        for shard in shards:
            shard.check_model(model)
    if not shards:
        raise RequestLogError(f"{folder}: has no shard of a request log; a server writes them with --log-requests")
    return shards


def list_streams(folder: Path) -> list[Path]:
    """Return the streams of a log, in the order of their names."""
    return sorted(folder.glob(STREAM_PATTERN))


def read_rows(
    shards: Sequence[Shard],
    columns: Sequence[str] | None = None,
    *,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of shards in a window of time; a shard that was deleted has none.

    Args:
      shards: The shards.
      columns: Names of the columns; None for all of each shard.
      since: Start of the window, inclusive, with a time zone.
      until: End of the window, exclusive.
    """
    import pyarrow.compute as pc

    for shard in shards:
        names = None if columns is None else list(dict.fromkeys([TIME, *columns]))
        with contextlib.suppress(DeletedShardError):
            for batch in shard.read_batches(names):
                times = batch.column(TIME)
                inside = pa.array([True] * len(times)) if since is None else pc.greater_equal(times, pa.scalar(since))
                if until is not None:
                    inside = pc.and_(inside, pc.less(times, pa.scalar(until)))
                batch = batch.filter(inside)
                if batch.num_rows:
                    yield batch if columns is None else batch.select(list(columns))


def write_shard(path: Path, rows: pa.Table, description: ShardDescription) -> None:
    """Write a shard as a whole: a reader sees all of it, or nothing.

    Args:
      path: Path of the new file, which fits SHARD_PATTERN.
      rows: Columns of LOG_FIELDS, inputs and outputs.
      description: What the rows have in common.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
            pq.write_table(describe(rows, description), file, compression="zstd")
            file.flush()
            # A name that outlives a power failure has its content.
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # A full disk has no place for half a shard.
        temporary.unlink(missing_ok=True)
        raise


def describe(rows: pa.Table, description: ShardDescription) -> pa.Table:
    """Return the table with the description in the metadata of its schema."""
    return rows.replace_schema_metadata(build_schema([], description).metadata)


def build_schema(fields: Sequence[pa.Field], description: ShardDescription) -> pa.Schema:
    """Return a schema with the description in its metadata."""
    return pa.schema(fields, {_DESCRIPTION_KEY: orjson.dumps(description.model_dump())})


def open_shard(path: Path) -> Shard | None:
    """Return a shard; None for a stream that has no schema yet, or has become a shard meanwhile.

    Raises:
      RequestLogError: The file is not a shard of this format.
    """
    try:
        schema = pq.read_schema(path) if path.suffix == ".parquet" else _read_stream_schema(path)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        remedy = "; move it to another folder" if isinstance(error, pa.ArrowException) else ""
        raise RequestLogError(f"{path}: is not a shard of a request log: {error}{remedy}") from error
    if schema is None:
        return None
    text = (schema.metadata or {}).get(_DESCRIPTION_KEY)
    if text is None:
        raise RequestLogError(f"{path}: is not a shard of a request log; move it to another folder")
    try:
        description = ShardDescription.model_validate_json(text)
    except ValidationError as error:
        raise RequestLogError(f"{path}: its description cannot be read: {error.errors()[0]['msg']}") from error
    if description.format != FORMAT:
        raise RequestLogError(
            f"{path}: has format {description.format}; this program reads format {FORMAT}; move it to "
            "another folder, and read it with the release that wrote it"
        )
    return Shard(path, schema, description)


def _read_file(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(columns=list(columns) if columns is not None else None)
    else:
        for batch in _read_stream(path):
            yield batch if columns is None else batch.select(list(columns))


def _read_stream_schema(path: Path) -> pa.Schema | None:
    with pa.OSFile(str(path), "rb") as file:
        try:
            return pa.ipc.open_stream(file).schema
        except (pa.ArrowInvalid, OSError):
            # The worker has not written its first block, or was killed before.
            return None


def _read_stream(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the whole batches of a stream, whose last one may be cut off."""
    with pa.OSFile(str(path), "rb") as file:
        reader = pa.ipc.open_stream(file)
        while True:
            try:
                batch = reader.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return
            yield batch
