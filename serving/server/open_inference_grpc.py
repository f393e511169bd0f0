"""The open inference protocol over gRPC, by the messages of Triton's client: they are the protocol's, and a few more.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2

from serving.model.model_call import Outputs
from serving.server import open_inference
from serving.server.grpc_server import add_calls, handle
from serving.server.model_versions import ServedVersion
from serving.server.open_inference import BYTES, InferenceRequest
from serving.server.service import NotFoundError, RequestError, Service

SERVICE = "inference.GRPCInferenceService"
_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_SIZE = "binary_data_size"


def add_to_server(service: Service, server: grpc.aio.Server) -> None:
    """Add the protocol's calls to a server; Triton's other ones are unimplemented.

    Args:
      service: the model service.
      server: server that is not started yet.
    """
    methods = service_pb2.DESCRIPTOR.services_by_name[SERVICE.partition(".")[2]].methods_by_name
    types = {
        name: tuple(map(GetMessageClass, (methods[name].input_type, methods[name].output_type)))
        for name in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
    }
    add_calls(service, server, SERVICE, types, _Calls(service))


class _Calls:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        async def answer() -> Any:
            return service_pb2.ServerLiveResponse(live=True)

        return await handle(self._service, "ServerLive", context, answer, {})

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        async def answer() -> Any:
            return service_pb2.ServerReadyResponse(ready=self._service.is_ready)

        return await handle(self._service, "ServerReady", context, answer, {})

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        async def answer() -> Any:
            self._find(request.name, request.version)
            return service_pb2.ModelReadyResponse(ready=self._service.is_ready)

        return await handle(self._service, "ModelReady", context, answer, {})

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        async def answer() -> Any:
            # Its extension is REST's; here every tensor may come as bytes.
            return service_pb2.ServerMetadataResponse(**{**open_inference.describe_server(), "extensions": []})

        return await handle(self._service, "ServerMetadata", context, answer, {})

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        async def answer() -> Any:
            served = self._find(request.name, request.version)
            return service_pb2.ModelMetadataResponse(**open_inference.describe_model(self._service, served))

        return await handle(self._service, "ModelMetadata", context, answer, {})

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        fields: dict[str, Any] = {}

        async def answer() -> Any:
            served = self._find(request.model_name, request.model_version)
            self._service.check_capacity()
            inference = _read_request(request)
            outputs = await self._service.answer_columns(served, inference.columns)
            rows = len(next(iter(outputs.values())))
            fields.update(rows=rows, version=served.number)
            self._service.metrics.rows.labels(str(served.number)).inc(rows)
            return _build_response(self._service, served, inference, outputs, bool(request.raw_input_contents))

        return await handle(self._service, "ModelInfer", context, answer, fields)

    def _find(self, name: str, version: str) -> ServedVersion:
        if version and not re.fullmatch("[0-9]{1,18}", version):
            raise NotFoundError(f"'{version[:40]}' is not the number of a version")
        return self._service.find(name, int(version) if version else None)


def _read_request(request: Any) -> InferenceRequest:
    """Return a request; its tensors are checked as those of REST.

    Raises:
      RequestError: a tensor or a parameter does not fit the protocol.
    """
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise RequestError(
            f"raw_input_contents: expected one for each of the {len(request.inputs):,} inputs, found {len(raw):,}"
        )
    entries, tensors = [], []
    for number, tensor in enumerate(request.inputs):
        entry = _describe_tensor(tensor)
        where = f"inputs[{number}]: {tensor.name[:40]}"
        if raw:
            if tensor.HasField("contents"):
                raise RequestError(f"{where}: expected either contents or raw_input_contents")
            tensors.append(raw[number])
        elif tensor.datatype == BYTES:
            strings = tensor.contents.bytes_contents
            tensors.append(b"".join(struct.pack("<I", len(string)) + string for string in strings))
        elif tensor.datatype in _FIELDS:
            entries.append({**entry, "data": list(getattr(tensor.contents, _FIELDS[tensor.datatype]))})
            continue
        else:
            raise RequestError(f"{where}: datatype: {tensor.datatype[:40]} is in raw_input_contents only")
        entries.append({**entry, "parameters": {**entry["parameters"], _SIZE: len(tensors[-1])}})
    content = {"inputs": entries, "parameters": _read_parameters(request.parameters)}
    if request.outputs:
        content["outputs"] = [
            {"name": output.name, "parameters": _read_parameters(output.parameters)} for output in request.outputs
        ]
    if request.id:
        content["id"] = request.id
    return open_inference.read_request(content, b"".join(tensors))


def _describe_tensor(tensor: Any) -> dict[str, Any]:
    parameters = _read_parameters(tensor.parameters)
    # A size that REST has; here the tensor has its own.
    parameters.pop(_SIZE, None)
    shape = [int(size) for size in tensor.shape]
    return {"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "parameters": parameters}


def _read_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    choices = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in choices.items() if choice}


def _build_response(
    service: Service, served: ServedVersion, request: InferenceRequest, outputs: Outputs, is_raw: bool
) -> Any:
    response = service_pb2.ModelInferResponse(
        model_name=service.model_name, model_version=str(served.number), id=request.id or ""
    )
    names = open_inference.select_outputs(request, outputs)
    # Half-precision numbers have no field.
    is_raw = is_raw or any(outputs[name].dtype == np.float16 for name in names)
    for name in names:
        entry, content = open_inference.write_tensor(name, outputs[name], is_binary=is_raw)
        output = response.outputs.add(name=name, datatype=entry["datatype"], shape=entry["shape"])
        if is_raw:
            response.raw_output_contents.append(content)
        else:
            getattr(output.contents, _FIELDS[entry["datatype"]]).extend(outputs[name].reshape(-1).tolist())
    return response
