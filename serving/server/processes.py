"""The processes of the model server, none of which loads TensorFlow but those that serve."""

import asyncio
import functools
import logging
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import multiprocess
from prometheus_client.values import MultiProcessValue
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from serving.server.http_protocol import LINGER_SECONDS, LimitedProtocol
from serving.server.tls import build_http_context

if TYPE_CHECKING:
    from serving.server.access import AccessRules
    from serving.server.settings import ServerSettings
    from serving.server.tls import TlsFiles

GRACE_SECONDS = 20
# For the requests of HTTP, then for those of gRPC, and some for the process itself.
_STOP_SECONDS = 2 * (GRACE_SECONDS + LINGER_SECONDS) + 8
# Between two starts of a worker that cannot start.
_MAX_WAIT_SECONDS = 60.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListenOptions:
    """Addresses and paths of a server.

    Attributes:
      host: address to bind.
      grpc_port: port of gRPC; 0 binds any free one, None starts no gRPC.
      share_grpc_port: whether several processes bind the gRPC port.
      health_route, predict_route: paths of Vertex AI's routes.
      url: URL of the HTTP server, for the log.
      tls: files of TLS; None for plain connections.
      access: tokens, and names of the server.
    """

    host: str
    grpc_port: int | None
    share_grpc_port: bool
    health_route: str
    predict_route: str
    url: str
    tls: "TlsFiles | None"
    access: "AccessRules"


def make_application(settings: "ServerSettings", folder: str, listen: ListenOptions) -> Any:
    """Return the ASGI application of this process, its versions loaded.

    Raises:
      PushError: no version can be served.
    """
    from serving.server import worker

    # Uvicorn's own handler would wait for a model that nobody needs any longer.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        return worker.make_application(settings, folder, listen)
    finally:
        signal.signal(signal.SIGTERM, before)


def make_worker_application(settings: "ServerSettings", folder: str, listen: ListenOptions) -> Any:
    """Return the application of one of several processes; if it has none, end the process with a line in the log."""
    from cli.errors import PipelineError
    from cli.terminal import print_error

    try:
        return make_application(settings, folder, listen)
    except PipelineError as error:
        print_error(error, as_json=False)
        sys.exit(STARTUP_FAILURE)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


class Server(uvicorn.Server):
    """Uvicorn's server of one process, which answers what is in the kernel's queue before it closes its port."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and answer the requests that have arrived."""
        queues = select.poll()
        for listening in sockets or []:
            # Closing the port resets the connections in the kernel's queue, so that takes no further ones.
            listening.listen(0)
            queues.register(listening, select.POLLIN)
        while queues.poll(0):
            await asyncio.sleep(0)
        await super().shutdown(sockets)


class Worker(Process):
    """One of several processes, whose answer to a ping nobody waits for.

    Uvicorn itself waits for it, and handles no signal meanwhile.

    Attributes:
      has_served: Whether the process has answered that its server runs.
    """

    has_served = False
    _pinged: float | None = None

    @property
    def server(self) -> Server:
        """The server that the process runs."""
        if not isinstance(self._server, Server):
            self._server = Server(self.config)
        return self._server

    def is_alive(self, timeout: float = 5) -> bool:
        """Return whether the process runs, and has taken at most `timeout` seconds for its answer."""
        now = time.monotonic()
        try:
            if self._pinged is None:
                self.parent_conn.send(b"ping")
                self._pinged = now
            elif self.parent_conn.poll(0):
                self.has_served |= self.parent_conn.recv()
                self._pinged = None
        except (OSError, EOFError):
            return False
        return self.process.is_alive() and (self._pinged is None or now - self._pinged < timeout)


class Workers(Multiprocess):
    """The parent of several processes, which starts again those that have ended, and ends with them.

    One that ends before it has served, such as for a model that cannot be loaded again, is started again later each
    time. If that is so of all of them, no process serves, and the parent ends.

    Attributes:
      has_failed: Whether no process can start.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], drain_seconds: float) -> None:
        """Args:
        config: Uvicorn's settings.
        sockets: sockets that all processes listen on.
        drain_seconds: time for which they continue to serve after SIGTERM.
        """
        # `nohup` sets SIG_IGN, so that a terminal that closes ends nothing.
        ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        super().__init__(config, sockets)
        if ignores_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._stop_seconds = drain_seconds + _STOP_SECONDS
        self.has_failed = False
        # Starts in a row that failed, and times of the next ones, by index of the process.
        self._failed_starts: dict[int, int] = {}
        self._next_starts: dict[int, float] = {}

    def init_processes(self) -> None:
        """Start all processes."""
        self.processes = [self._start_worker() for _ in range(self.processes_num)]

    def _start_worker(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have ended or hang, and drop the gauges of those before."""
        now = time.monotonic()
        for index, worker in enumerate(self.processes):
            assert isinstance(worker, Worker)
            if index in self._next_starts:
                if now >= self._next_starts[index]:
                    del self._next_starts[index]
                    self.processes[index] = self._start_worker()
            elif worker.is_alive(self.config.timeout_worker_healthcheck):
                if worker.has_served:
                    self._failed_starts.pop(index, None)
            else:
                self._replace(index, worker)
        if len(self._failed_starts) == len(self.processes):
            self.has_failed = True
            self.should_exit.set()

    def _replace(self, index: int, worker: Worker) -> None:
        """Start another process in place of one that has ended or hangs: at once, or later if it has not served."""
        worker.kill()
        worker.join()
        assert worker.pid is not None
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
        self._ended.inc(1)
        if worker.has_served:
            _LOG.error("worker %d ended with code %s; another one starts", worker.pid, worker.exitcode)
            self.processes[index] = self._start_worker()
            return
        failures = self._failed_starts[index] = self._failed_starts.get(index, 0) + 1
        seconds = min(2.0 ** (failures - 1), _MAX_WAIT_SECONDS)
        self._next_starts[index] = time.monotonic() + seconds
        message = "worker %d ended with code %s before it served, %d times in a row; another one starts in %g s"
        _LOG.error(message, worker.pid, worker.exitcode, failures, seconds)

    @functools.cached_property
    def _ended(self) -> Any:
        """The count of ended workers, among the metrics of the workers; this process was started without theirs."""
        name, help_text = "model_server_ended_workers", "Workers that ended, hung or never served."
        return MultiProcessValue()("counter", name, f"{name}_total", (), (), help_text)  # type: ignore[no-untyped-call]

    def terminate_all(self) -> None:
        """Ask all workers to stop; the last one closes the port, once its queue is empty."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait until all workers have ended; kill those that do not."""
        deadline = time.monotonic() + self._stop_seconds
        for worker in self.processes:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                _LOG.error("worker %s does not stop within %g s, and is killed", worker.pid, self._stop_seconds)
                worker.process.kill()
                worker.process.join()

    def handle_hup(self) -> None:
        """Stop as SIGTERM does."""
        self.handle_term()

    def handle_ttin(self) -> None:
        """Start no further worker, as Uvicorn does: the kernel sends the signal, too."""

    def handle_ttou(self) -> None:
        """Stop no worker, as Uvicorn does: the kernel sends the signal, too."""


def build_config(
    app: Callable[..., Any], *, workers: int, factory: bool, tls: "TlsFiles | None" = None
) -> uvicorn.Config:
    """Return Uvicorn's settings; Uvicorn itself logs only errors."""
    return uvicorn.Config(
        app,
        ssl_context_factory=functools.partial(build_http_context, tls) if tls is not None else None,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        workers=workers,
        factory=factory,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS + LINGER_SECONDS,
        # Loading a model keeps a worker from answering its parent for some seconds.
        timeout_worker_healthcheck=120,
    )
