"""The emulator of BigQuery as a command, used by Google's clients."""

import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from emulators.bigquery.__main__ import main
from emulators.bigquery.server import BigQueryServer
from tests.conftest import ROOT

pytestmark = pytest.mark.integration


def test_a_folder_is_served_as_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-project" / "shop").mkdir(parents=True)
    (tmp_path / "my-project" / "shop" / "people.csv").write_text("age,name\n20,Ann\n30,Bo\n40,Cy\n")
    command = [sys.executable, "-m", "emulators.bigquery", "--folder", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            key, _, address = process.stdout.readline().removeprefix("export ").strip().partition("=")
            monkeypatch.setenv(key, address)
        assert key == "BIGQUERY_STORAGE_EMULATOR_HOST"
        client = bigquery.Client(project="my-project", credentials=AnonymousCredentials())
        table = client.get_table("shop.people")
        assert ([field.field_type for field in table.schema], table.num_rows) == (["INTEGER", "STRING"], 3)
        job = client.query("SELECT name FROM shop.people WHERE age BETWEEN 25 AND 45 LIMIT 1")
        assert (job.result().total_rows, job.statement_type, job.schema[0].name) == (1, "SELECT", "name")
        with pytest.raises(BadRequest, match="not emulated"):
            client.query("SELECT COUNT(*) FROM shop.people")
        transport = BigQueryReadGrpcTransport(channel=grpc.insecure_channel(address))
        reader = BigQueryReadClient(transport=transport)  # type: ignore[no-untyped-call]
        name = job.destination.to_bqstorage()
        session = types.ReadSession(table=name, data_format=types.DataFormat.ARROW)
        session = reader.create_read_session(parent="projects/my-project", read_session=session)
        (stream,) = session.streams
        rows = reader.read_rows(stream.name).to_arrow(session)  # type: ignore[no-untyped-call]
        assert rows.to_pydict() == {"name": ["Bo"]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_port_in_use_is_an_error_of_one_line(tmp_path: Path) -> None:
    with BigQueryServer(tmp_path) as server:
        rest, storage = (address.rpartition(":")[2] for address in server.environment.values())
        for ports in (("--port", rest), ("--storage-port", storage)):
            result = CliRunner().invoke(main, ["--folder", str(tmp_path), *ports])
            assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
            assert f"{ports[0]} {ports[1]}" in result.output
            assert result.output.endswith("cannot be opened: Address already in use; use other ports\n")
