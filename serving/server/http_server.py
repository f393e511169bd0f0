"""The HTTP server of a model: Vertex AI's container contract, and TF Serving's REST paths.

https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
https://www.tensorflow.org/tfx/serving/api_rest
"""

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from serving.model.inference import Method
from serving.model.model_call import Outputs
from serving.model.predictor import Predictor, to_json, to_rows
from serving.model.signatures import SERVING_DEFAULT, SERVING_EXAMPLES
from serving.server import events, inference_calls, open_inference, pages, tracing
from serving.server.content_encoding import GZIP, UnsupportedEncodingError, decode_body
from serving.server.model_versions import AVAILABLE, ServedVersion
from serving.server.request_context import MAX_REQUEST_ID_CHARS, SPLIT_KEY_HEADER, get_current_request, start_request
from serving.server.service import NotFoundError, NotReadyError, OverloadedError, RequestError, Service
from serving.server.split_keys import read_json_keys

_LOG = logging.getLogger(__name__)
# The only keys of `parameters` that Vertex AI's clients may send.
_PARAMETERS = {"signature_name", "outputs"}
# The routes of the request log.
_PREDICTIONS = {"predict", "tf_serving_predict", "v2_infer", "classify", "regress"}
# nginx's code for a connection that the client closed; only logs and metrics have it.
_GONE = 499

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


class _TooLargeError(Exception):
    """The body of a request is larger than allowed."""


def build_application(
    service: Service,
    *,
    health_route: str = "/health",
    predict_route: str = "/predict",
    lifespan: Lifespan | None = None,
) -> Starlette:
    """Return the application with all routes.

    Args:
      service: the model service.
      health_route, predict_route: paths of Vertex AI's routes.
      lifespan: context manager around the life of the server.
    """
    handlers = _Routes(service, predict_route, health_route)
    model = "/v1/models/{model}"
    routes: list[BaseRoute] = [
        Route(health_route, handlers.observe("health", handlers.get_health)),
        Route("/live", handlers.observe("live", handlers.get_live)),
        Route(predict_route, handlers.observe("predict", handlers.predict_as_vertex), methods=["POST"]),
        Route("/metrics", handlers.observe("metrics", handlers.get_metrics)),
        Route("/openapi.json", handlers.observe("openapi", handlers.get_openapi)),
        Route("/", handlers.observe("page", handlers.get_page)),
    ]
    open_inference_model = "/v2/models/{model}"
    routes += [
        Route("/v1/models", handlers.observe("models", handlers.list_models)),
        Route("/v2", handlers.observe("v2_server", handlers.get_v2_server)),
        Route("/v2/models", handlers.observe("models", handlers.list_models)),
        Route("/v2/health/live", handlers.observe("live", handlers.get_v2_live)),
        Route("/v2/health/ready", handlers.observe("health", handlers.get_v2_ready)),
    ]
    for path in (open_inference_model, f"{open_inference_model}/versions/{{version}}"):
        routes += [
            Route(path, handlers.observe("v2_model", handlers.get_v2_model)),
            Route(f"{path}/ready", handlers.observe("v2_model_ready", handlers.get_v2_model_ready)),
            Route(f"{path}/infer", handlers.observe("v2_infer", handlers.infer_v2), methods=["POST"]),
        ]
    for path in (model, f"{model}/versions/{{version}}", f"{model}/labels/{{label}}"):
        routes += [
            Route(
                f"{path}:predict",
                handlers.observe("tf_serving_predict", handlers.predict_as_tf_serving),
                methods=["POST"],
            ),
            Route(f"{path}:classify", handlers.observe("classify", handlers.classify), methods=["POST"]),
            Route(f"{path}:regress", handlers.observe("regress", handlers.regress), methods=["POST"]),
            Route(f"{path}/metadata", handlers.observe("metadata", handlers.get_metadata)),
            Route(path, handlers.observe("status", handlers.get_status)),
        ]
    application = Starlette(
        routes=routes, exception_handlers={HTTPException: handlers.handle_http_error}, lifespan=lifespan, debug=False
    )
    # A redirect would go to whatever the Host header names.
    application.router.redirect_slashes = False
    return application


class _Routes:
    """The handlers of one service."""

    def __init__(self, service: Service, predict_route: str, health_route: str) -> None:
        self._service = service
        self._predict_route, self._health_route = predict_route, health_route

    def observe(
        self, route: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that turns errors into responses; it counts, times and logs requests."""

        async def run(request: Request) -> Response:
            started = time.perf_counter()
            headers = request.headers
            context = start_request(headers.get("x-request-id", ""), headers.get(SPLIT_KEY_HEADER, ""))
            identity = context.request_id
            log = self._service.request_log if route in _PREDICTIONS else None
            entry = context.entry = log.start_entry(identity, headers) if log is not None else None
            response = await self._handle(handler, request, identity)
            if entry is not None and response.status_code != _GONE:
                entry.finish(_read_error(response))
            response.headers["x-request-id"] = identity
            if self._service.is_stopping:
                # Clients that keep the connection open send the next request to another server.
                response.headers["connection"] = "close"
            self._record(route, request, response, identity, time.perf_counter() - started)
            if context.split_version is not None and self._service.split is not None:
                self._service.split.count(context, str(response.status_code), time.perf_counter() - started)
            if context.shadow_jobs and self._service.shadow is not None:
                # After this step of the task, which writes the response. A task in the background would take longer.
                asyncio.get_running_loop().call_soon(self._service.shadow.send, context.shadow_jobs)
            return response

        return run

    async def _handle(
        self, handler: Callable[[Request], Awaitable[Response]], request: Request, identity: str
    ) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return _respond_with_error(400, str(error))
        except NotFoundError as error:
            return _respond_with_error(404, str(error))
        except _TooLargeError as error:
            return _respond_with_error(413, str(error))
        except UnsupportedEncodingError as error:
            return _respond_with_error(415, str(error), {"accept-encoding": GZIP})
        except (OverloadedError, NotReadyError) as error:
            return _respond_with_error(503, str(error), {"retry-after": "1"})
        except ClientDisconnect:
            return _respond_with_error(_GONE, "the client closed the connection")
        except Exception:
            _LOG.exception("request %s failed", identity)
            return _respond_with_error(500, f"internal error; see the server's log, request {identity}")

    def _record(self, route: str, request: Request, response: Response, identity: str, seconds: float) -> None:
        metrics, status = self._service.metrics, response.status_code
        metrics.requests.labels(route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        rows, version = request.scope.get("rows"), request.scope.get("version")
        if rows:
            metrics.rows.labels(str(version)).inc(rows)
        if self._service.settings.access_log:
            events.write(
                "request",
                method=request.method,
                path=request.url.path,
                status=status,
                ms=round(seconds * 1000, 3),
                rows=rows,
                version=version,
                bytes=request.scope.get("bytes"),
                client=request.client.host if request.client else None,
                request_id=identity,
                trace_id=tracing.read_trace_id(),
            )

    async def handle_http_error(self, request: Request, error: Exception) -> Response:
        """Return the response to a request that no route takes."""
        assert isinstance(error, HTTPException)
        reasons = {404: f"there is nothing at {request.url.path[:200]}; / and /openapi.json list the paths"}
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "another")
            reasons[405] = f"{request.method} is not taken here; allowed: {allowed}"
        response = _respond_with_error(error.status_code, reasons.get(error.status_code, error.detail), error.headers)
        self._record("none", request, response, request.headers.get("x-request-id", "")[:MAX_REQUEST_ID_CHARS], 0.0)
        return response

    async def get_health(self, _: Request) -> Response:
        """Respond with 200 if requests are served, else 503."""
        service = self._service
        state = {
            "ready": service.is_ready,
            "versions": sorted(service.snapshot.served),
            "default": service.snapshot.default,
            "policy": service.settings.policy,
            "content": {str(number): served.content_hash for number, served in service.snapshot.served.items()},
        }
        return _respond(state, 200 if service.is_ready else 503)

    async def get_live(self, _: Request) -> Response:
        """Respond with 200 while the process runs."""
        return _respond({"live": True})

    async def get_metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._service.metrics.render)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def get_openapi(self, _: Request) -> Response:
        return _respond(pages.build_openapi(self._service, self._predict_route, self._health_route))

    async def get_page(self, _: Request) -> Response:
        page, headers = pages.render_try_it(self._service, self._health_route)
        return HTMLResponse(page, headers=headers)

    async def predict_as_vertex(self, request: Request) -> Response:
        """Predict `{"instances": [...], "parameters": {...}}` as Vertex AI does: `{"predictions": [...]}`."""
        served = self._service.find()
        self._service.check_capacity()
        content = await self._read_content(request)
        unknown = content.keys() - {"instances", "parameters"}
        if unknown:
            raise RequestError(f"'{min(unknown)[:40]}' is unknown; expected instances and, perhaps, parameters")
        parameters = content.get("parameters")
        parameters = {} if parameters is None else parameters
        if not isinstance(parameters, dict) or parameters.keys() - _PARAMETERS:
            raise RequestError(
                f"parameters: expected an object with no other keys than {', '.join(sorted(_PARAMETERS))}"
            )
        served = self._split(request, served, content)
        outputs = await self._predict_rows(request, served, parameters.get("signature_name"), content.get("instances"))
        return _respond({"predictions": to_rows(_select_outputs(outputs, parameters.get("outputs")))})

    async def predict_as_tf_serving(self, request: Request) -> Response:
        """Predict as TF Serving does, in its row and its column format."""
        served = self._find_version(request)
        self._service.check_capacity()
        content = await self._read_content(request)
        unknown = content.keys() - {"signature_name", "instances", "inputs"}
        if unknown:
            raise RequestError(f"'{min(unknown)[:40]}' is unknown; expected signature_name, instances or inputs")
        served = self._split(request, served, content)
        signature = content.get("signature_name")
        if ("instances" in content) == ("inputs" in content):
            raise RequestError('expected either {"instances": [...]}, by row, or {"inputs": {...}}, by column')
        if "instances" in content:
            rows = to_rows(await self._predict_rows(request, served, signature, content["instances"]))
            # TF Serving's rule: a single output is not named.
            single = len(rows[0]) == 1
            return _respond({"predictions": [next(iter(row.values())) for row in rows] if single else rows})
        outputs = await self._predict_columns(request, served, signature, content["inputs"])
        named = {name: to_json(name, values) for name, values in outputs.items()}
        return _respond({"outputs": next(iter(named.values())) if len(named) == 1 else named})

    async def list_models(self, _: Request) -> Response:
        """Return the names of the models, as KServe does."""
        return _respond({"models": [self._service.model_name]})

    async def get_v2_server(self, _: Request) -> Response:
        return _respond(open_inference.describe_server())

    async def get_v2_live(self, _: Request) -> Response:
        return _respond({"live": True})

    async def get_v2_ready(self, _: Request) -> Response:
        is_ready = self._service.is_ready
        return _respond({"live": True, "ready": is_ready}, 200 if is_ready else 503)

    async def get_v2_model(self, request: Request) -> Response:
        return _respond(open_inference.describe_model(self._service, self._find_version(request)))

    async def get_v2_model_ready(self, request: Request) -> Response:
        self._find_version(request)
        is_ready = self._service.is_ready
        return _respond({"name": self._service.model_name, "ready": is_ready}, 200 if is_ready else 503)

    async def infer_v2(self, request: Request) -> Response:
        """Predict as the open inference protocol has it."""
        served = self._find_version(request)
        self._service.check_capacity()
        body = await self._read_body(request)
        length = request.headers.get(open_inference.JSON_LENGTH_HEADER, str(len(body)))
        if not re.fullmatch("[0-9]{1,18}", length) or int(length) > len(body):
            raise RequestError(f"{open_inference.JSON_LENGTH_HEADER}: expected a part of the {len(body):,} bytes")
        inference = open_inference.read_request(_parse_content(body[: int(length)]), body[int(length) :])
        served = self._split(request, served, {"inputs": inference.columns})
        outputs = await self._service.answer_columns(served, inference.columns)
        _add_to_log(request, served, outputs)
        content, headers = open_inference.build_response(self._service, served, inference, outputs)
        return Response(content, headers=headers)

    async def classify(self, request: Request) -> Response:
        """Return the classes of each row, as TF Serving does."""
        return await self._infer(request, "classify")

    async def regress(self, request: Request) -> Response:
        """Return the number of each row, as TF Serving does."""
        return await self._infer(request, "regress")

    async def _infer(self, request: Request, method: Method) -> Response:
        served = self._find_version(request)
        self._service.check_capacity()
        content = await self._read_content(request)
        served = self._split(request, served, content)
        answer, outputs = await inference_calls.answer_json(self._service, served, method, content)
        _add_to_log(request, served, outputs)
        return _respond(answer)

    async def get_status(self, request: Request) -> Response:
        """Respond with the state of one version or of all, as TF Serving does."""
        number, snapshot = self._find_number(request), self._service.snapshot
        states = {key: state for key, state in snapshot.states.items() if number in (None, key)}
        if not states:
            self._find_version(request)
        available = any(state.state == AVAILABLE for state in states.values())
        return _respond(
            {
                # The first two are KServe's V1.
                "name": self._service.model_name,
                "ready": available and not self._service.is_stopping,
                "model_version_status": [
                    {
                        "version": str(key),
                        "state": state.state,
                        "status": {"error_code": "UNKNOWN" if state.error else "OK", "error_message": state.error},
                    }
                    for key, state in sorted(states.items(), reverse=True)
                ],
            }
        )

    async def get_metadata(self, request: Request) -> Response:
        """Respond with the signatures, as TF Serving does."""
        return _respond(pages.build_metadata(self._service.model_name, self._find_version(request)))

    def _find_version(self, request: Request) -> ServedVersion:
        parameters = request.path_params
        return self._service.find(parameters["model"], _parse_version(parameters), parameters.get("label"))

    def _split(self, request: Request, served: ServedVersion, content: Mapping[str, Any]) -> ServedVersion:
        """Return the version that the split chooses, if the request names none."""
        split = self._service.split
        if split is None or request.path_params.keys() & {"version", "label"}:
            return served
        return split.choose(
            get_current_request(), self._service.snapshot, served, read_json_keys(content, split.column)
        )

    def _find_number(self, request: Request) -> int | None:
        parameters = request.path_params
        if parameters["model"] != self._service.model_name or "label" in parameters:
            return self._find_version(request).number
        return _parse_version(parameters)

    async def _read_content(self, request: Request) -> dict[str, Any]:
        return _parse_content(await self._read_body(request))

    async def _read_body(self, request: Request) -> bytes:
        most = self._service.settings.max_request_bytes
        # llhttp has checked that it is a number.
        if int(request.headers.get("content-length", 0)) > most:
            raise _TooLargeError(f"the request is larger than {most:,} bytes")
        pieces, size = [], 0
        async for piece in request.stream():
            size += len(piece)
            if size > most:
                raise _TooLargeError(f"the request is larger than {most:,} bytes")
            pieces.append(piece)
        request.scope["bytes"] = size
        body = decode_body(b"".join(pieces), request.headers.get("content-encoding", ""), most)
        if len(body) > most:
            raise _TooLargeError(f"the request is larger than {most:,} bytes once it is decompressed")
        return body

    async def _predict_rows(self, request: Request, served: ServedVersion, signature: Any, instances: Any) -> Outputs:
        served = self._service.select_signature(served, SERVING_DEFAULT if signature is None else signature)
        if signature == SERVING_EXAMPLES and isinstance(served.predictor, Predictor):
            outputs = await self._service.answer_examples(served, _decode_examples(instances))
        else:
            outputs = await self._service.answer_instances(served, instances)
        return _add_to_log(request, served, outputs)

    async def _predict_columns(self, request: Request, served: ServedVersion, signature: Any, inputs: Any) -> Outputs:
        served = self._service.select_signature(served, SERVING_DEFAULT if signature is None else signature)
        if signature == SERVING_EXAMPLES and isinstance(served.predictor, Predictor):
            records = inputs.get("examples") if isinstance(inputs, dict) else inputs
            outputs = await self._service.answer_examples(served, _decode_examples(records))
        else:
            outputs = await self._service.answer_columns(served, inputs)
        return _add_to_log(request, served, outputs)


def _parse_content(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        content = _parse_non_finite(body, error)
    if not isinstance(content, dict):
        raise RequestError('expected {"instances": [{FEATURE: VALUE, ...}, ...]}')
    return content


def _parse_non_finite(body: bytes, error: ValueError) -> Any:
    """Parse a request with NaN or Infinity: Python writes them, although JSON does not have them.

    Raises:
      RequestError: the request is not JSON for another reason.
    """
    if b"NaN" in body or b"Infinity" in body:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(body)
    raise RequestError(f"the request is not JSON: {error}") from error


def _add_to_log(request: Request, served: ServedVersion, outputs: Outputs) -> Outputs:
    """Add the rows and the version to the entry of the access log; return the outputs."""
    request.scope["rows"] = len(next(iter(outputs.values())))
    request.scope["version"] = served.number
    return outputs


def _parse_version(parameters: Mapping[str, Any]) -> int | None:
    text = parameters.get("version")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise NotFoundError(f"'{text[:40]}' is not the number of a version")
    return int(text)


def _decode_examples(instances: Any) -> list[bytes]:
    """Return serialized records from `{"b64": ...}` or `{"examples": {"b64": ...}}`."""
    if not isinstance(instances, list):
        raise RequestError('expected [{"b64": SERIALIZED_TF_EXAMPLE}, ...]')
    examples = []
    for row, instance in enumerate(instances):
        coded = instance.get("examples", instance) if isinstance(instance, dict) else instance
        try:
            examples.append(base64.b64decode(coded["b64"], validate=True))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise RequestError(f'instances[{row}]: expected {{"b64": SERIALIZED_TF_EXAMPLE}}') from error
    return examples


def _select_outputs(outputs: Outputs, names: Any) -> Outputs:
    if names is None:
        return outputs
    if not isinstance(names, list) or not names or not all(name in outputs for name in map(str, names)):
        raise RequestError(f"parameters.outputs: expected some of {', '.join(sorted(outputs))}")
    return {str(name): outputs[str(name)] for name in names}


def _respond(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _read_error(response: Response) -> str:
    return str(orjson.loads(response.body)["error"]) if response.status_code >= 400 else ""


def _respond_with_error(code: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    return _respond({"error": reason}, code, headers)
