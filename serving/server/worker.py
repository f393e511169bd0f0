"""One process of the model server: loads the versions, serves HTTP and gRPC, stops without breaking off requests."""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from cli.errors import PushError

# Imported first: it must come before TensorFlow.
from serving.model import tensorflow_without_keras  # noqa: F401
from serving.server import events
from serving.server.access import AccessRules, GuardedApplication, TokenFile, TokenInterceptor
from serving.server.grpc_server import build_grpc_server
from serving.server.http_protocol import LimitedProtocol
from serving.server.http_server import build_application
from serving.server.metrics import Metrics
from serving.server.service import ServerSettings, Service, freeze_garbage, open_versions
from serving.server.tls import TlsFiles, build_grpc_credentials, build_http_context

_LOG = logging.getLogger(__name__)
_GRACE_SECONDS = 20
_MAX_CONNECTIONS = 4096
# With the default of 5 ms, the event loop waits that long for a thread that computes.
_SWITCH_SECONDS = 0.0005


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
    tls: TlsFiles | None
    access: AccessRules


def make_application(settings: ServerSettings, folder: str, listen: ListenOptions) -> GuardedApplication:
    """Return the application of one process, its versions loaded.

    Raises:
      ConfigError: the file of the tokens cannot be used.
      PushError: no version can be served.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    sys.setswitchinterval(_SWITCH_SECONDS)
    # The objects that are loaded here stay, so nothing is collected until `freeze_garbage`.
    gc.disable()
    metrics = Metrics()
    versions = open_versions(settings, folder, metrics)
    service = Service(versions, settings, metrics)
    if not service.is_ready:
        raise PushError(versions.explain())
    tokens = TokenFile(listen.access.token_file) if listen.access.token_file is not None else None
    freeze_garbage()

    @contextlib.asynccontextmanager
    async def run_beside(_: Starlette) -> AsyncIterator[None]:
        _drain_when_asked_to_stop(service)
        watching = asyncio.create_task(service.watch())
        if tokens is not None:
            tokens.watch()
        rpc, port = await _start_grpc(service, listen, tokens)
        now = service.snapshot
        events.write(
            "ready",
            http=listen.url,
            grpc=f"{listen.host}:{port}" if port else None,
            model=service.model_name,
            versions=sorted(now.served),
            default=now.default,
            pid=os.getpid(),
        )
        _LOG.info("%s: version %s is served at %s", service.model_name, now.default, listen.url)
        try:
            yield
        finally:
            service.is_stopping = True
            watching.cancel()
            if rpc is not None:
                await rpc.stop(_GRACE_SECONDS)
            events.write("stopped", pid=os.getpid())

    routes = {"health_route": listen.health_route, "predict_route": listen.predict_route}
    application = build_application(service, lifespan=run_beside, **routes)
    return GuardedApplication(application, listen.access, tokens, _count_rejections(metrics))


def _count_rejections(metrics: Metrics) -> Callable[[str, str], None]:
    return lambda route, status: metrics.requests.labels(route, status).inc()


def _drain_when_asked_to_stop(service: Service) -> None:
    """Set a handler of SIGTERM that reports "not ready" and stops the server some seconds later.

    A load balancer sends no further requests meanwhile. To close at once would break off the requests that arrive.
    """
    stop = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def drain(number: int, frame: FrameType | None) -> None:
        service.is_stopping = True
        assert callable(stop)
        loop.call_soon_threadsafe(loop.call_later, service.settings.drain_seconds, stop, number, None)

    signal.signal(signal.SIGTERM, drain)


async def _start_grpc(service: Service, listen: ListenOptions, tokens: TokenFile | None) -> tuple[Any, int | None]:
    if listen.grpc_port is None:
        return None, None
    interceptors = [TokenInterceptor(tokens, _count_rejections(service.metrics))] if tokens is not None else []
    server = build_grpc_server(service, share_port=listen.share_grpc_port, interceptors=interceptors)
    address = f"{listen.host}:{listen.grpc_port}"
    if listen.tls is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, build_grpc_credentials(listen.tls))
    await server.start()
    return server, port


def build_config(app: Any, *, workers: int, factory: bool, tls: TlsFiles | None = None) -> uvicorn.Config:
    """Return Uvicorn's settings; Uvicorn itself logs only errors."""
    return uvicorn.Config(
        app,
        ssl_context_factory=functools.partial(build_http_context, tls) if tls is not None else None,
        loop="uvloop",
        http=LimitedProtocol,
        # Uvicorn responds to further connections with 503 at once.
        limit_concurrency=_MAX_CONNECTIONS,
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
        timeout_graceful_shutdown=_GRACE_SECONDS,
        # Loading a model keeps a worker from answering its parent for some seconds.
        timeout_worker_healthcheck=120,
    )
