"""The HTTP server of a model, by the contract of Vertex AI's custom containers.

https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

import json
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serving.predictor import Predictor, RequestError

# Vertex AI sends no larger ones.
MAX_REQUEST_BYTES = 1_500_000


def application(predictor: Predictor, *, health_route: str = "/health", predict_route: str = "/predict") -> Starlette:
    """Answers `{"instances": [...]}` with `{"predictions": [...]}`; what does not fit the model, with 400 and why."""

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def predict(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return _refused(413, f"the request is larger than {MAX_REQUEST_BYTES:,} bytes")
        try:
            instances = _instances(body)
            # TensorFlow lets other threads run while it computes.
            predictions = await run_in_threadpool(predictor.predict, instances)
        except RequestError as error:
            return _refused(400, str(error))
        return JSONResponse({"predictions": predictions})

    return Starlette(routes=[Route(health_route, healthy), Route(predict_route, predict, methods=["POST"])])


def _instances(body: bytes) -> list[Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is no JSON: {error}") from error
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list) or not instances:
        raise RequestError('expected {"instances": [{FEATURE: VALUE, ...}, ...]} with at least one row')
    return instances


def _refused(code: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=code)
