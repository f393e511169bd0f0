"""Clients that send without end, read nothing, or go; folders that hold anything; processes that are killed."""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cli.errors import PushError
from serving.registry import GOLDEN_FILE, RELEASE_FILE, VERSION_FILE, LocalRegistry, read_record
from serving.server import command
from serving.server.http_protocol import MAX_CONNECTIONS
from serving.server.model_versions import ServedVersions, VersionPolicy, VersionStatus
from tests.conftest import ROOT
from tests.serving.forked_servers import ForkedServer
from tests.serving.models import ROW, example, export_model, push
from tests.serving.running import LOCKED_ENVIRONMENT, RunningServer, registry_of

pytestmark = pytest.mark.proof

_BODY = json.dumps({"instances": [ROW]}).encode()
_REQUEST = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [export_model(folder / str(number), -5.0 + number) for number in range(3)]


@pytest.fixture
def registry(tmp_path: Path, models: list[Path]) -> LocalRegistry:
    made: LocalRegistry = registry_of(tmp_path / "registry")
    push(made, models[0])
    return made


@pytest.fixture(scope="module")
def serving(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    made = registry_of(tmp_path_factory.mktemp("registry"))
    push(made, models[0])
    with RunningServer("--model-dir", str(made.folder), "--grpc-port", "0") as running:
        yield running


def connect(running: RunningServer) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def wait_for_workers(running: RunningServer, number: int) -> list[int]:
    """Return the IDs of the server's workers, once so many have been ready."""
    waiting = threading.Event()
    for _ in range(600):
        pids = [event["pid"] for event in running.events if event["event"] == "ready"]
        if len(pids) == number:
            return pids
        waiting.wait(0.1)
    raise AssertionError((running.events, running.errors))


def wait_for(running: RunningServer, path: str, expected: Any) -> None:
    """Poll a path until its answer has the expected keys."""
    deadline = threading.Event()
    for _ in range(300):
        if running.get(path)[1].items() >= expected.items():
            return
        deadline.wait(0.1)
    raise AssertionError((path, running.get(path), running.errors[-20:]))


def test_trailers_without_end_are_refused(serving: RunningServer) -> None:
    with connect(serving) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head + b"2\r\n{}\r\n0\r\nX-Long: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(400):
                client.sendall(b"a" * 100_000)
            raise AssertionError("40 MB of trailers were taken")
    assert serving.get("/health")[0] == 200


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        (b"Host: localhost\r\nX-Long: %s" % (b"a" * 70_000), 431, "the headers have more than 65,536 bytes"),
        (b"Host: localhost\r\n%s" % b"\r\n".join([b"a: b"] * 12_000), 431, "the headers have more than 65,536 bytes"),
        (b"Host: localhost\r\nHost: elsewhere", 400, "expected one header Host, found 2"),
        (b"X-Other: 1", 400, "expected one header Host, found 0"),
        (b"Host: localhost\r\nContent-Length: 1", 400, "the request is not HTTP/1.1: Duplicate Content-Length"),
        (b"Host: localhost\r\nX-Folded: a\r\n b", 400, "the request is not HTTP/1.1: Unexpected whitespace"),
        # Java's HttpClient sends it; httptools itself drops the body.
        (b"Host: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", 200, ""),
    ],
)
def test_the_head_of_a_request_has_an_answer(serving: RunningServer, head: bytes, status: int, reason: str) -> None:
    request = b"POST /predict HTTP/1.1\r\n%s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(_BODY), _BODY)
    with connect(serving) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answered, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    assert int(answered.split()[1]) == status
    assert json.loads(body).get("error", "").startswith(reason)
    assert "Traceback (most recent call last):\n" not in serving.errors


@pytest.mark.parametrize(
    ("head", "rest", "status"),
    [
        (b"POST /predict HTTP/1.1\r\nContent-Length: 2000000\r\n", 2_000_000, 413),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 2000000\r\nConnection: close\r\n", 2_000_000, 413),
        (b"POST /predict HTTP/1.0\r\nContent-Length: 2000000\r\n", 2_000_000, 413),
        (b"POST /nothing HTTP/1.1\r\nContent-Length: 2000000\r\nConnection: close\r\n", 2_000_000, 404),
        (b"GET /live HTTP/1.1\r\nX-Long: %s\r\n" % (b"a" * 70_000), 1_000_000, 431),
        (b"GET /live HTTP/1.1\r\nX-Folded: a\r\n b\r\n", 1_000_000, 400),
    ],
    ids=["kept", "closed", "http-1.0", "unknown-path", "long-head", "folded-head"],
)
def test_a_client_that_reads_once_it_has_sent_all_reads_the_refusal(
    serving: RunningServer, head: bytes, rest: int, status: int
) -> None:
    with connect(serving) as client:
        client.sendall(head + b"Host: localhost\r\n\r\n")
        # The answer is there before the rest is sent.
        assert client.recv(1, socket.MSG_PEEK)
        for _ in range(rest // 100_000):
            client.sendall(b" " * 100_000)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert int(answer.split()[1]) == status
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_client_that_waits_for_the_end_of_an_answer_reads_it_before_it_sends_its_body(serving: RunningServer) -> None:
    with connect(serving) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n"
        client.sendall(head)
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("is_all_sent", [False, True])
def test_a_connection_has_so_many_requests_in_its_queue(serving: RunningServer, is_all_sent: bool) -> None:
    """Each takes some 3 kB until it has its answer, and 30 bytes on the network."""
    with connect(serving) as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3000)
        if is_all_sent:
            client.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 101
    assert answers.count(b"connection: close\r\n") == 1


def test_grpc_messages_of_anything_have_a_status(serving: RunningServer) -> None:
    with grpc.insecure_channel(serving.grpc) as channel:
        many = predict_pb2.PredictRequest()
        for number in range(1000):
            many.inputs[f"x{number}"].dtype = 1
        for content, reason in (
            (b"\xff" * 10, "the request is not a tensorflow.serving.PredictRequest"),
            (many.SerializeToString(), "the request has 1,000 inputs; at most "),
        ):
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            with pytest.raises(grpc.RpcError) as refused:
                call(content, timeout=30)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details().startswith(reason)


def test_a_body_in_chunks_of_one_byte_is_taken(serving: RunningServer) -> None:
    with connect(serving) as client:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in _BODY.ljust(200_000)) + b"0\r\n\r\n"
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_a_body_that_nobody_reads_ends_its_connection(serving: RunningServer) -> None:
    with connect(serving) as client:
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 404 ")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                client.sendall(b"a" * 100_000)
            raise AssertionError("100 MB were read after the answer")


def test_slow_bodies_take_no_place_from_others(serving: RunningServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < MAX_CONNECTIONS + 200:
        pytest.skip(f"a process may open {hard} files; the test needs {MAX_CONNECTIONS + 200}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_CONNECTIONS + 200, hard))
    slow: list[socket.socket] = []
    try:
        for _ in range(MAX_CONNECTIONS + 50):
            slow.append(connect(serving))
            slow[-1].sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        assert serving.get("/health")[0] == 200
        assert serving.post("/predict", {"instances": [ROW]})[0] == 200
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 503 ")
    finally:
        for client in slow:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_client_that_has_sent_all_it_will_send_gets_its_answer(serving: RunningServer) -> None:
    with connect(serving) as client:
        client.sendall(_REQUEST + _REQUEST)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_no_answer_leads_to_the_host_that_a_client_names(serving: RunningServer) -> None:
    connection = http.client.HTTPConnection(serving.url.removeprefix("http://"), timeout=30)
    for host, status in (("localhost", 404), ("elsewhere.example", 421)):
        connection.request("GET", "/live/", headers={"Host": host})
        response = connection.getresponse()
        assert (response.status, response.headers["location"], bool(response.read())) == (status, None, True)
    connection.close()


def test_names_without_end_leave_a_grpc_answer_whole(serving: RunningServer) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(serving.grpc))
    request = predict_pb2.PredictRequest(output_filter=["probability"] * 10_000)
    request.model_spec.signature_name = "serving_examples"
    import tensorflow as tf

    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([example(ROW)]))
    assert list(stub.Predict(request, timeout=30).outputs) == ["probability"]
    for filtered in (["x" * 100_000], ["probability", "y" * 50_000]):
        request.output_filter[:] = filtered
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(request, timeout=30)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "output_filter: there is no output" in refused.value.details()


def test_grpc_health_follows_the_servers_own(registry: LocalRegistry) -> None:
    kinds = health_pb2.HealthCheckResponse
    with RunningServer("--model-dir", str(registry.folder), "--grpc-port", "0", "--drain", "2") as running:
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(running.grpc))
        service = "tensorflow.serving.PredictionService"
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=60)
        assert next(watch).status == kinds.SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status == kinds.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=30)
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        # As a terminal that closes.
        running.process.send_signal(signal.SIGHUP)
        assert next(watch).status == kinds.NOT_SERVING
        assert running.get("/health")[0] == 503
        assert running.post("/predict", {"instances": [ROW]})[0] == 200
        watch.cancel()
        assert running.wait() == 0
        assert running.events[-1]["event"] == "stopped"


@pytest.mark.parametrize(("stream", "is_closed"), [("stdout", True), ("stdout", False), ("stderr", True)])
def test_nobody_has_to_read_the_output(registry: LocalRegistry, stream: str, is_closed: bool) -> None:
    """A pipe holds 64 KB, some 300 requests."""
    read, write = os.pipe()
    port = _find_port()
    flags = ["--model-dir", str(registry.folder), "--port", str(port), "--drain", "0"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: write}
    process = ForkedServer(flags, {**os.environ, **LOCKED_ENVIRONMENT}, **streams)
    os.close(write)
    if is_closed:
        os.close(read)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        _wait_until_live(connection, process)
        for _ in range(600):
            connection.request("POST", "/predict", _BODY, {"x-request-id": "r" * 128})
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True)
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
        dropped = float(metrics.split("\nmodel_server_dropped_lines_total ")[1].split()[0])
        assert (dropped > 0) == is_closed, dropped
        connection.close()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        if not is_closed:
            os.close(read)


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_live(connection: http.client.HTTPConnection, process: ForkedServer) -> None:
    waiting = threading.Event()
    for _ in range(600):
        assert process.poll() is None
        try:
            connection.request("GET", "/live")
        except OSError:
            connection.close()
            waiting.wait(0.1)
        else:
            connection.getresponse().read()
            return
    raise AssertionError("the server does not answer")


def _spoil(folder: Path, how: str) -> None:
    """Do to a version's folder what no push does."""
    match how:
        case "a binary version file":
            (folder / VERSION_FILE).write_bytes(b"\xff\xfe\x00")
        case "a nested release file":
            (folder / RELEASE_FILE).write_text("[" * 100_000)
        case "a release file that is a pipe":
            (folder / RELEASE_FILE).unlink()
            os.mkfifo(folder / RELEASE_FILE)
        case "a link that leads nowhere":
            (folder / "link").symlink_to(folder / "missing")
        case "golden requests of a gigabyte":
            with (folder / GOLDEN_FILE).open("r+b") as file:
                file.truncate(1 << 30)
        case "golden requests that are nested":
            (folder / GOLDEN_FILE).write_text("[" * 100_000)
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("a binary version file", "is version 2 by its name"),
        ("a nested release file", "is damaged: it is nested too deeply"),
        ("a release file that is a pipe", "is not a regular file"),
        ("a link that leads nowhere", ""),
        ("golden requests of a gigabyte", "has 1,073,741,824 bytes; at most 67,108,864 are read"),
        ("golden requests that are nested", "is not what was pushed"),
    ],
)
def test_a_version_of_anything_keeps_no_other_from_being_followed(
    registry: LocalRegistry, models: list[Path], how: str, reason: str
) -> None:
    versions = ServedVersions(registry.folder, VersionPolicy.parse("all"))
    assert versions.refresh().default == 1
    push(registry, models[1])
    push(registry, models[2])
    _spoil(registry.folder / "2", how)
    snapshot = versions.refresh()
    assert sorted(snapshot.served) == ([1, 3] if reason else [1, 2, 3])
    assert reason in snapshot.states[2].error


def test_an_error_that_nobody_foresaw_is_one_versions_own(
    registry: LocalRegistry, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.server import model_versions

    versions = ServedVersions(registry.folder, VersionPolicy.parse("all"))
    versions.refresh()
    push(registry, models[1])

    def load(number: int, *_: Any, **__: Any) -> None:
        raise MemoryError(f"version {number}")

    monkeypatch.setattr(model_versions, "load_version", load)
    snapshot = versions.refresh()
    assert (sorted(snapshot.served), snapshot.states[2].error) == (
        [1],
        f"{registry.folder / '2'}: MemoryError: version 2",
    )


def test_a_ledger_that_is_a_pipe_is_an_error_in_time(registry: LocalRegistry) -> None:
    (registry.folder / "registry.json").unlink()
    os.mkfifo(registry.folder / "registry.json")
    with pytest.raises(PushError, match=r"registry\.json: cannot be read"):
        ServedVersions(registry.folder, VersionPolicy()).refresh()
    with pytest.raises(OSError, match="is not a regular file"):
        read_record(registry.folder / "registry.json")


@pytest.mark.parametrize("policy", ["champion", "labels", "all", "latest"])
def test_a_champion_whose_folder_is_gone_is_served_from_memory(
    registry: LocalRegistry, models: list[Path], policy: str
) -> None:
    versions = ServedVersions(registry.folder, VersionPolicy.parse(policy))
    push(registry, models[1])
    assert versions.refresh().default == 2
    shutil.move(registry.folder / "2", registry.folder.parent / "gone")
    snapshot = versions.refresh()
    assert (snapshot.default, 2 in snapshot.served) == (2, True)
    gone = f"{registry.folder / '2'}: is gone; the model in memory is served"
    assert snapshot.states[2] == VersionStatus("AVAILABLE", gone)
    shutil.move(registry.folder.parent / "gone", registry.folder / "2")
    assert versions.refresh().states[2] == VersionStatus("AVAILABLE")


def test_the_watch_goes_on_after_anything(registry: LocalRegistry, models: list[Path]) -> None:
    with RunningServer("--model-dir", str(registry.folder), "--poll", "0.05") as running:
        shutil.copytree(registry.folder, registry.folder.parent / "copy")
        shutil.rmtree(registry.folder)
        registry.folder.write_text("a file in place of the folder")
        wait_for(running, "/health", {"ready": True, "default": 1})
        registry.folder.unlink()
        shutil.move(registry.folder.parent / "copy", registry.folder)
        push(registry, models[1])
        wait_for(running, "/health", {"ready": True, "default": 2})


_HUNG = """
import asyncio, sys, threading
from serving.server.service import Service
from serving.server.settings import ServerSettings
from serving.server import service as module
from serving.server.metrics import Metrics
from serving.server.model_versions import Snapshot

class Versions:
    folder, model_name, snapshot = "hung", "m", Snapshot()
    def refresh(self): threading.Event().wait()

async def main():
    module._HUNG_SECONDS = 0.05
    metrics = Metrics()
    watching = asyncio.create_task(Service(Versions(), ServerSettings("hung", poll_seconds=0.05), metrics).watch())
    while "refresh_failures_total 2.0" not in metrics.render().decode():
        await asyncio.sleep(0.01)
    watching.cancel()

asyncio.run(main())
"""


def test_a_folder_that_hangs_is_counted_and_keeps_no_process_from_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HUNG], cwd=ROOT, timeout=60, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("hung: a read takes more than 0.05 s; the serving version is unchanged") >= 2


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGHUP)])
def test_no_request_on_its_way_is_reset_by_a_stop(
    registry: LocalRegistry, workers: int, number: signal.Signals
) -> None:
    """New connections and kept ones; a port that is closed already refuses, which a load balancer repeats elsewhere."""
    failures: list[str] = []
    answered = threading.Event()

    def ask(url: str, keeps: bool) -> None:
        while True:
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
            is_connected = False
            try:
                connection.connect()
                is_connected = True
                for _ in range(20 if keeps else 1):
                    connection.request("POST", "/predict", _BODY)
                    response = connection.getresponse()
                    response.read()
                    answered.set()
                    if response.headers["connection"] == "close":
                        break
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"keeps {keeps}, connected {is_connected}: {error!r}")
                return
            finally:
                connection.close()

    flags = ["--drain", "0.2", "--no-access-log", "--workers", str(workers)]
    # The tests may run under nohup, whose SIG_IGN a server respects.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with RunningServer("--model-dir", str(registry.folder), *flags) as running:
        wait_for_workers(running, workers)
        clients = [threading.Thread(target=ask, args=(running.url, keeps)) for keeps in [True, False] * 4]
        for client in clients:
            client.start()
        assert answered.wait(30)
        running.process.send_signal(number)
        for client in clients:
            client.join(60)
        assert running.wait() == 0
    assert failures == []


def test_a_killed_worker_leaves_no_gauges_and_one_that_hangs_delays_no_signal(registry: LocalRegistry) -> None:
    """The parent loads no model, and waits for no answer of a worker: Uvicorn's own does for two minutes."""
    with RunningServer("--model-dir", str(registry.folder), "--workers", "2", "--no-access-log") as running:
        parent = psutil.Process(running.process.pid)
        assert not any("tensorflow" in mapped.path for mapped in parent.memory_maps())
        folder = Path(parent.environ().get("PROMETHEUS_MULTIPROC_DIR") or _find_metrics(parent))
        killed, *_ = wait_for_workers(running, 2)
        waiting = threading.Event()
        os.kill(killed, signal.SIGKILL)
        for _ in range(1200):
            if not any(f"_{killed}.db" in file.name for file in folder.glob("gauge_live*")):
                break
            waiting.wait(0.1)
        else:
            raise AssertionError([file.name for file in folder.iterdir()])
        assert running.post("/predict", {"instances": [ROW]})[0] == 200
        _, hung, other = wait_for_workers(running, 3)
        os.kill(hung, signal.SIGSTOP)
        try:
            # Longer than the parent's period of half a second: it has sent its ping.
            waiting.wait(1.5)
            running.process.terminate()
            for _ in range(600):
                if any(event["event"] == "stopped" and event["pid"] == other for event in running.events):
                    break
                waiting.wait(0.1)
            else:
                raise AssertionError((running.events, running.errors))
        finally:
            os.kill(hung, signal.SIGCONT)
        assert running.wait() == 0


_NEVER_STOPS = """
import signal, socket, sys, threading
from serving.server import processes

class Hung:
    def __call__(self): raise AssertionError
    def __reduce__(self): return hang, ()

def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("hangs", flush=True)
    threading.Event().wait()

if __name__ == "__main__":
    processes._STOP_SECONDS = 0.5
    workers = processes.Workers(processes.build_config(Hung(), workers=1, factory=True), [socket.socket()], 0.0)
    workers.run()
    print([worker.exitcode for worker in workers.processes])
"""


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(_NEVER_STOPS)
    command_line, environment = [sys.executable, str(tmp_path / "parent.py")], {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command_line, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.terminate()
        output, errors = process.communicate(timeout=60)
    assert (output, process.returncode) == ("[-9]\n", 0), errors
    assert "does not stop within 0.5 s, and is killed" in errors


_CANNOT_LOAD = """
import os, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from serving.server import command, processes

BAD = Path("bad")

class Factory:
    def __call__(self):
        if BAD.exists():
            sys.exit(3)
        print("serves", os.getpid(), flush=True)
        return serve

class Workers(processes.Workers):
    def keep_subprocess_alive(self):
        super().keep_subprocess_alive()
        if all(worker.has_served for worker in self.processes):
            print("all", flush=True)

async def serve(scope, receive, send):
    assert scope["type"] == "lifespan"
    for kind in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{kind}.complete"})

if __name__ == "__main__":
    with command._bind("127.0.0.1", 0, "") as listening:
        listening.listen()
        config = processes.build_config(Factory(), workers=2, factory=True)
        workers = Workers(config, [listening], 0.0)
        workers.run()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    print(workers.has_failed, generate_latest(registry).decode().split()[-1])
"""


def test_a_worker_that_cannot_load_its_model_again_waits_and_ends_the_server_if_all_are_so(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(_CANNOT_LOAD)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            first, second = (process.stdout.readline().split()[1] for _ in range(2))
            assert process.stdout.readline() == "all\n"
            (tmp_path / "bad").touch()
            os.kill(int(first), signal.SIGKILL)
            lines = [process.stderr.readline() for _ in range(3)]
            assert "ended with code -9; another one starts" in lines[0]
            assert "ended with code 3 before it served, 1 times in a row; another one starts in 1 s" in lines[1]
            assert "ended with code 3 before it served, 2 times in a row; another one starts in 2 s" in lines[2]
            (tmp_path / "bad").unlink()
            third = next(line for line in process.stdout if line != "all\n").split()[1]
            (tmp_path / "bad").touch()
            for pid in (second, third):
                os.kill(int(pid), signal.SIGKILL)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    has_failed, ended = output.splitlines()[-1].split()
    assert (has_failed, float(ended) >= 6) == ("True", True), (output, errors)


_LOADS = """
import threading
from serving.server import processes, worker

def load(*_):
    print("loads", flush=True)
    threading.Event().wait()

worker.make_application = load
config = processes.build_config(lambda: processes.make_application(None, "", None), workers=2, factory=True)
processes.Server(config).run(sockets=[])
"""


def test_a_worker_that_loads_a_model_ends_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", _LOADS], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "loads\n"
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def _find_metrics(parent: psutil.Process) -> str:
    return next(
        child.environ()["PROMETHEUS_MULTIPROC_DIR"]
        for child in parent.children()
        if "PROMETHEUS" in str(child.environ())
    )


def test_no_place_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(command.tempfile, "TemporaryDirectory", fail)
    with contextlib.ExitStack() as stack, pytest.raises(PushError, match=r"no temporary folder .* by TMPDIR"):
        command._make_temporary_folder(stack)


_GARBAGE = """
import gc, sys, weakref
from pathlib import Path
from serving.server.service import freeze_garbage
from serving.model.tensor_predictor import load_predictor

freeze_garbage()
first = load_predictor(Path(sys.argv[1]))
second = load_predictor(Path(sys.argv[1]))
dropped = weakref.ref(first._model._session)
del first
gc.collect()
print(dropped() is None, len(gc.get_objects()))
"""


def test_a_dropped_model_is_collected_without_a_look_at_all_of_tensorflow(models: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _GARBAGE, str(models[0])], cwd=ROOT, capture_output=True, text=True, check=True
    )
    is_collected, objects = done.stdout.split()
    # 370,000 with those of TensorFlow.
    assert (is_collected, int(objects) < 60_000) == ("True", True), objects
