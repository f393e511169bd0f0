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
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from serving.model.predictor import plain, rows_of
from serving.model.signatures import SERVING_DEFAULT, SERVING_EXAMPLES
from serving.server import events, pages
from serving.server.batching import Outputs
from serving.server.model_versions import Served
from serving.server.service import NotFoundError, NotReadyError, OverloadedError, RequestError, Service

_LOG = logging.getLogger(__name__)
_BODY_SECONDS = 30.0
_MOST_OF_AN_ID = 128
# The only keys of `parameters` that Vertex AI's clients may send.
_PARAMETERS = {"signature_name", "outputs"}
# Vertex AI's client closed the connection; nginx's code, in logs and metrics alone.
_GONE = 499

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


class _TooLargeError(Exception):
    """The body of a request is larger than is taken."""


def application(
    service: Service,
    *,
    health_route: str = "/health",
    predict_route: str = "/predict",
    lifespan: Lifespan | None = None,
) -> Starlette:
    """All routes.

    Args:
      service: what answers.
      health_route, predict_route: as Vertex AI asks for them.
      lifespan: what runs beside the server.
    """
    routes = _Routes(service, predict_route, health_route)
    model = "/v1/models/{model}"
    of_version = {"": model, "/versions": f"{model}/versions/{{version}}", "/labels": f"{model}/labels/{{label}}"}
    listed: list[BaseRoute] = [
        Route(health_route, routes.observed("health", routes.health)),
        Route("/live", routes.observed("live", routes.live)),
        Route(predict_route, routes.observed("predict", routes.vertex_predict), methods=["POST"]),
        Route("/metrics", routes.observed("metrics", routes.metrics)),
        Route("/openapi.json", routes.observed("openapi", routes.openapi)),
        Route("/", routes.observed("page", routes.page)),
    ]
    for path in of_version.values():
        listed += [
            Route(f"{path}:predict", routes.observed("tf_serving_predict", routes.tf_predict), methods=["POST"]),
            Route(f"{path}/metadata", routes.observed("metadata", routes.metadata)),
            Route(path, routes.observed("status", routes.status)),
        ]
    return Starlette(
        routes=listed, exception_handlers={HTTPException: routes.http_error}, lifespan=lifespan, debug=False
    )


class _Routes:
    """The handlers of one service."""

    def __init__(self, service: Service, predict_route: str, health_route: str) -> None:
        self._service = service
        self._predict_route, self._health_route = predict_route, health_route

    def observed(
        self, route: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler whose errors are answers, counted, timed and logged."""

        async def run(request: Request) -> Response:
            started = time.perf_counter()
            identity = request.headers.get("x-request-id", "")[:_MOST_OF_AN_ID] or uuid.uuid4().hex
            response = await self._answered(handler, request, identity)
            response.headers["x-request-id"] = identity
            if self._service.stopping:
                # Whoever keeps the connection sends the next request to another server.
                response.headers["connection"] = "close"
            self._note(route, request, response, identity, time.perf_counter() - started)
            return response

        return run

    async def _answered(
        self, handler: Callable[[Request], Awaitable[Response]], request: Request, identity: str
    ) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return _refused(400, str(error))
        except NotFoundError as error:
            return _refused(404, str(error))
        except TimeoutError:
            return _refused(408, f"the request did not arrive within {_BODY_SECONDS:g} s")
        except _TooLargeError as error:
            return _refused(413, str(error))
        except (OverloadedError, NotReadyError) as error:
            return _refused(503, str(error), {"retry-after": "1"})
        except ClientDisconnect:
            return _refused(_GONE, "the client closed the connection")
        except Exception:
            _LOG.exception("request %s failed", identity)
            return _refused(500, f"internal error; the server's log has it under request {identity}")

    def _note(self, route: str, request: Request, response: Response, identity: str, seconds: float) -> None:
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
            )

    async def http_error(self, request: Request, error: Exception) -> Response:
        """Return what no route takes."""
        assert isinstance(error, HTTPException)
        known = {404: f"there is nothing at {request.url.path[:200]}; / and /openapi.json say what there is"}
        if error.status_code == 405:
            known[405] = f"{request.method} is not taken here; allowed: {(error.headers or {}).get('Allow', 'another')}"
        response = _refused(error.status_code, known.get(error.status_code, error.detail), error.headers)
        self._note("none", request, response, request.headers.get("x-request-id", "")[:_MOST_OF_AN_ID], 0.0)
        return response

    async def health(self, _: Request) -> Response:
        """Whether requests are answered."""
        service = self._service
        state = {
            "ready": service.ready,
            "versions": sorted(service.snapshot.served),
            "default": service.snapshot.default,
        }
        return _json(state, 200 if service.ready else 503)

    async def live(self, _: Request) -> Response:
        """Whether the process runs."""
        return _json({"live": True})

    async def metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._service.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, _: Request) -> Response:
        return _json(pages.openapi(self._service, self._predict_route, self._health_route))

    async def page(self, _: Request) -> Response:
        page, headers = pages.try_it(self._service)
        return HTMLResponse(page, headers=headers)

    async def vertex_predict(self, request: Request) -> Response:
        """`{"instances": [...], "parameters": {...}}` to `{"predictions": [...]}`."""
        self._service.check_capacity()
        content = await self._content(request)
        unknown = content.keys() - {"instances", "parameters"}
        if unknown:
            raise RequestError(f"'{min(unknown)[:40]}' is unknown; expected instances and, perhaps, parameters")
        parameters = content.get("parameters")
        parameters = {} if parameters is None else parameters
        if not isinstance(parameters, dict) or parameters.keys() - _PARAMETERS:
            raise RequestError(
                f"parameters: expected an object with no other keys than {', '.join(sorted(_PARAMETERS))}"
            )
        served = self._service.find()
        outputs = await self._rows(request, served, parameters.get("signature_name"), content.get("instances"))
        return _json({"predictions": rows_of(_chosen(outputs, parameters.get("outputs")))})

    async def tf_predict(self, request: Request) -> Response:
        """TF Serving's predict, in its row and its column format."""
        served = self._find(request)
        self._service.check_capacity()
        content = await self._content(request)
        unknown = content.keys() - {"signature_name", "instances", "inputs"}
        if unknown:
            raise RequestError(f"'{min(unknown)[:40]}' is unknown; expected signature_name, instances or inputs")
        signature = content.get("signature_name")
        if ("instances" in content) == ("inputs" in content):
            raise RequestError('expected either {"instances": [...]}, by row, or {"inputs": {...}}, by column')
        if "instances" in content:
            rows = rows_of(await self._rows(request, served, signature, content["instances"]))
            # TF Serving's rule: a single output is not named.
            single = len(rows[0]) == 1
            return _json({"predictions": [next(iter(row.values())) for row in rows] if single else rows})
        outputs = await self._columns(request, served, signature, content["inputs"])
        named = {name: plain(values) for name, values in outputs.items()}
        return _json({"outputs": next(iter(named.values())) if len(named) == 1 else named})

    async def status(self, request: Request) -> Response:
        """TF Serving's status of one version or of all."""
        number, snapshot = self._number(request), self._service.snapshot
        states = {key: state for key, state in snapshot.states.items() if number in (None, key)}
        if not states:
            self._find(request)
        return _json(
            {
                "model_version_status": [
                    {
                        "version": str(key),
                        "state": state.state,
                        "status": {"error_code": "UNKNOWN" if state.error else "OK", "error_message": state.error},
                    }
                    for key, state in sorted(states.items(), reverse=True)
                ]
            }
        )

    async def metadata(self, request: Request) -> Response:
        """TF Serving's description of the signatures."""
        return _json(pages.metadata(self._service.model_name, self._find(request)))

    def _find(self, request: Request) -> Served:
        parameters = request.path_params
        return self._service.find(parameters["model"], _version(parameters), parameters.get("label"))

    def _number(self, request: Request) -> int | None:
        parameters = request.path_params
        if parameters["model"] != self._service.model_name or "label" in parameters:
            return self._find(request).number
        return _version(parameters)

    async def _content(self, request: Request) -> dict[str, Any]:
        body = await self._body(request)
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            content = _with_non_finite(body, error)
        if not isinstance(content, dict):
            raise RequestError('expected {"instances": [{FEATURE: VALUE, ...}, ...]}')
        return content

    async def _body(self, request: Request) -> bytes:
        most = self._service.settings.max_request_bytes
        pieces, size = [], 0
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise _TooLargeError(f"the request is larger than {most:,} bytes")
                pieces.append(piece)
        request.scope["bytes"] = size
        return b"".join(pieces)

    async def _rows(self, request: Request, served: Served, signature: Any, instances: Any) -> Outputs:
        if signature in (None, SERVING_DEFAULT):
            outputs = await self._service.answer_instances(served, instances)
        elif signature == SERVING_EXAMPLES:
            outputs = await self._service.answer_examples(served, _examples(instances))
        else:
            raise _unknown_signature(signature, served)
        return _noted(request, served, outputs)

    async def _columns(self, request: Request, served: Served, signature: Any, inputs: Any) -> Outputs:
        if signature in (None, SERVING_DEFAULT):
            outputs = await self._service.answer_columns(served, inputs)
        elif signature == SERVING_EXAMPLES:
            listed = inputs.get("examples") if isinstance(inputs, dict) else inputs
            outputs = await self._service.answer_examples(served, _examples(listed))
        else:
            raise _unknown_signature(signature, served)
        return _noted(request, served, outputs)


def _with_non_finite(body: bytes, error: ValueError) -> Any:
    """Return a request with NaN or Infinity, which Python writes and JSON has not, so that its column decides.

    Raises:
      RequestError: it is not JSON otherwise either.
    """
    if b"NaN" in body or b"Infinity" in body:
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(body)
    raise RequestError(f"the request is not JSON: {error}") from error


def _noted(request: Request, served: Served, outputs: Outputs) -> Outputs:
    """For the access log."""
    request.scope["rows"] = len(next(iter(outputs.values())))
    request.scope["version"] = served.number
    return outputs


def _unknown_signature(signature: Any, served: Served) -> NotFoundError:
    known = ", ".join(served.predictor.signatures)
    return NotFoundError(f"there is no signature '{str(signature)[:80]}'; version {served.number} has {known}")


def _version(parameters: Mapping[str, Any]) -> int | None:
    text = parameters.get("version")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise NotFoundError(f"'{text[:40]}' is not the number of a version")
    return int(text)


def _examples(instances: Any) -> list[bytes]:
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


def _chosen(outputs: Outputs, names: Any) -> Outputs:
    if names is None:
        return outputs
    if not isinstance(names, list) or not names or not all(name in outputs for name in map(str, names)):
        raise RequestError(f"parameters.outputs: expected some of {', '.join(sorted(outputs))}")
    return {str(name): outputs[str(name)] for name in names}


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _refused(code: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": why}, code, headers)
