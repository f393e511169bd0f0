"""The open inference protocol, which is KServe's V2: requests, answers and descriptions, with tensors of JSON or bytes.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import importlib.metadata
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import tensorflow as tf
from numpy.typing import NDArray

from cli.counts import format_count
from serving.model.model_call import Outputs
from serving.model.predictor import to_list
from serving.model.session_model import list_specs
from serving.model.signatures import SERVING_DEFAULT
from serving.server.model_versions import ServedVersion
from serving.server.service import RequestError, Service

# The number of bytes of JSON in a body that has tensors as bytes behind it.
JSON_LENGTH_HEADER = "inference-header-content-length"
SERVER_NAME, _DISTRIBUTION = "refpipe-serve", "reference-tfx-pipeline"
_EXTENSIONS = ["binary_tensor_data"]
BYTES = "BYTES"
_DTYPES: Mapping[str, Any] = {
    "BOOL": np.bool_,
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()} | {np.dtype(object): BYTES}
_MAX_RANK = 16
_REQUEST_KEYS = {"id", "parameters", "inputs", "outputs"}
_INPUT_KEYS = {"name", "shape", "datatype", "parameters", "data"}


@dataclass(frozen=True)
class InferenceRequest:
    """A request.

    Attributes:
      id: its own ID; None for none.
      columns: values by the input's name, nested as the shape is.
      outputs: names of the outputs that it asks for; None for all.
      binary_outputs: names of the outputs that are returned as bytes; None for all.
    """

    id: str | None
    columns: Mapping[str, Any]
    outputs: Sequence[str] | None
    binary_outputs: frozenset[str] | None


def read_request(content: Mapping[str, Any], tensors: bytes) -> InferenceRequest:
    """Return a request.

    Args:
      content: its JSON.
      tensors: the bytes behind the JSON; empty without the header `JSON_LENGTH_HEADER`.

    Raises:
      RequestError: a key, a shape, a datatype or a value does not fit the protocol.
    """
    unknown = content.keys() - _REQUEST_KEYS
    if unknown:
        raise RequestError(f"'{min(unknown)[:40]}' is unknown; expected {', '.join(sorted(_REQUEST_KEYS))}")
    identity = content.get("id")
    if not isinstance(identity, str | None):
        raise RequestError("id: expected a string")
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise RequestError('expected {"inputs": [{"name": ..., "shape": ..., "datatype": ..., "data": ...}, ...]}')
    columns: dict[str, Any] = {}
    start = 0
    for number, entry in enumerate(inputs):
        where = f"inputs[{number}]"
        name = _read_name(entry, _INPUT_KEYS, where)
        if name in columns:
            raise RequestError(f"{where}: '{name[:40]}' comes twice")
        size = _read_parameters(entry, where).get("binary_data_size")
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            raise RequestError(f"{where}: parameters.binary_data_size: expected a number of bytes")
        columns[name] = _read_tensor(entry, None if size is None else tensors[start : start + size], size, where)
        start += size or 0
    if start != len(tensors):
        raise RequestError(f"the inputs have {start:,} bytes, and {len(tensors):,} came behind the JSON")
    return InferenceRequest(identity, columns, *_read_outputs(content))


def _read_name(entry: Any, keys: set[str], where: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError(f"{where}: expected an object with a name")
    unknown = entry.keys() - keys
    if unknown:
        raise RequestError(f"{where}: '{min(unknown)[:40]}' is unknown; expected {', '.join(sorted(keys))}")
    name: str = entry["name"]
    return name


def _read_parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise RequestError(f"{where}: parameters: expected an object")
    for name in parameters:
        # Other parameters are hints, such as KServe's content_type; these change what a tensor is.
        if name.startswith("shared_memory") or name == "classification":
            raise RequestError(f"{where}: parameters.{name} is not supported")
    return parameters


def _read_outputs(content: Mapping[str, Any]) -> tuple[list[str] | None, frozenset[str] | None]:
    """Return the names of the outputs, and of those that are returned as bytes; None for all."""
    outputs = content.get("outputs")
    are_binary = bool(_read_parameters(content, "the request").get("binary_data_output"))
    if outputs is None:
        return None, None if are_binary else frozenset()
    if not isinstance(outputs, list) or not outputs:
        raise RequestError('outputs: expected [{"name": ...}, ...]')
    # In their order; among them, a name is found in no time.
    names: dict[str, None] = {}
    binary = set()
    for number, entry in enumerate(outputs):
        where = f"outputs[{number}]"
        name = _read_name(entry, {"name", "parameters"}, where)
        if name in names:
            raise RequestError(f"{where}: '{name[:40]}' comes twice")
        names[name] = None
        if _read_parameters(entry, where).get("binary_data", are_binary):
            binary.add(name)
    return list(names), frozenset(binary)


def _read_tensor(entry: Mapping[str, Any], content: bytes | None, size: int | None, where: str) -> Any:
    where = f"{where}: {entry['name'][:40]}"
    datatype, shape = entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or (datatype not in _DTYPES and datatype != BYTES):
        raise RequestError(f"{where}: datatype: expected one of {', '.join([*_DTYPES, BYTES])}")
    sizes = shape if isinstance(shape, list) else []
    if not sizes or len(sizes) > _MAX_RANK or not all(type(n) is int and 0 < n < 2**63 for n in sizes):
        # Beside a 0, another size would cost memory without a value.
        raise RequestError(f"{where}: shape: expected a list of numbers above 0, the rows first")
    if (content is None) == ("data" not in entry):
        raise RequestError(f"{where}: expected either data, or parameters.binary_data_size")
    if content is None:
        values = list(_flatten(entry["data"], where))
        _check_values(values, datatype, where)
    elif size != len(content):
        raise RequestError(f"{where}: {size:,} bytes are announced, {len(content):,} came behind the JSON")
    else:
        values = _read_values(content, datatype, where)
    if math.prod(sizes) != len(values):
        raise RequestError(
            f"{where}: shape {sizes} has {format_count(math.prod(sizes), 'value')}, and {len(values):,} came"
        )
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(sizes).tolist()


def _flatten(data: Any, where: str, depth: int = 0) -> Iterator[Any]:
    if not isinstance(data, list) or depth > _MAX_RANK:
        raise RequestError(f"{where}: data: expected a list of values")
    for item in data:
        if isinstance(item, list):
            yield from _flatten(item, where, depth + 1)
        else:
            yield item


def _check_values(values: Sequence[Any], datatype: str, where: str) -> None:
    if datatype == BYTES:
        wrong = next((value for value in values if not isinstance(value, str)), None)
        has_wrong = any(not isinstance(value, str) for value in values)
    else:
        dtype = np.dtype(_DTYPES[datatype])
        misfits = [value for value in values if not _is_of(value, dtype)]
        wrong, has_wrong = (misfits[0], True) if misfits else (None, False)
    if has_wrong:
        raise RequestError(f"{where}: data: expected {datatype}, found {str(wrong)[:60]}")


def _is_of(value: Any, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "b" or isinstance(value, bool):
        return isinstance(value, bool) and dtype.kind == "b"
    if dtype.kind == "f":
        return isinstance(value, int | float)
    limits = np.iinfo(dtype)
    return isinstance(value, int) and limits.min <= value <= limits.max


def _read_values(content: bytes, datatype: str, where: str) -> list[Any]:
    if datatype == BYTES:
        return list(_read_strings(content, where))
    dtype = np.dtype(_DTYPES[datatype])
    if len(content) % dtype.itemsize:
        raise RequestError(f"{where}: {len(content):,} bytes are no whole number of {datatype}")
    values: list[Any] = np.frombuffer(content, dtype).tolist()
    return values


def _read_strings(content: bytes, where: str) -> Iterator[Any]:
    """Yield strings, each behind its length in 4 bytes; the check of the column rejects those that are not UTF-8."""
    start = 0
    while start < len(content):
        if start + 4 > len(content):
            raise RequestError(f"{where}: the strings are cut off")
        (length,) = struct.unpack_from("<I", content, start)
        start += 4 + length
        if start > len(content):
            raise RequestError(f"{where}: the strings are cut off")
        string = content[start - length : start]
        try:
            yield string.decode()
        except UnicodeDecodeError:
            yield string


def select_outputs(request: InferenceRequest, outputs: Outputs) -> Sequence[str]:
    """Return the names of the outputs that a request asks for.

    Raises:
      RequestError: the model has no such output.
    """
    names = list(outputs) if request.outputs is None else request.outputs
    unknown = [name for name in names if name not in outputs]
    if unknown:
        raise RequestError(f"outputs: there is no output '{unknown[0][:40]}'; outputs: {', '.join(outputs)}")
    return names


def build_response(
    service: Service, served: ServedVersion, request: InferenceRequest, outputs: Outputs
) -> tuple[bytes, dict[str, str]]:
    """Return the body of an answer and its headers.

    Raises:
      RequestError: the request asks for an output that the model does not have.
    """
    names = select_outputs(request, outputs)
    tensors: list[bytes] = []
    entries = []
    for name in names:
        is_binary = request.binary_outputs is None or name in request.binary_outputs
        entry, tensor = write_tensor(name, outputs[name], is_binary=is_binary)
        entries.append(entry)
        tensors.append(tensor)
    answer: dict[str, Any] = {"model_name": service.model_name, "model_version": str(served.number)}
    if request.id is not None:
        answer["id"] = request.id
    content = orjson.dumps({**answer, "outputs": entries})
    if not any(tensors):
        return content, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", JSON_LENGTH_HEADER: str(len(content))}
    return b"".join([content, *tensors]), headers


def write_tensor(name: str, array: NDArray[Any], *, is_binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return the description of an output, with its values unless they are returned as bytes.

    Raises:
      RequestError: the protocol has no datatype for it.
    """
    if array.dtype not in _NAMES:
        raise RequestError(f"outputs: {name} is {array.dtype}, for which the protocol has no datatype")
    entry = {"name": name, "datatype": _NAMES[array.dtype], "shape": list(array.shape)}
    values = array.reshape(-1)
    if not is_binary:
        return {**entry, "data": to_list(values)}, b""
    if array.dtype == np.object_:
        content = b"".join(struct.pack("<I", len(value)) + value for value in values.tolist())
    else:
        content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {**entry, "parameters": {"binary_data_size": len(content)}}, content


def read_product_version() -> str:
    """Return the version of this product; `sources` if it is not installed."""
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "sources"


def describe_server() -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": SERVER_NAME, "version": read_product_version(), "extensions": _EXTENSIONS}


def describe_model(service: Service, served: ServedVersion) -> dict[str, Any]:
    """Return a model's metadata."""
    signature = served.predictor.get_signature(SERVING_DEFAULT)
    return {
        "name": service.model_name,
        "versions": [str(number) for number in sorted(service.snapshot.served)],
        "platform": "tensorflow_savedmodel",
        "inputs": [_describe(name, spec) for name, spec in list_specs(signature.inputs).items()],
        "outputs": [_describe(name, spec) for name, spec in list_specs(signature.outputs).items()],
    }


def _describe(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    dtype = np.dtype(object) if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)
    sizes = [-1] if spec.shape.rank is None else [-1 if size is None else size for size in spec.shape]
    return {"name": name, "datatype": _NAMES.get(dtype, spec.dtype.name.upper()), "shape": sizes}
