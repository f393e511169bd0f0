"""The gRPC server of a model, by TF Serving's PredictionService and ModelService, and gRPC's health service.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
https://grpc.io/docs/guides/health-checking/
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import any_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model.signature_defs import signature_defs
from serving.model.signatures import SERVING_DEFAULT, SERVING_EXAMPLES
from serving.model.tensor_predictor import TensorPredictor
from serving.server import events
from serving.server.batching import Outputs
from serving.server.model_versions import AVAILABLE, ServedVersion
from serving.server.service import NotFoundError, NotReadyError, OverloadedError, RequestError, Service

_LOG = logging.getLogger(__name__)
_PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
# The reason goes into a header of the answer: a client takes 8 KB of them.
_MAX_REASON_CHARS = 1000
_MAX_NAME_CHARS = 80
_CODES: dict[type[Exception], grpc.StatusCode] = {
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Health(health.aio.HealthServicer):
    """Reports whether requests are answered, of the server and of each of its services."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    async def update(self) -> None:
        """Set the status of all services, which also reaches those who watch them."""
        kinds = health_pb2.HealthCheckResponse
        status = kinds.SERVING if self._service.is_ready else kinds.NOT_SERVING
        for name in ("", _PREDICTION_SERVICE):
            await self.set(name, status)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.update()
        return await super().Check(request, context)


def build_grpc_server(service: Service, health_servicer: Health, *, share_port: bool) -> grpc.aio.Server:
    """Return a server with all services, neither bound nor started.

    Args:
      service: the model service.
      health_servicer: the service of health probes.
      share_port: whether several processes may bind the same port.
    """
    limit = service.settings.max_request_bytes
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", int(share_port))]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(service), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(service), server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    return server


async def _handle(
    service: Service, route: str, context: Any, answer: Callable[[], Awaitable[Any]], fields: dict[str, Any]
) -> Any:
    """Return an answer, or abort with the status of its error; count, time and log the call."""
    started, status = time.perf_counter(), grpc.StatusCode.OK
    reason = ""
    try:
        return await answer()
    except (RequestError, NotFoundError, NotReadyError, OverloadedError) as error:
        status, reason = _CODES[type(error)], str(error)
    except Exception:
        _LOG.exception("%s failed", route)
        status, reason = grpc.StatusCode.INTERNAL, "internal error; see the server's log"
    finally:
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(route, status.name).inc()
        service.metrics.seconds.labels(route).observe(seconds)
        if service.settings.access_log:
            events.write(
                "rpc",
                method=route,
                status=status.name,
                ms=round(seconds * 1000, 3),
                client=context.peer(),
                **fields,
            )
    return await context.abort(status, reason[:_MAX_REASON_CHARS])


def _find_version(service: Service, spec: model_pb2.ModelSpec) -> ServedVersion:
    version = spec.version.value if spec.HasField("version") else None
    return service.find(spec.name or None, version, spec.version_label or None)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        fields: dict[str, Any] = {}

        async def answer() -> predict_pb2.PredictResponse:
            served = _find_version(self._service, request.model_spec)
            self._service.check_capacity()
            signature = request.model_spec.signature_name or SERVING_DEFAULT
            outputs = await self._predict(served, signature, request)
            rows = len(next(iter(outputs.values())))
            fields.update(rows=rows, version=served.number)
            self._service.metrics.rows.labels(str(served.number)).inc(rows)
            names = {*request.output_filter} or {*outputs}
            unknown = min(names - outputs.keys(), default=None)
            if unknown is not None:
                raise RequestError(
                    f"output_filter: there is no output '{unknown[:_MAX_NAME_CHARS]}'; outputs: {', '.join(outputs)}"
                )
            return predict_pb2.PredictResponse(
                model_spec=_build_spec(self._service, served, signature),
                outputs={name: tf.make_tensor_proto(values) for name, values in outputs.items() if name in names},
            )

        return await _handle(self._service, "Predict", context, answer, fields)

    async def _predict(self, served: ServedVersion, signature: str, request: predict_pb2.PredictRequest) -> Outputs:
        most = self._service.settings.max_request_rows
        if isinstance(served.predictor, TensorPredictor) and signature == SERVING_DEFAULT:
            limit = self._service.settings.max_request_bytes
            tensors = {name: _read_tensor(name, tensor, limit).tolist() for name, tensor in request.inputs.items()}
            return await self._service.answer_columns(served, tensors)
        columns = {name: _read_column(name, tensor, most) for name, tensor in request.inputs.items()}
        if signature == SERVING_DEFAULT:
            texts = {name: [_decode(value) for value in values] for name, values in columns.items()}
            return await self._service.answer_columns(served, texts)
        if signature != SERVING_EXAMPLES:
            signatures = ", ".join(served.predictor.signatures)
            raise NotFoundError(f"there is no signature '{signature[:80]}'; version {served.number} has {signatures}")
        if columns.keys() != {"examples"} or not all(isinstance(record, bytes) for record in columns["examples"]):
            raise RequestError(f"{SERVING_EXAMPLES} takes the one input 'examples', of serialized tf.Example")
        return await self._service.answer_examples(served, columns["examples"])

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        async def answer() -> get_model_metadata_pb2.GetModelMetadataResponse:
            served = _find_version(self._service, request.model_spec)
            unknown = [field for field in request.metadata_field if field != "signature_def"]
            if unknown or not request.metadata_field:
                raise RequestError("metadata_field: expected signature_def")
            packed = any_pb2.Any()
            packed.Pack(signature_defs(served.predictor))
            return get_model_metadata_pb2.GetModelMetadataResponse(
                model_spec=_build_spec(self._service, served, ""), metadata={"signature_def": packed}
            )

        return await _handle(self._service, "GetModelMetadata", context, answer, {})

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _reject(context)

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _reject(context)

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _reject(context)


async def _reject(context: Any) -> Any:
    return await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, "this server has Predict, GetModelMetadata, GetModelStatus"
    )


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        async def answer() -> get_model_status_pb2.GetModelStatusResponse:
            spec = request.model_spec
            number = _find_version(self._service, spec).number if spec.WhichOneof("version_choice") else None
            if number is None and spec.name not in ("", self._service.model_name):
                _find_version(self._service, spec)
            response = get_model_status_pb2.GetModelStatusResponse()
            kinds = get_model_status_pb2.ModelVersionStatus
            for key, state in sorted(self._service.snapshot.states.items(), reverse=True):
                if number in (None, key):
                    version = response.model_version_status.add(
                        version=key, state=kinds.AVAILABLE if state.state == AVAILABLE else kinds.END
                    )
                    version.status.error_message = state.error
                    version.status.error_code = 2 if state.error else 0
            return response

        return await _handle(self._service, "GetModelStatus", context, answer, {})

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _reject(context)


def _build_spec(service: Service, served: ServedVersion, signature: str) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=service.model_name, signature_name=signature)
    spec.version.value = served.number
    return spec


def _read_column(name: str, tensor: Any, most_rows: int) -> list[Any]:
    """Return a tensor of shape [rows] or [rows, 1] as a list.

    Raises:
      RequestError: the tensor is damaged, has another shape, or has too many rows.
    """
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or len(sizes) not in (1, 2) or sizes[1:] not in ([], [1]) or sizes[0] < 0:
        raise RequestError(f"{name}: has shape {sizes}; expected [rows] or [rows, 1]")
    if sizes[0] > most_rows:
        raise RequestError(f"{name}: has {sizes[0]:,} rows; at most {most_rows:,} are taken")
    elements: list[Any] = _read_tensor(name, tensor, most_rows).reshape(-1).tolist()
    return elements


def _read_tensor(name: str, tensor: Any, most_values: int) -> NDArray[Any]:
    """Return a tensor of any shape.

    Raises:
      RequestError: the tensor is damaged, or has too many values.
    """
    # Checked before unpacking: a message of a hundred bytes can repeat its only value a thousand million times.
    values = math.prod(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or not 0 <= values <= most_values:
        raise RequestError(f"{name}: has {values:,} values; at most {most_values:,} are taken")
    try:
        array: NDArray[Any] = tf.make_ndarray(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{name}: the tensor is damaged: {error}") from error
    return array


def _decode(value: Any) -> Any:
    """Decode bytes; the check of the column rejects bytes that are not UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
