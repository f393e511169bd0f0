"""Jobs of a Beam job server run in the workers of a pool, whose logs come to the launcher."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, endpoints_pb2

from cli.errors import ConfigError, PipelineError
from serving.beam import preflight, runners
from serving.beam.arguments import build_arguments
from serving.beam.config import BeamOptions
from serving.beam.preflight import check_beam, is_answering
from serving.beam.runners import _LoggedResult
from serving.beam.worker_pool import open_pool
from tests.conftest import ROOT

pytestmark = pytest.mark.proof


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
        assert is_answering(endpoint)
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


def test_a_job_server_that_is_gone_is_named_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (preflight, runners):
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    options = BeamOptions(runner="portable", job_endpoint="localhost:9")
    with pytest.raises(PipelineError, match=r"^the Beam job server localhost:9 does not answer within 0\.2 s$"):
        _run(options, beam.Map(print))


def test_the_command_serves_a_pool_until_it_is_ended() -> None:
    command = [sys.executable, "-m", "pipeline", "beam-worker", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as pool:
        assert pool.stdout is not None
        address = pool.stdout.readline().removeprefix("a pool of Beam workers listens on ").strip()
        assert is_answering(address, "/org.apache.beam.model.fn_execution.v1.BeamFnExternalWorkerPool/StopWorker")
        pool.terminate()
        try:
            assert pool.wait(30) == 130
        finally:
            pool.kill()


def test_a_pool_that_cannot_stop_is_ended_all_the_same() -> None:
    """gRPC may lose the exception of a signal, or not return from its stop."""
    program = (
        "import threading\n"
        "from pipeline.__main__ import run_program\n"
        "from serving.beam.worker_pool import WorkerPool\n"
        "WorkerPool.end_all = lambda self: threading.Event().wait()\n"
        "run_program()"
    )
    command = [sys.executable, "-c", program, "beam-worker", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as pool:
        assert pool.stdout is not None
        assert pool.stdout.readline().startswith("a pool of Beam workers listens on ")
        pool.terminate()
        try:
            assert pool.wait(30) == 130
        finally:
            pool.kill()


def test_a_pool_that_does_not_see_the_shared_folder_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers would fail later, with the path of a file that exists on the other machine."""
    monkeypatch.setattr(
        "serving.beam.worker_pool.json_format.MessageToDict",
        lambda _: {"beam:option:worker_log_folder:v1": "/missing/worker-logs"},
    )
    request = beam_fn_api_pb2.StartWorkerRequest(
        worker_id="1", control_endpoint=endpoints_pb2.ApiServiceDescriptor(url="10.0.0.9:1")
    )
    with pytest.raises(
        OSError, match=r"^beam\.shared_folder: /missing/worker-logs: No such file or directory on \S+; "
    ):
        _start_with_options(request)


def _start_with_options(request: beam_fn_api_pb2.StartWorkerRequest) -> None:
    from serving.beam import worker_pool

    class Info:
        pipeline_options = None

    class Stub:
        def __init__(self, _: object) -> None: ...

        def GetProvisionInfo(self, *_: object, **__: object) -> object:  # noqa: N802 (Beam's name)
            return type("Answer", (), {"info": Info})

    request.provision_endpoint.url = "localhost:1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_pool.beam_provision_api_pb2_grpc, "ProvisionServiceStub", Stub)
        worker_pool._start(request)


@pytest.mark.parametrize(
    "words",
    [
        "Pipeline job-5 failed in state FAILED: bundle inst004 failed:SDK worker disconnected: worker[job-5], 1 active",
        "Pipeline job-4 failed in state FAILED: prism worker[job-4] didn't get control connection to localhost:8073 after 1m",
        "Pipeline job-6 failed in state FAILED: beam.shared_folder: /x: No such file or directory on host2; it must be",
    ],
)
def test_a_lost_worker_is_named_with_its_pool_and_a_remedy(words: str, tmp_path: Path) -> None:
    class Lost:
        state = "RUNNING"

        def wait_until_finish(self, _: object) -> None:
            raise RuntimeError(words)

    with pytest.raises(RuntimeError, match=r"^the Beam worker of the pool at 10\.0\.0\.2:50000 was lost, or could not"):
        _LoggedResult(Lost(), tmp_path, "10.0.0.2:50000").wait_until_finish()  # type: ignore[arg-type]


def test_a_worker_ends_with_a_pool_that_is_killed() -> None:
    program = (
        "import sys, time\n"
        "from apache_beam.portability.api import beam_fn_api_pb2\n"
        "from serving.beam import worker_pool\n"
        "worker = worker_pool._start(beam_fn_api_pb2.StartWorkerRequest(worker_id='1'))\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as pool:
        assert pool.stdout is not None
        worker = psutil.Process(int(pool.stdout.readline()))
        pool.send_signal(signal.SIGKILL)
        pool.wait()
    worker.wait(60)


@pytest.mark.parametrize(
    ("host", "message"),
    [("192.0.2.1", r"^--host 192\.0\.2\.1: this machine has no such address; 0\.0\.0\.0 takes all")],
)
def test_an_address_of_another_machine_is_named(host: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message), open_pool(host, 0):
        pass


def test_a_port_that_is_taken_is_named() -> None:
    with (
        open_pool("127.0.0.1", 0) as port,
        pytest.raises(ConfigError, match=f"^--port {port}: .* has it$"),
        open_pool("127.0.0.1", port),
    ):
        pass
