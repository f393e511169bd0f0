"""Traces of the model server by OpenTelemetry: a span of each request, with its parts below it, sent by OTLP.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.routing import BaseRoute, Route

from serving.server.open_inference import SERVER_NAME, read_product_version

# Those of RPC are not among the stable names of the package.
_RPC_SYSTEM, _RPC_METHOD, _RPC_STATUS = "rpc.system.name", "rpc.method", "rpc.response.status_code"
_VERSION, _ROWS, _BATCH_ROWS = "model_server.version", "model_server.rows", "model_server.batch_rows"
_TRACE_HEADERS = ("traceparent", "tracestate")
# Prometheus reads it as often as probes come.
_METRICS_PATH = "/metrics"
_HEALTH_SERVICE = "/grpc.health.v1.Health/"
_SERVER_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
_LAST_SPANS_SECONDS = 2.0


class Tracer:
    """Makes spans, which a thread of its own sends; those that do not fit its queue are dropped."""

    def __init__(self, endpoint: str) -> None:
        """Args:
        endpoint: URL that takes traces by OTLP over HTTP.
        """
        resource = Resource({service_attributes.SERVICE_NAME: SERVER_NAME})
        # The variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES replace the name.
        own = Resource.create({service_attributes.SERVICE_VERSION: read_product_version()})
        is_named = not str(own.attributes[service_attributes.SERVICE_NAME]).startswith("unknown_service")
        # At the end of the process, the SDK would wait half a minute for a collector that is gone.
        self._provider = TracerProvider(resource=own if is_named else own.merge(resource), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer(__name__)
        self._propagator = TraceContextTextMapPropagator()

    def stop(self) -> None:
        """Send the last spans, for at most two seconds."""
        last = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(_LAST_SPANS_SECONDS)

    @contextlib.contextmanager
    def serve(self, name: str, headers: Iterable[tuple[str, str]], attributes: Mapping[str, Any]) -> Iterator[Span]:
        """Run a request in a span, whose parent is the header `traceparent`.

        Args:
          name: name of the span.
          headers: headers, or metadata, of the request.
          attributes: attributes of the span that are known before its answer.
        """
        values: dict[str, list[str]] = {}
        for key, value in headers:
            if key in _TRACE_HEADERS:
                values.setdefault(key, []).append(value)
        parent = self._propagator.extract(values)
        with self._tracer.start_as_current_span(
            name,
            parent,
            SpanKind.SERVER,
            attributes,
            # Messages of errors hold values of requests.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    @contextlib.contextmanager
    def start_child(self, name: str) -> Iterator[None]:
        """Run a part of a request in a span of its own."""
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield
            except Exception as error:
                set_error(span, type(error).__name__)
                raise

    def add_rows(self, version: int, rows: int) -> None:
        """Add the version and the number of rows to the request's span."""
        trace.get_current_span().set_attributes({_VERSION: version, _ROWS: rows})

    def add_call(self, queued: int, called: int, batch_rows: int) -> None:
        """Add spans of the wait for the model and of its call, which has just ended."""
        now = time.time_ns()
        self._tracer.start_span("queue_wait", start_time=queued).end(called or now)
        if called:
            self._tracer.start_span("model_call", start_time=called, attributes={_BATCH_ROWS: batch_rows}).end(now)

    def wrap(self, application: Any, routes: Iterable[BaseRoute], probes: frozenset[str]) -> "TracedApplication":
        """Return an application whose requests have spans.

        Args:
          application: application behind it.
          routes: its routes.
          probes: paths of probes, which have no spans.
        """
        paths = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
        return TracedApplication(application, self, paths, probes | {_METRICS_PATH})

    def build_interceptor(self) -> "TracingInterceptor":
        """Return an interceptor for gRPC calls, which then have spans."""
        return TracingInterceptor(self)

    def read_trace_id(self) -> str | None:
        """Return the ID of the request's trace; None outside of a request."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else None


def set_error(span: Span, kind: str) -> None:
    """Mark a span as failed."""
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute(error_attributes.ERROR_TYPE, kind)


class TracedApplication:
    """An ASGI application whose requests have spans."""

    def __init__(self, application: Any, tracer: Tracer, paths: Mapping[Any, str], quiet_paths: frozenset[str]) -> None:
        """Args:
        application: application behind it.
        tracer: maker of the spans.
        paths: patterns of the routes' paths, by the function that serves them.
        quiet_paths: paths without spans, such as those of probes.
        """
        self._application, self._tracer, self._paths, self._quiet_paths = application, tracer, paths, quiet_paths

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http" or scope["path"] in self._quiet_paths:
            await self._application(scope, receive, send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        with self._tracer.serve(scope["method"], headers, _describe(scope, dict(headers))) as span:

            async def read_status(message: Any) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute(http_attributes.HTTP_RESPONSE_STATUS_CODE, status)
                    if status >= 500:
                        set_error(span, str(status))
                await send(message)

            await self._application(scope, receive, read_status)
            route = self._paths.get(scope.get("endpoint"))
            if route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute(http_attributes.HTTP_ROUTE, route)


def _describe(scope: Any, headers: Mapping[str, str]) -> dict[str, Any]:
    client, server = scope.get("client") or (None, None), scope.get("server") or (None, None)
    attributes = {
        http_attributes.HTTP_REQUEST_METHOD: scope["method"],
        url_attributes.URL_PATH: scope["path"],
        url_attributes.URL_SCHEME: scope["scheme"],
        network_attributes.NETWORK_PROTOCOL_VERSION: scope["http_version"],
        client_attributes.CLIENT_ADDRESS: client[0],
        server_attributes.SERVER_ADDRESS: server[0],
        server_attributes.SERVER_PORT: server[1],
        user_agent_attributes.USER_AGENT_ORIGINAL: headers.get("user-agent"),
    }
    return {name: value for name, value in attributes.items() if value is not None}


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Makes a span of each gRPC call, other than health probes."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Return the handler of a call, which runs in a span."""
        details = handler_call_details
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method.startswith(_HEALTH_SERVICE):
            return handler
        name = details.method.removeprefix("/")
        attributes = {_RPC_SYSTEM: "grpc", _RPC_METHOD: name}
        headers = [(key, value) for key, value in details.invocation_metadata or () if isinstance(value, str)]

        async def answer(request: Any, context: Any) -> Any:
            with self._tracer.serve(name, headers, attributes) as span:
                try:
                    return await handler.unary_unary(request, context)
                finally:
                    code = context.code()
                    code = code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.OK
                    span.set_attribute(_RPC_STATUS, code.name)
                    if code in _SERVER_ERRORS:
                        set_error(span, code.name)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)
