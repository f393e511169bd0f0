"""The rows of Vertex AI's request-response log: its table in BigQuery, or files that the table was exported to.

https://cloud.google.com/vertex-ai/docs/predictions/online-prediction-logging. Imports no TensorFlow.
"""

import datetime
import gzip
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cli.errors import ConfigError
from schemas.tables import bigquery
from serving.registry.content import parse_json
from serving.request_log.shards import RequestLogError

ENDPOINT, DEPLOYMENT, TIME, ID = "endpoint", "deployed_model_id", "logging_time", "request_id"
REQUEST, RESPONSE = "request_payload", "response_payload"
COLUMNS = (ENDPOINT, DEPLOYMENT, TIME, ID, REQUEST, RESPONSE)
_LISTS = "ARRAY<STRING>"
_TYPES = {TIME: "TIMESTAMP", REQUEST: _LISTS, RESPONSE: _LISTS}
_JSON_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
# An export of lists without `enable_list_inference` has groups around them and around their values.
_GROUPS = ("list", "element", "item")


@dataclass(frozen=True)
class LoggedRequest:
    """One request and its response, as Vertex AI logged them.

    Attributes:
      endpoint: Resource name or ID of the endpoint.
      deployment: ID of the deployment that answered.
      time: Time at which it was logged; None if the row has none.
      id: ID of the request; empty if the row has none.
      request, response: JSON of the instances and of the predictions.
    """

    endpoint: str
    deployment: str
    time: datetime.datetime | None
    id: str
    request: Sequence[str]
    response: Sequence[str]


@dataclass(frozen=True)
class BigQueryTable:
    """A table in BigQuery.

    Attributes:
      project: Project that pays for reading.
      table: `PROJECT.DATASET.TABLE`.
    """

    project: str
    table: str

    # Whether the rows before a time can be left out.
    has_cursor = True

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.table

    def read(self, since: datetime.datetime | None) -> Iterator[LoggedRequest]:
        """Yield the requests in any order.

        Args:
          since: Time of the first request; None for all.

        Raises:
          DataError: The table cannot be read, or is not a log of Vertex AI.
        """
        rows = bigquery.TableRows(self.project, self.table)
        _check_columns(self.table, bigquery.describe(rows).types)
        condition = f"{TIME} >= CAST('{since.isoformat(sep=' ')}' AS TIMESTAMP)" if since is not None else ""
        for stream in bigquery.open_streams(rows, COLUMNS, 1, condition):
            for batch in bigquery.read_stream(stream):
                yield from map(_convert_row, batch.to_pylist())


@dataclass(frozen=True)
class ExportedFiles:
    """A folder in a bucket, with Parquet files or JSON lines that the table was exported to.

    Attributes:
      uri: `gs://` URI of the folder, or of one file.
      project: Project of the bucket.
    """

    uri: str
    project: str

    # An export may come late, or again.
    has_cursor = False

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.uri

    def read(self, since: datetime.datetime | None) -> Iterator[LoggedRequest]:
        """Yield the requests in the order of the files.

        Args:
          since: Time of the first request; None for all.

        Raises:
          ConfigError: The URI is not one of a folder in a bucket.
          DataError: A file is not a log of Vertex AI.
          PushError: The bucket cannot be read.
        """
        # A second of imports.
        from serving.registry.vertex import staging

        if not self.uri.startswith("gs://") or "*" in self.uri:
            raise ConfigError(f"--bucket {self.uri}: expected the URI of a folder, such as gs://my-bucket/request-log")
        with tempfile.TemporaryDirectory() as temporary:
            # Where the URI is a file's, its ending has the format.
            target = Path(temporary) / self.uri.rstrip("/").rpartition("/")[2]
            staging.fetch(self.uri, target, project=self.project)
            files = [target] if target.is_file() else sorted(path for path in target.rglob("*") if path.is_file())
            for path in files:
                name = self.uri if path == target else f"{self.uri.rstrip('/')}/{path.relative_to(target)}"
                for request in _read_file(path, name):
                    if since is None or request.time is None or request.time >= since:
                        yield request


def _check_columns(place: str, types: Mapping[str, str]) -> None:
    """Check that a table is a log of Vertex AI.

    Args:
      place: Name of the table or file.
      types: Type of each column as BigQuery writes it; empty if the file does not tell.

    Raises:
      RequestLogError: A column is missing, or has another type.
    """
    for column in COLUMNS:
        expected = _TYPES.get(column, "")
        if column not in types:
            problem = f"it has no column '{column}'"
        elif expected and types[column] and types[column] != expected:
            problem = f"column '{column}' has type {types[column]}; expected {expected}"
        else:
            continue
        raise RequestLogError(
            f"{place}: is not a request-response log of Vertex AI: {problem}. Name the table of push.vertex.request_log"
        )


def _read_file(path: Path, name: str) -> Iterator[LoggedRequest]:
    """Yield the requests of a file.

    Raises:
      RequestLogError: It is of another kind, or damaged.
    """
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                _check_columns(name, dict.fromkeys(file.schema_arrow.names, ""))
                for batch in file.iter_batches(columns=list(COLUMNS)):
                    yield from map(_convert_row, batch.to_pylist())
        elif path.name.endswith(_JSON_ENDINGS):
            yield from _read_json_lines(path, name)
        else:
            endings = ", ".join((".parquet", *_JSON_ENDINGS))
            raise RequestLogError(f"{name}: is not a file of an export; expected a name that ends in {endings}")
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise RequestLogError(f"{name}: cannot be read: {error}") from error


def _read_json_lines(path: Path, name: str) -> Iterator[LoggedRequest]:
    is_packed = path.suffix == ".gz"
    with gzip.open(path, "rt") if is_packed else path.open() as file:
        for number, line in enumerate(file, 1):
            place = f"{name}, line {number:,}"
            try:
                row = parse_json(line)
            except ValueError as error:
                raise RequestLogError(f"{place}: is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise RequestLogError(f"{place}: expected an object, found {type(row).__name__}")
            # An export leaves out nulls and empty lists.
            _check_columns(place, dict.fromkeys([*row, REQUEST, RESPONSE], ""))
            yield _convert_row(row)


def _convert_row(row: Mapping[str, Any]) -> LoggedRequest:
    return LoggedRequest(
        endpoint=str(row[ENDPOINT] or ""),
        deployment=str(row[DEPLOYMENT] or ""),
        time=_read_time(row[TIME]),
        id=_read_id(row[ID]),
        request=_read_strings(row.get(REQUEST)),
        response=_read_strings(row.get(RESPONSE)),
    )


def _read_time(value: Any) -> datetime.datetime | None:
    """Return a time of Arrow or of JSON, which writes `2026-11-30 02:00:00.123 UTC`; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value.replace(" UTC", "+00:00"))
        except ValueError:
            return None
    if not isinstance(value, datetime.datetime):
        return None
    return value.astimezone(datetime.UTC) if value.tzinfo else value.replace(tzinfo=datetime.UTC)


def _read_id(value: Any) -> str:
    """Return a number as its digits; NUMERIC has nine decimals."""
    if value is None or isinstance(value, bool):
        return ""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    return f"{number:f}" if number % 1 else str(int(number))


def _read_strings(value: Any) -> list[str]:
    """Return the strings of a list, without the groups that an export may put around them."""
    while isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _GROUPS:
        (value,) = value.values()
    if not isinstance(value, list):
        return [] if value is None else [str(value)]
    return [text for item in value for text in (_read_strings(item) if isinstance(item, dict) else [str(item)])]
