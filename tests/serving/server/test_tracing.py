"""Traces come to a receiver of OTLP as OpenTelemetry's messages, below the caller's own span."""

import gzip
import http.server
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cli.errors import ConfigError
from serving.server import tracing
from tests.serving.models import ROW, example, export_model, push
from tests.serving.running import RunningServer, ask, registry_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Receiver:
    """A collector of OTLP over HTTP, on a port of its own.

    Attributes:
      url: its address.
      requests: paths and messages that came.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["content-type"] == "application/x-protobuf"
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                with receiver._changed:
                    receiver.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
                    receiver._changed.notify_all()
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[Span]:
        return [
            span
            for _, message in self.requests
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, trace: str, number: int) -> dict[str, Span]:
        """Return the spans of a trace by name, once so many have come."""

        def of_trace() -> list[Span]:
            return [span for span in self.spans() if span.trace_id.hex() == trace]

        with self._changed:
            assert self._changed.wait_for(lambda: len(of_trace()) >= number, 30), self.spans()
            spans = of_trace()
        assert len(spans) == number, spans
        return {span.name: span for span in spans}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    registry = registry_of(folder)
    push(registry, export_model(folder / "model"))
    return Path(registry.folder)


@pytest.fixture(scope="module")
def running(folder: Path, receiver: Receiver) -> Iterator[RunningServer]:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with RunningServer("--model-dir", str(folder), "--grpc-port", "0", **variables) as made:
        yield made


def post(running: RunningServer, traceparent: str, rows: list[dict[str, Any]]) -> int:
    headers = {"traceparent": traceparent, "user-agent": "tests"}
    body = json.dumps({"instances": rows}).encode()
    return ask(urllib.request.Request(f"{running.url}/v1/models/shop-model:predict", body, headers))[0]


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


@pytest.mark.integration
def test_a_request_is_a_span_below_its_callers_with_its_parts_below(running: RunningServer, receiver: Receiver) -> None:
    assert post(running, _TRACEPARENT, [ROW, ROW]) == 200
    spans = receiver.wait_for(TRACE, 4)
    server = spans["POST /v1/models/{model}:predict"]
    assert (server.kind, server.parent_span_id.hex()) == (Span.SPAN_KIND_SERVER, PARENT)
    port = int(running.url.rpartition(":")[2])
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{model}:predict",
        "http.response.status_code": 200,
        "url.path": "/v1/models/shop-model:predict",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "user_agent.original": "tests",
        "model_server.version": 1,
        "model_server.rows": 2,
    }
    parts = [spans[name] for name in ("convert", "queue_wait", "model_call")]
    assert {part.parent_span_id for part in parts} == {server.span_id}
    times = [time for part in parts for time in (part.start_time_unix_nano, part.end_time_unix_nano)]
    assert times == sorted(times)
    assert server.start_time_unix_nano <= times[0] < times[-1] <= server.end_time_unix_nano
    assert attributes(parts[2]) == {"model_server.batch_rows": 2}
    (event,) = running.wait_for_events(event="request", trace_id=TRACE)
    assert (event["status"], event["rows"]) == (200, 2)
    path, message = receiver.requests[0]
    resource = {each.key: each.value.string_value for each in message.resource_spans[0].resource.attributes}
    assert (path, resource["service.name"], "service.version" in resource) == ("/v1/traces", "shop", True)


@pytest.mark.integration
def test_a_rejected_row_marks_its_conversion_and_tells_no_value(running: RunningServer, receiver: Receiver) -> None:
    trace = "1" * 32
    assert post(running, f"00-{trace}-{PARENT}-01", [{**ROW, "size": "huge"}]) == 400
    spans = receiver.wait_for(trace, 2)
    server, part = spans["POST /v1/models/{model}:predict"], spans["convert"]
    # https://opentelemetry.io/docs/specs/semconv/http/http-spans/#status: an error of the client is none of the server.
    assert (server.status.code, attributes(server)["http.response.status_code"]) == (Status.STATUS_CODE_UNSET, 400)
    assert (part.status.code, attributes(part)["error.type"]) == (Status.STATUS_CODE_ERROR, "RequestError")
    assert "huge" not in str(spans)


@pytest.mark.integration
def test_grpc_calls_are_spans_too(running: RunningServer, receiver: Receiver) -> None:
    import tensorflow as tf

    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(running.grpc))
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_examples"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([example(ROW)] * 3))
    method = "tensorflow.serving.PredictionService/Predict"
    answered, rejected = "2" * 32, "3" * 32
    stub.Predict(request, timeout=30, metadata=[("traceparent", f"00-{answered}-{PARENT}-01")])
    spans = receiver.wait_for(answered, 4)
    assert spans[method].parent_span_id.hex() == PARENT
    assert attributes(spans[method]) == {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.response.status_code": "OK",
        "model_server.version": 1,
        "model_server.rows": 3,
    }
    (event,) = running.wait_for_events(event="rpc", trace_id=answered)
    assert event["rows"] == 3
    request.model_spec.signature_name = "other"
    with pytest.raises(grpc.RpcError):
        stub.Predict(request, timeout=30, metadata=[("traceparent", f"00-{rejected}-{PARENT}-01")])
    span = receiver.wait_for(rejected, 1)[method]
    assert (attributes(span)["rpc.response.status_code"], span.status.code) == ("NOT_FOUND", Status.STATUS_CODE_UNSET)


@pytest.mark.integration
def test_the_callers_decision_is_kept_and_probes_have_no_spans(running: RunningServer, receiver: Receiver) -> None:
    unsampled, last = "5" * 32, "6" * 32
    assert post(running, f"00-{unsampled}-{PARENT}-00", [ROW]) == 200
    for path in ("/health", "/live", "/metrics", "/v2/health/ready"):
        assert running.get(path)[0] == 200
    # A header that is not a traceparent begins a trace of its own.
    assert post(running, "garbage", [ROW]) == 200
    assert post(running, f"00-{last}-{PARENT}-01", [ROW]) == 200
    receiver.wait_for(last, 4)
    spans = receiver.spans()
    assert not any(span.trace_id.hex() == unsampled for span in spans)
    names = {span.name for span in spans if span.kind == Span.SPAN_KIND_SERVER}
    assert not any("health" in name or "live" in name or "metrics" in name for name in names), names
    assert sum(span.kind == Span.SPAN_KIND_SERVER and not span.parent_span_id for span in spans) == 1


@pytest.mark.integration
def test_a_collector_that_hangs_delays_neither_requests_nor_the_end(folder: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        flags = ["--model-dir", str(folder), "--otlp-endpoint", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        with RunningServer(*flags, OTEL_BSP_SCHEDULE_DELAY="1", OTEL_BSP_MAX_QUEUE_SIZE="512") as running:
            # More spans than the queue takes.
            for _ in range(300):
                assert post(running, _TRACEPARENT, [ROW]) == 200
            started = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("flag", "variables", "endpoint"),
    [
        (None, {}, None),
        ("http://collector:4318/", {}, "http://collector:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4318"}, "https://c:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/here"}, "http://c/here"),
        ("http://collector:4318", {"OTEL_SDK_DISABLED": "true"}, None),
        ("http://collector:4318", {"OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_the_endpoint_is_that_of_the_flag_or_of_the_variables(
    monkeypatch: pytest.MonkeyPatch, flag: str | None, variables: dict[str, str], endpoint: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.find_endpoint(flag) == endpoint


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT: expected an address such as"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf; found 'grpc'"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER: expected otlp, none; found 'zipkin'"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "OTEL_TRACES_SAMPLER: expected always_on, .* found 'sometimes'"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, found '2'"),
        ("OTEL_TRACES_SAMPLER_ARG", "half", "OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1, found 'half'"),
    ],
)
def test_a_variable_that_would_be_ignored_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        tracing.find_endpoint(None)
