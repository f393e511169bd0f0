"""BigQuery's REST API over a folder of files, with the Storage Read API beside it.

Google's client of the REST API finds it by BIGQUERY_EMULATOR_HOST. Each request reads the files, so that a changed
file is a changed table.
"""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from emulators.bigquery.errors import BigQueryError
from emulators.bigquery.queries import find_statement_type, parse
from emulators.bigquery.storage_read import StorageReadServer
from emulators.bigquery.tables import Catalog, StoredTable
from schemas.tables.bigquery import REST_EMULATOR, STORAGE_EMULATOR

_RESULTS = "_results"


class BigQueryServer:
    """A server of both APIs; a context manager.

    Args:
      folder: Folder of the tables.
      port: Port of the REST API; 0 for a free one.
      storage_port: Port of the Storage Read API; 0 for a free one.
      denied: Names of the datasets that nobody may read.
      interruptions: Number of streams that are interrupted.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        storage_port: int = 0,
        denied: tuple[str, ...] = (),
        interruptions: int = 0,
    ) -> None:
        catalog = Catalog(folder, denied)
        self._rest = _HttpServer(catalog, port)
        try:
            self._storage = StorageReadServer(catalog, storage_port, interruptions)
        except OSError:
            self._rest.server_close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find the server."""
        return {REST_EMULATOR: f"http://127.0.0.1:{self._rest.server_port}", STORAGE_EMULATOR: self._storage.address}

    def __enter__(self) -> "BigQueryServer":
        threading.Thread(target=self._rest.serve_forever, daemon=True).start()
        self._storage.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.__exit__()
        self._rest.shutdown()
        self._rest.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, catalog: Catalog, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.catalog = catalog
        # Jobs and the tables with their results, by the job's ID.
        self.jobs: dict[str, tuple[dict[str, Any], StoredTable]] = {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for method, pattern, handler in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and method == self.command:
                    self._send(handler(self, json.loads(body or b"{}"), *map(unquote, match.groups())))
                    return
            raise BigQueryError(501, "notImplemented", f"not emulated: {self.command} {path}")
        except BigQueryError as error:
            self._send(error.to_json(), error.code)

    do_GET = do_POST = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing: a line for each request would hide the important ones."""

    def _send(self, value: Any, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _get_table(self, _: Any, project: str, dataset: str, name: str) -> dict[str, Any]:
        table = self.server.catalog.find(f"{project}.{dataset}.{name}")
        return {
            "kind": "bigquery#table",
            "id": f"{project}:{dataset}.{name}",
            "etag": hashlib.sha256(f"{table.name} {table.modified_ms}".encode()).hexdigest()[:16],
            "tableReference": table.reference,
            "schema": table.schema,
            "numRows": str(table.rows.num_rows),
            "numBytes": str(table.rows.nbytes),
            "creationTime": "1577836800000",
            "lastModifiedTime": str(table.modified_ms),
            "type": table.type,
            "location": "US",
        }

    def _insert_job(self, request: dict[str, Any], project: str) -> dict[str, Any]:
        configuration = request["configuration"]
        if "query" not in configuration:
            raise BigQueryError(501, "notImplemented", "not emulated: a job that is not a query")
        is_dry_run = configuration.get("dryRun", False)
        text = configuration["query"]["query"]
        statement = find_statement_type(text)
        statistics: dict[str, Any] = {"statementType": statement}
        job = {
            "kind": "bigquery#job",
            "jobReference": {"location": "US", **request.get("jobReference", {"projectId": project})},
            "configuration": configuration,
            "statistics": {"query": statistics},
            "status": {"state": "DONE"},
        }
        if statement != "SELECT":
            if is_dry_run:
                return job
            raise BigQueryError(501, "notImplemented", f"not emulated: {statement}")
        query = parse(text)
        source = self.server.catalog.find(query.table, project)
        table = query.select(source.rows)
        digest = hashlib.sha256(f"{text} {source.modified_ms}".encode()).hexdigest()[:32]
        result = self.server.catalog.keep_result(f"{project}.{_RESULTS}.anon{digest}", table, int(time.time() * 1000))
        statistics |= {"referencedTables": [source.reference], "schema": result.schema}
        if not is_dry_run:
            configuration["query"]["destinationTable"] = result.reference
            self.server.jobs[job["jobReference"]["jobId"]] = job, result
        return job

    def _find_job(self, name: str) -> tuple[dict[str, Any], StoredTable]:
        if name not in self.server.jobs:
            raise BigQueryError(404, "notFound", f"Not found: Job {name}")
        return self.server.jobs[name]

    def _get_job(self, _: Any, project: str, name: str) -> dict[str, Any]:
        return self._find_job(name)[0]

    def _get_results(self, _: Any, project: str, name: str) -> dict[str, Any]:
        job, result = self._find_job(name)
        return {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": job["jobReference"],
            "jobComplete": True,
            "schema": result.schema,
            "totalRows": str(result.rows.num_rows),
        }


_PROJECT = r"/bigquery/v2/projects/([^/]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", rf"{_PROJECT}/datasets/([^/]+)/tables/([^/]+)", _Handler._get_table),
    ("POST", rf"{_PROJECT}/jobs", _Handler._insert_job),
    ("GET", rf"{_PROJECT}/jobs/([^/]+)", _Handler._get_job),
    ("GET", rf"{_PROJECT}/queries/([^/]+)", _Handler._get_results),
]
