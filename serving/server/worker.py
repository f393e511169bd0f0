"""One process of the model server: loads the versions, serves HTTP and gRPC, stops without breaking off requests."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from types import FrameType
from typing import Any

from starlette.applications import Starlette

from cli.errors import PushError

# Imported first: it must come before TensorFlow.
from serving.model import tensorflow_without_keras  # noqa: F401
from serving.server import events, tracing
from serving.server.access import GuardedApplication, TokenFile, TokenInterceptor
from serving.server.grpc_server import Health, build_grpc_server
from serving.server.http_server import build_application
from serving.server.metrics import Metrics
from serving.server.processes import GRACE_SECONDS, ListenOptions
from serving.server.service import Service, freeze_garbage, open_request_log, open_versions
from serving.server.settings import ServerSettings
from serving.server.tls import build_grpc_credentials
from serving.server.watchdog import end_process

_LOG = logging.getLogger(__name__)
_HEALTH_SECONDS = 1.0
# With the default of 5 ms, the event loop waits that long for a thread that computes.
_SWITCH_SECONDS = 0.0005
# Objects that are made before the garbage collector visits them. With the default of 700, it takes a tenth of the
# processor time at 64 connections.
_GARBAGE_OBJECTS = 20_000


def make_application(settings: ServerSettings, folder: str, listen: ListenOptions) -> Any:
    """Return the ASGI application of one process, its versions loaded.

    Raises:
      ConfigError: the file of the tokens cannot be used, or requests of the model cannot be logged.
      PushError: no version can be served.
    """
    metrics = Metrics()
    events.open_output(metrics.dropped_lines.inc)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=[events.LogHandler()]
    )
    tracer = tracing.open_tracer(settings.traces_endpoint)
    sys.setswitchinterval(_SWITCH_SECONDS)
    freeze_garbage()
    # All that is loaded here stays.
    gc.disable()
    versions = open_versions(settings, folder, metrics)
    service = Service(versions, settings, metrics)
    if not service.is_ready:
        raise PushError(versions.explain())
    service.request_log = open_request_log(service)
    tokens = TokenFile(listen.access.token_file) if listen.access.token_file is not None else None
    gc.set_threshold(_GARBAGE_OBJECTS)
    gc.enable()

    @contextlib.asynccontextmanager
    async def run_beside(_: Starlette) -> AsyncIterator[None]:
        _drain_when_asked_to_stop(service)
        service.watchdog.start(end_process)
        health = Health(service)
        tasks = [asyncio.create_task(service.watch()), asyncio.create_task(_follow(health))]
        if tokens is not None:
            tokens.watch()
        interceptors = [] if tracer is None else [tracer.build_interceptor()]
        if tokens is not None:
            interceptors.append(TokenInterceptor(tokens, _count_rejections(metrics)))
        rpc, port = await _start_grpc(service, health, listen, interceptors)
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
            for task in tasks:
                task.cancel()
            if rpc is not None:
                await rpc.stop(GRACE_SECONDS)
            if service.request_log is not None:
                await asyncio.to_thread(service.request_log.close)
            if service.shadow is not None:
                service.shadow.stop()
            if tracer is not None:
                tracer.stop()
            events.write("stopped", pid=os.getpid(), dropped_lines=metrics.count_dropped_lines() or None)
            # Uvicorn raises the signal again, which ends one of several workers before its exit handlers.
            await asyncio.to_thread(events.flush)

    routes = {"health_route": listen.health_route, "predict_route": listen.predict_route}
    application = build_application(service, lifespan=run_beside, **routes)
    guarded = GuardedApplication(application, listen.access, tokens, _count_rejections(metrics))
    return guarded if tracer is None else tracer.wrap(guarded, application.routes, listen.access.open_paths)


def _count_rejections(metrics: Metrics) -> Callable[[str, str], None]:
    return lambda route, status: metrics.requests.labels(route, status).inc()


def _drain_when_asked_to_stop(service: Service) -> None:
    """Set a handler of SIGTERM and SIGHUP that reports "not ready" and stops the server some seconds later.

    A load balancer sends no further requests meanwhile. To close at once would break off the requests that arrive.
    """
    stop = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def drain(number: int, frame: FrameType | None) -> None:
        service.is_stopping = True
        assert callable(stop)
        loop.call_soon_threadsafe(loop.call_later, service.settings.drain_seconds, stop, signal.SIGTERM, None)

    signal.signal(signal.SIGTERM, drain)
    # `nohup` sets SIG_IGN, so that a terminal that closes ends nothing.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, drain)


async def _follow(health: Health) -> None:
    """Report a change of the server's health to those who watch it."""
    while True:
        await health.update()
        await asyncio.sleep(_HEALTH_SECONDS)


async def _start_grpc(
    service: Service, health: Health, listen: ListenOptions, interceptors: Sequence[Any]
) -> tuple[Any, int | None]:
    if listen.grpc_port is None:
        return None, None
    server = build_grpc_server(service, health, share_port=listen.share_grpc_port, interceptors=interceptors)
    # The stubs come with the rest of a client, which servers of REST need not load.
    from serving.server import open_inference_grpc

    open_inference_grpc.add_to_server(service, server)
    address = f"{listen.host}:{listen.grpc_port}"
    if listen.tls is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, build_grpc_credentials(listen.tls))
    await server.start()
    return server, port
