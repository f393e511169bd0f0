"""One process of the model server: opens the versions, listens over HTTP and gRPC, stops without cutting anyone off."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from cli.errors import PushError

# tensorflow_without_keras comes first: it must be imported before TensorFlow.
from serving.model import tensorflow_without_keras  # noqa: F401
from serving.server import events
from serving.server.grpc_server import grpc_server
from serving.server.http_protocol import LimitedProtocol
from serving.server.http_server import application
from serving.server.metrics import Metrics
from serving.server.service import Service, Settings, freeze_garbage, open_versions

_LOG = logging.getLogger(__name__)
_GRACE_SECONDS = 20
_MOST_CONNECTIONS = 4096
# With the default of 5 ms, a thread that answers waits that long for one that computes.
_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class Listen:
    """Where a server listens.

    Attributes:
      host: the address.
      grpc_port: None for no gRPC; 0 for any that is free.
      share_grpc_port: whether several processes listen at it.
      health_route, predict_route: as Vertex AI asks for them.
      url: URL of the HTTP server, for whoever reads the log.
    """

    host: str
    grpc_port: int | None
    share_grpc_port: bool
    health_route: str
    predict_route: str
    url: str


def make_application(settings: Settings, folder: str, listen: Listen) -> Starlette:
    """Return the application of one process, its versions loaded.

    Raises:
      PushError: no version can be served.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Until `freeze_garbage`: what is loaded here stays.
    gc.disable()
    metrics = Metrics()
    versions = open_versions(settings, folder, metrics)
    service = Service(versions, settings, metrics)
    if not service.ready:
        raise PushError(versions.why_nothing())
    freeze_garbage()

    @contextlib.asynccontextmanager
    async def running(_: Starlette) -> AsyncIterator[None]:
        _drain_when_asked_to_stop(service)
        watching = asyncio.create_task(service.watch())
        rpc, port = await _start_grpc(service, listen)
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
        _LOG.info("%s: version %s answers at %s", service.model_name, now.default, listen.url)
        try:
            yield
        finally:
            service.stopping = True
            watching.cancel()
            if rpc is not None:
                await rpc.stop(_GRACE_SECONDS)
            events.write("stopped", pid=os.getpid())

    routes = {"health_route": listen.health_route, "predict_route": listen.predict_route}
    return application(service, lifespan=running, **routes)


def _drain_when_asked_to_stop(service: Service) -> None:
    """On SIGTERM: says that it is not ready, and continues answering for some time; a load balancer sends others there.

    To close at once would cut off whoever is sending a request at that moment.
    """
    stop = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def drain(number: int, frame: FrameType | None) -> None:
        service.stopping = True
        assert callable(stop)
        loop.call_soon_threadsafe(loop.call_later, service.settings.drain_seconds, stop, number, None)

    signal.signal(signal.SIGTERM, drain)


async def _start_grpc(service: Service, listen: Listen) -> tuple[Any, int | None]:
    if listen.grpc_port is None:
        return None, None
    server = grpc_server(service, share_port=listen.share_grpc_port)
    port = server.add_insecure_port(f"{listen.host}:{listen.grpc_port}")
    await server.start()
    return server, port


def config(app: Any, *, workers: int, factory: bool) -> uvicorn.Config:
    """Uvicorn's settings; it logs nothing of its own but errors."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=LimitedProtocol,
        # More connections than that are told so at once.
        limit_concurrency=_MOST_CONNECTIONS,
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
