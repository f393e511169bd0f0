"""Tensors of TF Serving's messages: read within bounds, written into the typed fields that published clients read.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2

from serving.model.inputs import RequestError

_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    **dict.fromkeys((tf.int8, tf.uint8, tf.int16, tf.uint16, tf.int32), "int_val"),
}
# Their bits are in `half_val`.
_HALVES = (tf.float16, tf.bfloat16)
# More than any operation of TensorFlow takes.
_MAX_RANK = 32


def write_tensor(array: NDArray[Any]) -> tensor_pb2.TensorProto:
    """Return an array as TF Serving does, its values in the typed field.

    `tf.make_tensor_proto` writes several numbers into `tensor_content`, for which `float_val` is empty.
    """
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _FIELDS and dtype not in _HALVES:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto())
    values = array.reshape(-1)
    if dtype in _HALVES:
        proto.half_val.extend(values.view(np.uint16).tolist())
    elif dtype == tf.string:
        proto.string_val.extend(v if isinstance(v, bytes) else v.encode() for v in values.tolist())
    else:
        getattr(proto, _FIELDS[dtype]).extend(values.tolist())
    return proto


def read_column(name: str, tensor: Any, most_rows: int) -> list[Any]:
    """Return a tensor of shape [rows] or [rows, 1] as a list.

    Raises:
      RequestError: the tensor is damaged, has another shape, or has too many rows.
    """
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or len(sizes) not in (1, 2) or sizes[1:] not in ([], [1]) or sizes[0] < 0:
        raise RequestError(f"{name}: has shape {sizes}; expected [rows] or [rows, 1]")
    if sizes[0] > most_rows:
        raise RequestError(f"{name}: has {sizes[0]:,} rows; at most {most_rows:,} are taken")
    elements: list[Any] = read_tensor(name, tensor, most_rows).reshape(-1).tolist()
    return elements


def read_strings(name: str, tensor: Any, most_rows: int) -> list[Any]:
    """Return a column as `read_column` does, bytes as strings."""
    return [_decode(value) for value in read_column(name, tensor, most_rows)]


def _decode(value: Any) -> Any:
    """Decode bytes; the check of the column rejects bytes that are not UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def read_tensor(name: str, tensor: Any, most_values: int) -> NDArray[Any]:
    """Return a tensor of any shape.

    Raises:
      RequestError: the tensor is damaged, or has too many values.
    """
    # Checked before unpacking: a message of a hundred bytes can repeat its only value a thousand million times.
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or len(sizes) > _MAX_RANK or min(sizes, default=0) < 0:
        raise RequestError(f"{name}: the shape is unknown, has a size below 0, or more than {_MAX_RANK} of them")
    # Beside a 0, another size would cost memory without a value.
    values = math.prod(size or 1 for size in sizes)
    if values > most_values:
        raise RequestError(f"{name}: has {values:,} values; at most {most_values:,} are taken")
    try:
        array: NDArray[Any] = tf.make_ndarray(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{name}: the tensor is damaged: {error}") from error
    return array
