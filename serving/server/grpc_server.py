"""The gRPC server of a model, by TF Serving's PredictionService and ModelService, and gRPC's health service.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
https://grpc.io/docs/guides/health-checking/
"""

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.model.inference import Method
from serving.model.model_call import Outputs
from serving.model.predictor import Predictor
from serving.model.signature_defs import build_signature_defs
from serving.model.signatures import SERVING_DEFAULT, SERVING_EXAMPLES
from serving.model.tensor_predictor import TensorPredictor
from serving.model.tensors import read_column, read_strings, read_tensor, write_tensor
from serving.server import events, inference_calls, tracing
from serving.server.model_versions import AVAILABLE, ServedVersion
from serving.server.request_context import SPLIT_KEY_HEADER, get_current_request, start_request
from serving.server.service import NotFoundError, NotReadyError, OverloadedError, RequestError, Service
from serving.server.split_keys import read_message_keys, read_tensor_keys

_LOG = logging.getLogger(__name__)
_PREDICTION_SERVICE, _MODEL_SERVICE = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
_PREDICTION_TYPES = {
    "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "GetModelMetadata": (
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
}
_MODEL_TYPES = {
    "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
    "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, model_management_pb2.ReloadConfigResponse),
}
# The reason goes into a header of the answer: a client takes 8 KB of them.
_MAX_REASON_CHARS = 1000
_MAX_NAME_CHARS = 80
# The calls of the request log.
_PREDICTIONS = {"Predict", "Classify", "Regress", "MultiInference", "ModelInfer"}
_CODES: dict[type[Exception], grpc.StatusCode] = {
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Health(health.aio.HealthServicer):
    """Reports whether requests are served, of the server and of each of its services."""

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


def build_grpc_server(
    service: Service, health_servicer: Health, *, share_port: bool, interceptors: Sequence[Any] = ()
) -> grpc.aio.Server:
    """Return a server with all services, neither bound nor started.

    Args:
      service: the model service.
      health_servicer: the service of health probes.
      share_port: whether several processes may bind the same port.
      interceptors: interceptors of all calls.
    """
    limit = service.settings.max_request_bytes
    server = grpc.aio.server(
        interceptors=list(interceptors),
        options=[("grpc.max_receive_message_length", limit), ("grpc.so_reuseport", int(share_port))],
    )
    add_calls(service, server, _PREDICTION_SERVICE, _PREDICTION_TYPES, _Prediction(service))
    add_calls(service, server, _MODEL_SERVICE, _MODEL_TYPES, _Models(service))
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    return server


async def handle(
    service: Service, route: str, context: Any, answer: Callable[[], Awaitable[Any]], fields: dict[str, Any]
) -> Any:
    """Return an answer, or abort with the status of its error; count, time and log the call."""
    started, status = time.perf_counter(), grpc.StatusCode.OK
    reason = ""
    metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
    current = start_request(metadata.get("x-request-id", ""), metadata.get(SPLIT_KEY_HEADER, ""))
    entry = None
    if service.request_log is not None and route in _PREDICTIONS:
        entry = current.entry = service.request_log.start_entry(current.request_id, metadata)
        # As HTTP does.
        fields["request_id"] = current.request_id
        context.set_trailing_metadata((("x-request-id", current.request_id),))
    try:
        return await answer()
    except (RequestError, NotFoundError, NotReadyError, OverloadedError) as error:
        status, reason = _CODES[type(error)], str(error)
    except Exception:
        _LOG.exception("%s failed", route)
        status, reason = grpc.StatusCode.INTERNAL, "internal error; see the server's log"
    finally:
        if entry is not None:
            entry.finish(reason)
        seconds = time.perf_counter() - started
        service.metrics.requests.labels(route, status.name).inc()
        service.metrics.seconds.labels(route).observe(seconds)
        if service.split is not None:
            service.split.count(current, status.name, seconds)
        if service.shadow is not None and current.shadow_jobs:
            send, jobs = service.shadow.send, current.shadow_jobs
            context.add_done_callback(lambda _: send(jobs))
        if service.settings.access_log:
            events.write(
                "rpc",
                method=route,
                status=status.name,
                ms=round(seconds * 1000, 3),
                client=context.peer(),
                trace_id=tracing.read_trace_id(),
                **fields,
            )
    return await context.abort(status, reason[:_MAX_REASON_CHARS])


def _count_names(predictor: Predictor | TensorPredictor) -> int:
    """Return the number of names that inputs of a request may have."""
    if isinstance(predictor, TensorPredictor):
        return len(predictor.specs)
    return len(predictor.inputs.own_columns) + len(predictor.inputs.other_columns)


def add_calls(
    service: Service, server: grpc.aio.Server, name: str, types: Mapping[str, tuple[Any, Any]], calls: Any
) -> None:
    """Add a gRPC service to a server; bytes that are no message get `INVALID_ARGUMENT`.

    Args:
      service: the model service.
      server: server that is not started yet.
      name: name of the gRPC service.
      types: types of the request and the response, by call.
      calls: object whose methods answer the calls.
    """
    handlers = {call: _build_handler(service, call, *types[call], getattr(calls, call)) for call in types}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _build_handler(
    service: Service, name: str, request_type: Any, response_type: Any, call: Callable[[Any, Any], Awaitable[Any]]
) -> Any:
    def read(content: bytes) -> Any:
        try:
            return request_type.FromString(content)
        except DecodeError as error:
            return error

    async def answer(request: Any, context: Any) -> Any:
        if not isinstance(request, DecodeError):
            return await call(request, context)

        async def fail() -> None:
            raise RequestError(f"the request is not a {request_type.DESCRIPTOR.full_name}")

        return await handle(service, name, context, fail, {})

    return grpc.unary_unary_rpc_method_handler(answer, read, response_type.SerializeToString)


def _read_names(spec: model_pb2.ModelSpec) -> tuple[str | None, int | None, str | None]:
    """Return the model, the version and the label that a request names."""
    version = spec.version.value if spec.HasField("version") else None
    return spec.name or None, version, spec.version_label or None


def _has_version(spec: model_pb2.ModelSpec) -> bool:
    """Return whether a request names a version or a label; an empty label is none."""
    return _read_names(spec)[1:] != (None, None)


def _find_version(service: Service, spec: model_pb2.ModelSpec) -> ServedVersion:
    return service.find(*_read_names(spec))


def _split(
    service: Service, served: ServedVersion, spec: model_pb2.ModelSpec, read_keys: Callable[[str | None], Iterable[str]]
) -> ServedVersion:
    """Return the version that the split chooses, if the request names none."""
    if service.split is None or _has_version(spec):
        return served
    return service.split.choose(get_current_request(), service.snapshot, served, read_keys(service.split.column))


class _Prediction:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        fields: dict[str, Any] = {"bytes": request.ByteSize()}

        async def answer() -> predict_pb2.PredictResponse:
            served = _find_version(self._service, request.model_spec)
            self._service.check_capacity()
            limit = self._service.settings.max_request_bytes
            read_keys = functools.partial(read_tensor_keys, request.inputs, most_values=limit)
            served = _split(self._service, served, request.model_spec, read_keys)
            signature = request.model_spec.signature_name or SERVING_DEFAULT
            outputs = await self._predict(served, signature, request)
            rows = len(next(iter(outputs.values())))
            self._count_rows(served, rows, fields)
            names = {*request.output_filter} or {*outputs}
            unknown = min(names - outputs.keys(), default=None)
            if unknown is not None:
                raise RequestError(
                    f"output_filter: there is no output '{unknown[:_MAX_NAME_CHARS]}'; outputs: {', '.join(outputs)}"
                )
            return predict_pb2.PredictResponse(
                model_spec=_build_spec(self._service, served, signature),
                outputs={name: write_tensor(values) for name, values in outputs.items() if name in names},
            )

        return await handle(self._service, "Predict", context, answer, fields)

    async def _predict(self, served: ServedVersion, signature: str, request: predict_pb2.PredictRequest) -> Outputs:
        most = self._service.settings.max_request_rows
        served = self._service.select_signature(served, signature)
        # The request log may take one more, its key.
        most_inputs = _count_names(served.predictor) + 1
        if len(request.inputs) > most_inputs:
            raise RequestError(f"the request has {len(request.inputs):,} inputs; at most {most_inputs:,} are taken")
        if isinstance(served.predictor, TensorPredictor):
            limit = self._service.settings.max_request_bytes
            tensors = {name: read_tensor(name, tensor, limit).tolist() for name, tensor in request.inputs.items()}
            return await self._service.answer_columns(served, tensors)
        if signature == SERVING_DEFAULT:
            strings = {name: read_strings(name, tensor, most) for name, tensor in request.inputs.items()}
            return await self._service.answer_columns(served, strings)
        columns = {name: read_column(name, tensor, most) for name, tensor in request.inputs.items()}
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
            packed.Pack(build_signature_defs(served.predictor))
            return get_model_metadata_pb2.GetModelMetadataResponse(
                model_spec=_build_spec(self._service, served, ""), metadata={"signature_def": packed}
            )

        return await handle(self._service, "GetModelMetadata", context, answer, {})

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._infer("Classify", "classify", classification_pb2.ClassificationResponse, request, context)

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._infer("Regress", "regress", regression_pb2.RegressionResponse, request, context)

    async def _infer(self, route: str, method: Method, response: Any, request: Any, context: Any) -> Any:
        fields: dict[str, Any] = {"bytes": request.ByteSize()}

        async def answer() -> Any:
            served = self._find_for_rows(request.model_spec, request.input)
            result, rows = await inference_calls.answer_method(self._service, served, method, request)
            self._count_rows(served, rows, fields)
            spec = _build_spec(self._service, served, request.model_spec.signature_name or SERVING_DEFAULT)
            return response(model_spec=spec, result=result)

        return await handle(self._service, route, context, answer, fields)

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        fields: dict[str, Any] = {"bytes": request.ByteSize()}

        async def answer() -> inference_pb2.MultiInferenceResponse:
            if not request.tasks:
                raise RequestError("the request has no tasks")
            specs = [task.model_spec for task in request.tasks]
            # Not logged: of several versions, none is to answer.
            named = [self._service.resolve(*_read_names(spec)) for spec in specs]
            if any(served is not named[0] for served in named):
                raise RequestError("the tasks name several versions; expected one")
            # A task that names a version is not split, nor are those beside it.
            spec = next(filter(_has_version, specs), specs[0])
            served = self._find_for_rows(spec, request.input)
            results, rows = await inference_calls.answer_tasks(self._service, served, request)
            for task, result in zip(request.tasks, results, strict=True):
                signature = task.model_spec.signature_name or SERVING_DEFAULT
                result.model_spec.CopyFrom(_build_spec(self._service, served, signature))
            self._count_rows(served, rows, fields)
            return inference_pb2.MultiInferenceResponse(results=results)

        return await handle(self._service, "MultiInference", context, answer, fields)

    def _find_for_rows(self, spec: model_pb2.ModelSpec, rows: Any) -> ServedVersion:
        served = _find_version(self._service, spec)
        self._service.check_capacity()
        return _split(self._service, served, spec, functools.partial(read_message_keys, rows))

    def _count_rows(self, served: ServedVersion, rows: int, fields: dict[str, Any]) -> None:
        fields.update(rows=rows, version=served.number)
        self._service.metrics.rows.labels(str(served.number)).inc(rows)


async def _reject(context: Any) -> Any:
    return await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, "the versions are followed by themselves; --versions chooses them"
    )


class _Models:
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

        return await handle(self._service, "GetModelStatus", context, answer, {})

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await _reject(context)


def _build_spec(service: Service, served: ServedVersion, signature: str) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=service.model_name, signature_name=signature)
    spec.version.value = served.number
    return spec
