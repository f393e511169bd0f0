"""Reads tables and queries of BigQuery by Google's clients, which are imported when needed. Imports no TensorFlow.

The REST API describes tables and runs queries; the Storage Read API streams rows as Arrow. The rows of a query are read
from the table in which BigQuery keeps its result for a day. A read session is a snapshot: whoever reads one of its
streams again gets the same rows in the same order. Another session may have another order.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cli.errors import DataError
from schemas.data import TABLE
from schemas.tables.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from google.cloud import bigquery

# Google's client of the REST API reads the first; that of the Storage Read API reads no such variable.
REST_EMULATOR, STORAGE_EMULATOR = "BIGQUERY_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"
_SCHEME = "bigquery://"
# Types whose values become strings exactly, by both of their names.
_READABLE_TYPES = (
    *("BOOL", "BOOLEAN", "INT64", "INTEGER", "FLOAT64", "FLOAT", "NUMERIC", "BIGNUMERIC", "STRING", "BYTES"),
    *("DATE", "TIME", "DATETIME", "TIMESTAMP"),
)
# Others hold no rows of their own that the Storage Read API reads.
_TABLE_TYPES = ("TABLE", "SNAPSHOT")
# Their results change though no table does: https://cloud.google.com/bigquery/docs/cached-results#cache-exceptions
_CHANGING = re.compile(r"(?i)\b(current_\w+|rand|generate_uuid|session_user|tablesample|external_query)\b")
# https://cloud.google.com/bigquery/quotas#storage-read-api-limits
_MAX_STREAMS = 1000
_TIMEOUT_SECONDS = 60
# Until an interrupted connection is given up.
_RETRY_SECONDS = 60.0


class UnreachableError(DataError):
    """BigQuery was not asked: there are no credentials, or no connection."""


@dataclass(frozen=True)
class TableRows:
    """Rows of a table, or some of them.

    Attributes:
      project: Project that pays for reading.
      table: `PROJECT.DATASET.TABLE`.
      split: Split whose query has this table as its result; empty for a table that the config names.
      stream: Resource name of the stream that has the rows; empty for all rows.
    """

    project: str
    table: str
    split: str = ""
    stream: str = ""

    @property
    def uri(self) -> str:
        """The rows as a string, where files have their paths."""
        return f"{_SCHEME}{self.project}/{self.table}?{self.split}#{self.stream}"

    @classmethod
    def from_uri(cls, uri: str) -> "TableRows":
        """Return the rows that have a URI."""
        names, _, stream = uri.removeprefix(_SCHEME).partition("#")
        project, _, table = names.partition("/")
        table, _, split = table.partition("?")
        return cls(project, table, split, stream)

    def __str__(self) -> str:
        """Return the name of the rows in errors."""
        return f"{self.table} (data.splits.{self.split}.query)" if self.split else self.table


@dataclass(frozen=True)
class Description:
    """Description of a table.

    Attributes:
      types: Type of each column by name, as BigQuery writes it.
      bytes: Size of its rows.
    """

    types: Mapping[str, str]
    bytes: int

    @property
    def unreadable(self) -> dict[str, str]:
        """The columns whose values do not become strings, with their types."""
        return {name: type for name, type in self.types.items() if type not in _READABLE_TYPES}


def is_bigquery(location: str) -> bool:
    """Return whether a location is in BigQuery."""
    return location.startswith(_SCHEME)


def find_rows(base: str, split: str, text: str) -> TableRows:
    """Return the rows of a split. A query is run, unless BigQuery still has its result.

    Args:
      base: URI of the project that runs the query.
      split: Name of the split.
      text: Name of a table, or a query.

    Raises:
      DataError: The table does not exist or has no rows of its own, the query is not valid, or access is denied.
      UnreachableError: There are no credentials, or no connection.
    """
    project = base.removeprefix(_SCHEME)
    with closing(_open_client(project)) as client:
        if not TABLE.fullmatch(text):
            return TableRows(project, _run_query(client, split, text), split)
        table = _complete_name(project, text)
        place = f"data.splits.{split}.table"
        type = _get_table(client, table, place).table_type
        if type not in _TABLE_TYPES:
            raise DataError(
                f"{place}: {table} is a {type}; expected a table. Read it by a query: SELECT * FROM `{table}`"
            )
        return TableRows(project, table)


def describe(rows: TableRows) -> Description:
    """Return the description of a table.

    Raises:
      DataError: It cannot be read.
    """
    with closing(_open_client(rows.project)) as client:
        table = _get_table(client, rows.table, str(rows))
    return Description({field.name: _format_type(field) for field in table.schema}, int(table.num_bytes or 0))


def open_streams(rows: TableRows, columns: Collection[str], max_streams: int, condition: str = "") -> list[TableRows]:
    """Return streams that together have all rows, as they are now; none if there are no rows.

    Args:
      rows: Rows of a table.
      columns: Names of the columns to read.
      max_streams: Greatest number of streams; BigQuery may open fewer.
      condition: Condition on the rows, as behind WHERE; empty for all rows.

    Raises:
      DataError: The table cannot be read.
    """
    from google.cloud.bigquery_storage_v1 import types

    project, dataset, table = _split_name(rows.table)
    session = types.ReadSession(
        table=f"projects/{project}/datasets/{dataset}/tables/{table}",
        data_format=types.DataFormat.ARROW,
        read_options=types.ReadSession.TableReadOptions(selected_fields=list(columns), row_restriction=condition),
    )
    with _translate_errors(str(rows), rows.project), _open_storage_client() as client:
        opened = client.create_read_session(
            parent=f"projects/{rows.project}",
            read_session=session,
            max_stream_count=max_streams,
            retry=_build_storage_retry(),
            timeout=_TIMEOUT_SECONDS,
        )
    return [replace(rows, stream=stream.name) for stream in opened.streams]


def count_streams(description: Description) -> int:
    """Return the number of streams that a table is best read in, at most: it depends on nothing but its size."""
    return min(_MAX_STREAMS, 1 + description.bytes // PIECE_BYTES)


def read_stream(rows: TableRows) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a stream, in their order. The client continues after an interrupted connection.

    Raises:
      DataError: The stream cannot be read.
    """
    schema = None
    with _translate_errors(str(rows), rows.project), _open_storage_client() as client:
        for response in client.read_rows(rows.stream, retry=_build_storage_retry()):
            # Only the first response has it.
            if schema is None and response.arrow_schema.serialized_schema:
                schema = pa.ipc.read_schema(pa.py_buffer(response.arrow_schema.serialized_schema))
            if response.row_count:
                content = pa.py_buffer(response.arrow_record_batch.serialized_record_batch)
                yield pa.ipc.read_record_batch(content, schema)


def compute_fingerprint(base: str, split: str, text: str) -> str:
    """Return a line that names the rows of a split: it changes with each change of the tables that they come from.

    No two lines are equal where BigQuery does not report changes: for views, external tables, rows that were streamed
    in just now, and functions such as CURRENT_DATE.

    Args:
      base: URI of the project.
      split: Name of the split.
      text: Name of a table, or a query.

    Raises:
      DataError: As for `find_rows`.
    """
    project = base.removeprefix(_SCHEME)
    with closing(_open_client(project)) as client:
        if TABLE.fullmatch(text):
            names = [_complete_name(project, text)]
            states = [_describe_state(_get_table(client, names[0], f"data.splits.{split}.table"))]
        else:
            names = sorted(_plan_query(client, split, text))
            states = [_find_state(client, name) for name in names]
    is_known = not (_CHANGING.search(text) or None in states or any("*" in name for name in names))
    parts = [text, *names, *(map(str, states) if is_known else [uuid.uuid4().hex])]
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    return f"split:{split},num_tables:{len(names)},content:{digest}"


def _describe_state(table: "bigquery.Table") -> str | None:
    """Return a string that changes with the rows of a table; None where nothing shows a change."""
    if table.table_type not in _TABLE_TYPES or table.streaming_buffer is not None:
        return None
    return f"{table.created} {table.modified} {table.num_rows}"


def _find_state(client: "bigquery.Client", name: str) -> str | None:
    from google.api_core import exceptions

    try:
        return _describe_state(client.get_table(name, retry=_build_rest_retry(), timeout=_TIMEOUT_SECONDS))
    except (exceptions.Forbidden, exceptions.NotFound, exceptions.BadRequest):
        # Whoever may read a view need not see its tables.
        return None


def _run_query(client: "bigquery.Client", split: str, query: str) -> str:
    """Run a query and return the name of the table with its result."""
    _plan_query(client, split, query)
    with _translate_errors(f"data.splits.{split}.query", client.project):
        job = client.query(query, retry=_build_rest_retry(), timeout=_TIMEOUT_SECONDS)
        job.result()
        return str(job.destination)


def _plan_query(client: "bigquery.Client", split: str, query: str) -> list[str]:
    """Check a query without running it, which is free, and return the tables that it reads."""
    from google.cloud import bigquery

    place = f"data.splits.{split}.query"
    with _translate_errors(place, client.project):
        dry_run = bigquery.QueryJobConfig(dry_run=True)
        plan = client.query(query, job_config=dry_run, retry=_build_rest_retry(), timeout=_TIMEOUT_SECONDS)
        if plan.statement_type != "SELECT":
            raise DataError(f"{place}: is a statement {plan.statement_type}; expected SELECT")
        return [str(table) for table in plan.referenced_tables]


def _get_table(client: "bigquery.Client", name: str, place: str) -> "bigquery.Table":
    with _translate_errors(place, client.project):
        return client.get_table(name, retry=_build_rest_retry(), timeout=_TIMEOUT_SECONDS)


def _complete_name(project: str, table: str) -> str:
    match = TABLE.fullmatch(table)
    assert match is not None
    return table if match[1] else f"{project}.{table}"


def _split_name(table: str) -> tuple[str, str, str]:
    """Return project, dataset and table; a project may have a dot in its name."""
    project, dataset, name = table.rsplit(".", 2)
    return project, dataset, name


def _format_type(field: "bigquery.SchemaField") -> str:
    name = {"RECORD": "STRUCT"}.get(field.field_type, field.field_type)
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else str(name)


def _open_client(project: str) -> "bigquery.Client":
    """Return a client of the REST API, which the caller closes."""
    from google.auth import credentials
    from google.cloud import bigquery

    # A local server is never sent anybody's token.
    own: dict[str, Any] = {"credentials": credentials.AnonymousCredentials()} if REST_EMULATOR in os.environ else {}
    with _translate_errors("data.format: bigquery", project):
        return bigquery.Client(project=project, **own)


@contextmanager
def _open_storage_client() -> Iterator[Any]:
    """Yield a client of the Storage Read API."""
    import grpc
    from google.cloud import bigquery_storage_v1
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    own: dict[str, Any] = {}
    if STORAGE_EMULATOR in os.environ:
        channel = grpc.insecure_channel(os.environ[STORAGE_EMULATOR], [("grpc.max_receive_message_length", -1)])
        own["transport"] = BigQueryReadGrpcTransport(channel=channel)
    client: Any = bigquery_storage_v1.BigQueryReadClient(**own)  # type: ignore[no-untyped-call]
    try:
        yield client
    finally:
        client.transport.close()


def _build_rest_retry() -> Any:
    from google.cloud import bigquery

    return bigquery.DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)


def _build_storage_retry() -> Any:
    from google.api_core import exceptions, retry

    return retry.Retry(predicate=retry.if_exception_type(exceptions.ServiceUnavailable), timeout=_RETRY_SECONDS)


@contextmanager
def _translate_errors(place: str, project: str) -> Iterator[None]:
    """Turn errors of Google's clients into one line."""
    from google.api_core import exceptions
    from google.auth import exceptions as auth_exceptions

    try:
        yield
    except (auth_exceptions.DefaultCredentialsError, auth_exceptions.RefreshError) as error:
        raise UnreachableError(
            f"{place}: no credentials for BigQuery: {_find_message(error)}; run: gcloud auth application-default login"
        ) from error
    except (
        auth_exceptions.TransportError,
        exceptions.RetryError,
        exceptions.ServiceUnavailable,
        exceptions.GatewayTimeout,
        OSError,
    ) as error:
        cause = error.cause if isinstance(error, exceptions.RetryError) else error
        raise UnreachableError(f"{place}: BigQuery cannot be reached: {_find_message(cause)}") from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise DataError(
            f"{place}: {_find_message(error)}; grant the roles bigquery.dataViewer on the data, and bigquery.jobUser "
            f"and bigquery.readSessionUser on the project {project}"
        ) from error
    except exceptions.NotFound as error:
        raise DataError(
            f"{place}: {_find_message(error)}; name a table that exists, as PROJECT.DATASET.TABLE"
        ) from error
    except exceptions.GoogleAPICallError as error:
        raise DataError(f"{place}: {_find_message(error)}") from error


def _find_message(error: Any) -> str:
    """Return the message of an error without the request."""
    details = getattr(error, "errors", None) or [{}]
    message = details[0].get("message") if isinstance(details[0], dict) else None
    text = message or getattr(error, "message", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0].rstrip(".")
