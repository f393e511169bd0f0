"""The HTTP server by Vertex AI's container contract: over real HTTP, its model fetched from storage."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.vertex_emulator.fixtures import BUCKET, Bench


def serving(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "serving", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def url(bench: Bench) -> Iterator[str]:
    """A server started as Vertex starts a container."""
    shutil.copytree(bench.make_model(0.1), bench.server.emulator.storage / BUCKET / "served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serving(
        "--host",
        "127.0.0.1",
        AIP_STORAGE_URI=f"gs://{BUCKET}/served",
        AIP_HTTP_PORT=str(port),
        AIP_HEALTH_ROUTE="/alive",
        AIP_PREDICT_ROUTE="/v1:predict",
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{address}/alive", timeout=5) as answer:
                assert answer.status == 200
            break
        except urllib.error.URLError:
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    yield f"{address}/v1:predict"
    server.terminate()
    assert server.wait(30) in (0, -15)


def post(url: str, body: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_container_contract(url: str) -> None:
    code, said = post(url, b'{"instances": [{"x": 0}, {"x": 10.0}]}')
    assert code == 200
    assert [row["probability"] for row in said["predictions"]] == pytest.approx([0.1, 0.2])
    for body, expected in {
        b"": "the request is no JSON",
        b"[]": 'expected {"instances"',
        b'{"instances": []}': "at least one row",
        b'{"instances": [3]}': "instances[0]: expected an object of features, found int",
        b'{"instances": [{"x": 1}, {}]}': "instances[1]: x: is missing",
        b'{"instances": [{"x": 1, "y": 2}]}': "instances[0]: y: is unknown",
        b'{"instances": [{"x": "ten"}]}': "instances[0]: x: expected a number, found 'ten'",
        b'{"instances": [{"x": [1]}]}': "instances[0]: x: expected a number, found '[1]'",
        b"[" * 100_000: "the request is no JSON",
    }.items():
        code, said = post(url, body)
        assert code == 400, (body[:50], said)
        assert expected in said["error"]
    code, said = post(url, b" " * 1_500_001)
    assert (code, said["error"]) == (413, "the request is larger than 1,500,000 bytes")


def test_a_model_that_is_not_there_is_one_line(
    bench: Bench, tmp_path: Path, make_model: Callable[[float], Path]
) -> None:
    del make_model
    for model in (str(tmp_path / "nothing"), f"gs://{BUCKET}/nothing"):
        failed = serving("--model-dir", model)
        _, stderr = failed.communicate(timeout=60)
        assert failed.returncode == 5
        assert [line for line in stderr.splitlines() if line.startswith("error: ") and "nothing" in line]
        assert "Traceback" not in stderr
