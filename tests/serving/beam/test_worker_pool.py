"""Jobs of a Beam job server run in the workers of a pool, whose logs come to the launcher."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from cli.errors import PipelineError
from serving.beam.arguments import build_arguments
from serving.beam.config import BeamOptions
from serving.beam.preflight import answers, check_beam
from serving.beam.worker_pool import open_pool
from tests.conftest import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def job_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Beam's job server in Python."""
    port_file = tmp_path_factory.mktemp("server") / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module, "--port", "0", "--port_file", str(port_file)]
    with open(port_file.with_name("log"), "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not port_file.exists():
            assert server.poll() is None, port_file.with_name("log").read_text()
            time.sleep(0.1)
        endpoint = f"localhost:{port_file.read_text().strip()}"
        assert answers(endpoint)
        yield endpoint
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def options(job_endpoint: str) -> Iterator[BeamOptions]:
    with open_pool("127.0.0.1", 0) as port:
        options = BeamOptions(runner="portable", job_endpoint=job_endpoint, worker_pool=f"localhost:{port}")
        check_beam(options, {})
        yield options


def _write_pid(number: int, folder: str) -> None:
    logging.getLogger("words").warning("worker has %d", number)
    Path(folder, str(number)).write_text(f"{os.getpid()} {sys.executable}")


def _run(options: BeamOptions, step: beam.PTransform) -> None:
    with beam.Pipeline(options=PipelineOptions(build_arguments(options))) as pipeline:
        _ = pipeline | beam.Create([1, 2]) | step


def test_a_job_runs_in_a_worker_with_this_python(
    options: BeamOptions, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _run(options, beam.Map(_write_pid, folder=str(tmp_path)))
    pid, python = (tmp_path / "1").read_text().split()
    assert python == sys.executable
    assert int(pid) != os.getpid()
    log = capfd.readouterr().err
    assert "WARNING words: worker has 1\n" in log
    assert "WARNING words: worker has 2\n" in log


def test_a_worker_with_other_code_is_named(
    options: BeamOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.beam.worker_pool.compute_revision", lambda: "0123")
    with pytest.raises(PipelineError, match=r"^a Beam worker has other code of this product: revision 0123, and here"):
        _run(options, beam.Map(_write_pid, folder=str(tmp_path)))


def test_a_job_server_that_is_gone_is_named_in_seconds() -> None:
    options = BeamOptions(runner="portable", job_endpoint="localhost:9")
    started = time.monotonic()
    with pytest.raises(PipelineError, match=r"^the Beam job server localhost:9 does not answer within 5 s$"):
        _run(options, beam.Map(print))
    assert time.monotonic() - started < 15


def test_the_command_serves_a_pool_until_it_is_ended() -> None:
    command = [sys.executable, "-m", "pipeline", "beam-worker", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as pool:
        assert pool.stdout is not None
        address = pool.stdout.readline().removeprefix("a pool of Beam workers listens on ").strip()
        assert answers(address, "/org.apache.beam.model.fn_execution.v1.BeamFnExternalWorkerPool/StopWorker")
        pool.terminate()
        assert pool.wait(30) == 130
