"""The emulator of Cloud Storage as a command, used by Google's client."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from emulators.storage.__main__ import main
from emulators.storage.server import StorageServer
from tests.conftest import ROOT

pytestmark = pytest.mark.integration


def test_a_folder_is_served_as_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bucket" / "a b").mkdir(parents=True)
    (tmp_path / "bucket" / "a b" / "x#1.csv").write_text("1,2\n")
    command = [sys.executable, "-m", "emulators.storage", "--folder", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        key, _, url = process.stdout.readline().removeprefix("export ").strip().partition("=")
        monkeypatch.setenv(key, url)
        client = storage.Client(project="my-project", credentials=AnonymousCredentials())
        bucket = client.bucket("bucket")
        assert [blob.name for blob in bucket.list_blobs()] == ["a b/x#1.csv"]
        assert bucket.blob("a b/x#1.csv").download_as_bytes() == b"1,2\n"
        bucket.blob("new/y.csv").upload_from_string("3\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert (tmp_path / "bucket" / "new" / "y.csv").read_text() == "3\n"


def test_a_port_in_use_is_an_error_of_one_line(tmp_path: Path) -> None:
    with StorageServer(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        result = CliRunner().invoke(main, ["--folder", str(tmp_path), "--port", port])
    assert (result.exit_code, result.output) == (
        1,
        f"Error: --port {port}: cannot be opened: Address already in use; use another port\n",
    )
