"""The processes of the model server, none of which loads TensorFlow but those that serve."""

import asyncio
import functools
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import multiprocess
from uvicorn.supervisors import Multiprocess

from serving.server.http_protocol import LINGER_SECONDS, LimitedProtocol
from serving.server.tls import build_http_context

if TYPE_CHECKING:
    from serving.server.access import AccessRules, GuardedApplication
    from serving.server.settings import ServerSettings
    from serving.server.tls import TlsFiles

GRACE_SECONDS = 20


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


def make_application(settings: "ServerSettings", folder: str, listen: ListenOptions) -> "GuardedApplication":
    """Return the application of this process, its versions loaded.

    Raises:
      PushError: no version can be served.
    """
    from serving.server import worker

    return worker.make_application(settings, folder, listen)


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


class Workers(Multiprocess):
    """Uvicorn's parent of several processes, which drops the gauges of those that have ended."""

    def keep_subprocess_alive(self) -> None:
        """Start workers again that have ended."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            if pid is not None:
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


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
