"""A pool of Beam workers on this machine: a job server asks it for a worker, and it starts a process.

Beam's own pool starts the `python` on PATH, which may have another environment, and gives the workers neither the
options of the job nor a place for their logs. This one starts them as Beam's containers do.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from google.protobuf import json_format, text_format

from cli import progress
from cli.errors import ConfigError
from serving.beam.config import is_loopback
from serving.beam.revision import compute_revision

_ANSWER_SECONDS = 30
_END_SECONDS = 10
# A worker that is asked to end still sends what it has; requests come one a worker.
_THREADS = 8
REVISION_SUFFIX = ".revision"
_LOG_FOLDER_OPTION = "beam:option:worker_log_folder:v1"


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and ends workers, each a process with this one's Python and environment."""

    def __init__(self) -> None:
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._forwarded: set[str] = set()

    def StartWorker(  # noqa: N802 (Beam's name)
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Start a worker."""
        self._forward_loopback(request.control_endpoint.url, context.peer())
        try:
            self._workers[request.worker_id] = _start(request)
        except (OSError, grpc.RpcError) as error:
            _report(f"worker {request.worker_id} was not started: {error}")
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        _report(f"worker {request.worker_id} started for {request.control_endpoint.url}")
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(  # noqa: N802 (Beam's name)
        self, request: beam_fn_api_pb2.StopWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """End a worker."""
        worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            _report(f"worker {request.worker_id} ended{_describe_end(_end(worker))}")
        return beam_fn_api_pb2.StopWorkerResponse()

    def end_all(self) -> None:
        """End all workers."""
        while self._workers:
            _end(self._workers.popitem()[1])

    def _forward_loopback(self, endpoint: str, peer: str) -> None:
        """Make `localhost` in an address of the job server mean the machine of the job server.

        Prism sends its workers to localhost, wherever they are.

        Args:
          endpoint: address that the worker is going to connect to.
          peer: address of the job server, as gRPC names it: `ipv4:10.0.0.1:33212`.
        """
        address = re.fullmatch(r"ipv[46]:\[?([^\]]+?)\]?:\d+", peer)
        if address is None or not is_loopback(endpoint) or endpoint in self._forwarded:
            return
        host, port = address[1].removeprefix("::ffff:"), int(endpoint.rpartition(":")[2])
        if host.startswith("127.") or host in ("::1", *_list_own_addresses()):
            return
        self._forwarded.add(endpoint)
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(_forward(port, host, ready)), daemon=True).start()
        ready.wait()


@contextlib.contextmanager
def open_pool(host: str, port: int) -> Iterator[int]:
    """Serve a pool; yield its port.

    Raises:
      ConfigError: the port is not free.
    """
    pool = WorkerPool()
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound_port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise ConfigError(_explain_address(host, port)) from error
    server.start()
    try:
        yield bound_port
    finally:
        server.stop(None)
        pool.end_all()


def _explain_address(host: str, port: int) -> str:
    """Return why a server cannot listen at an address."""
    try:
        with socket.create_server((host, port)):
            reason = "another program had it for a moment; start the pool again"
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.ENOENT) or isinstance(error, socket.gaierror):
            return f"--host {host}: this machine has no such address; 0.0.0.0 takes all that it has"
        reason = "another pool, or another program, has it" if error.errno == errno.EADDRINUSE else str(error)
    return f"--port {port}: cannot be opened at {host}: {reason}"


def _start(request: beam_fn_api_pb2.StartWorkerRequest) -> "subprocess.Popen[bytes]":
    """Start the process of a worker, with the options of its job."""
    options: dict[str, Any] = {}
    if request.provision_endpoint.url:
        with grpc.insecure_channel(request.provision_endpoint.url) as channel:
            info = (
                beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
                .GetProvisionInfo(
                    beam_provision_api_pb2.GetProvisionInfoRequest(),
                    timeout=_ANSWER_SECONDS,
                    metadata=[("worker_id", request.worker_id)],
                    wait_for_ready=True,
                )
                .info
            )
        options = json_format.MessageToDict(info.pipeline_options)
    environment = {
        **os.environ,
        "WORKER_ID": request.worker_id,
        "PIPELINE_OPTIONS": json_format.json.dumps(options),
        "CONTROL_API_SERVICE_DESCRIPTOR": _describe(request.control_endpoint),
    }
    if request.logging_endpoint.url:
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = _describe(request.logging_endpoint)
    command = [sys.executable, "-m", "serving.beam.worker"]
    with contextlib.ExitStack() as stack:
        log = None
        folder = options.get(_LOG_FOLDER_OPTION)
        if folder:
            name = re.sub(r"[^\w.-]", "_", request.worker_id)
            try:
                log = stack.enter_context(open(Path(folder) / f"{name}.log", "ab"))
                (Path(folder) / f"{name}{REVISION_SUFFIX}").write_text(compute_revision())
            except OSError as error:
                raise OSError(
                    f"beam.shared_folder: {folder}: {error.strerror} on {socket.gethostname()}; it must be one folder "
                    "on all hosts, which the pool's user can write"
                ) from error
        # A worker ends with its pool, which then no longer holds the other end of the pipe.
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)


def _describe(endpoint: endpoints_pb2.ApiServiceDescriptor) -> str:
    return str(text_format.MessageToString(endpoint))


def _end(worker: "subprocess.Popen[bytes]") -> int:
    """End a worker; return how it ended, if it had ended before."""
    before = worker.poll()
    if before is None:
        worker.terminate()
        try:
            worker.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    return before or 0


def _describe_end(code: int) -> str:
    return f" with exit code {code}" if code else ""


def _list_own_addresses() -> set[str]:
    import psutil

    return {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}


async def _forward(port: int, host: str, ready: threading.Event) -> None:
    """Forward connections to a port of this machine's loopback to the same port of another machine."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        writer.close()

    try:
        server = await asyncio.start_server(connect, "127.0.0.1", port)
    except OSError as error:
        _report(f"localhost:{port} is not forwarded to {host}: {error.strerror}")
        return
    finally:
        ready.set()
    _report(f"forwards localhost:{port} to {host}:{port}, for the workers of this job server")
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


def _report(text: str) -> None:
    progress.report(text)
