"""The Storage Read API of the emulated BigQuery, over gRPC: read sessions of Arrow.

Rows are dealt out to the streams in blocks, so that the order of rows depends on the number of streams, as it does on
the service.
"""

import itertools
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

from emulators.bigquery.errors import BigQueryError
from emulators.bigquery.queries import filter_rows
from emulators.bigquery.tables import Catalog

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
_ROWS_PER_RESPONSE = 500
_MAX_STREAMS = 8
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class StorageReadServer:
    """A server of the Storage Read API; a context manager.

    Attributes:
      address: HOST:PORT.

    Args:
      catalog: Tables.
      port: Port on loopback; 0 for a free one.
      interruptions: Number of reads that are interrupted after their first response.

    Raises:
      OSError: The port cannot be opened.
    """

    def __init__(self, catalog: Catalog, port: int = 0, interruptions: int = 0) -> None:
        self._catalog = catalog
        self._interruptions = interruptions
        self._streams: dict[str, pa.Table] = {}
        # Without it, a second server would share the port.
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        session, rows = _get_message_type("CreateReadSessionRequest"), _get_message_type("ReadRowsRequest")
        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._answer(self._create_session), session.deserialize, _serialize
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._answer_stream(self._read_rows), rows.deserialize, _serialize
            ),
        }
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        try:
            self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        except RuntimeError as error:
            raise OSError(98, "Address already in use") from error

    def __enter__(self) -> "StorageReadServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait()

    def _create_session(self, request: Any) -> Any:
        session = request.read_session
        if session.data_format != types.DataFormat.ARROW:
            raise BigQueryError(501, "notImplemented", "not emulated: expected the format ARROW")
        _, project, _, dataset, _, name = session.table.split("/")
        table = self._catalog.find(f"{project}.{dataset}.{name}")
        if table.type == "VIEW":
            raise BigQueryError(400, "invalid", f"The table {project}:{dataset}.{name} is a view and cannot be read")
        rows = table.rows
        if session.read_options.row_restriction:
            rows = filter_rows(rows, session.read_options.row_restriction)
        unknown = [field for field in session.read_options.selected_fields if field not in rows.column_names]
        if unknown:
            raise BigQueryError(
                400, "invalid", f"request failed: The following selected fields do not exist: {unknown}"
            )
        if session.read_options.selected_fields:
            rows = rows.select(list(session.read_options.selected_fields))
        session_name = f"{request.parent}/locations/us/sessions/{uuid.uuid4().hex}"
        count = min(request.max_stream_count or _MAX_STREAMS, _MAX_STREAMS, rows.num_rows)
        streams = {f"{session_name}/streams/{index}": _select_blocks(rows, index, count) for index in range(count)}
        self._streams.update(streams)
        return types.ReadSession(
            name=session_name,
            table=session.table,
            data_format=session.data_format,
            arrow_schema=types.ArrowSchema(serialized_schema=rows.schema.serialize().to_pybytes()),
            streams=[types.ReadStream(name=name) for name in streams],
            estimated_row_count=rows.num_rows,
        )

    def _read_rows(self, request: Any) -> Iterator[Any]:
        if request.read_stream not in self._streams:
            raise BigQueryError(404, "notFound", f"Not found: stream {request.read_stream}")
        rows = self._streams[request.read_stream].slice(request.offset)
        # Only the first response has the schema.
        first = {"arrow_schema": types.ArrowSchema(serialized_schema=rows.schema.serialize().to_pybytes())}
        for batch in rows.combine_chunks().to_batches(max_chunksize=_ROWS_PER_RESPONSE):
            content = types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes())
            yield types.ReadRowsResponse(arrow_record_batch=content, row_count=batch.num_rows, **first)
            first = {}
            if self._interruptions:
                self._interruptions -= 1
                raise BigQueryError(503, "backendError", "the stream is interrupted")

    def _answer(self, call: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def respond(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return call(request)
            except BigQueryError as error:
                return context.abort(_CODES[error.code], str(error))

        return respond

    def _answer_stream(
        self, call: Callable[[Any], Iterator[Any]]
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Any]]:
        def respond(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from call(request)
            except BigQueryError as error:
                context.abort(_CODES[error.code], str(error))

        return respond


def _select_blocks(rows: pa.Table, index: int, count: int) -> pa.Table:
    """Return the rows of a stream: every `count`-th block."""
    size = max(1, min(_ROWS_PER_RESPONSE, rows.num_rows // count))
    starts = itertools.count(index * size, count * size)
    blocks = [rows.slice(start, size) for start in itertools.takewhile(lambda start: start < rows.num_rows, starts)]
    return pa.concat_tables(blocks)


def _get_message_type(name: str) -> Any:
    """Return a type of messages, whose metaclass has no types."""
    return getattr(types, name)


def _serialize(message: Any) -> bytes:
    content: bytes = type(message).serialize(message)
    return content
