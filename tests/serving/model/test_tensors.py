"""Tensors are written into the typed fields that TF Serving's clients read, for one row and for many."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

from serving.model.inputs import RequestError
from serving.model.tensors import read_column, read_tensor, write_tensor

ARRAYS = {
    "float_val": np.array([0.5, -1.25], np.float32),
    "double_val": np.array([[0.1], [0.2]]),
    "int64_val": np.array([[1, -(2**63)], [3, 4]], np.int64),
    "int_val": np.array([-7, 7], np.int8),
    "uint32_val": np.array([2**32 - 1], np.uint32),
    "uint64_val": np.array([2**64 - 1], np.uint64),
    "bool_val": np.array([True, False]),
    "string_val": np.array([[b"a", b"\xff"], ["Łódź".encode(), b""]], object),
    "half_val": np.array([1.5, -0.25], np.float16),
}


@pytest.mark.parametrize("field", ARRAYS)
@pytest.mark.parametrize("rows", [1, 2])
def test_values_are_in_the_typed_field_and_read_back(field: str, rows: int) -> None:
    array = ARRAYS[field][:rows]
    proto = write_tensor(array)
    assert (len(getattr(proto, field)), proto.tensor_content) == (array.size, b"")
    assert proto.dtype == tf.as_dtype(array.dtype).as_datatype_enum
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    np.testing.assert_array_equal(read_tensor("x", proto, array.size), array)


def test_other_types_are_written_as_tensorflow_does() -> None:
    brain = np.array([1.5, 2.0], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(tf.make_ndarray(write_tensor(brain)), brain)
    numbers = np.array([1 + 2j, 3j], np.complex64)
    np.testing.assert_array_equal(tf.make_ndarray(write_tensor(numbers)), numbers)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_content_is_read_as_typed_values_are(shape: list[int]) -> None:
    packed = tf.make_tensor_proto([1.5, 2.5], tf.float32, shape)
    assert packed.tensor_content and not packed.float_val
    assert read_column("x", packed, 2) == [1.5, 2.5]


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (tf.make_tensor_proto(np.zeros((2, 2))), r"x: has shape \[2, 2\]; expected \[rows\] or \[rows, 1\]"),
        (tf.make_tensor_proto(1.0), r"x: has shape \[\]; expected"),
        (tf.make_tensor_proto([1.0, 2.0, 3.0]), "x: has 3 rows; at most 2 are taken"),
    ],
)
def test_other_shapes_are_rejected(proto: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_column("x", proto, 2)


def test_a_tensor_that_repeats_one_value_is_bounded_before_it_is_unpacked() -> None:
    proto = tf.make_tensor_proto([1.0])
    proto.tensor_shape.dim[0].size = 10**12
    with pytest.raises(RequestError, match="x: has 1,000,000,000,000 values; at most 100 are taken"):
        read_tensor("x", proto, 100)


@pytest.mark.parametrize("sizes", [[10**8, 0], [0, 2**62], [2**62] * 100_000, [1] * 33, [-1, -1]])
def test_sizes_that_no_value_stands_behind_are_rejected(sizes: list[int]) -> None:
    """A list of a hundred million empty lists would take gigabytes."""
    shape = tensor_shape_pb2.TensorShapeProto(dim=[{"size": size} for size in sizes])
    with pytest.raises(RequestError, match="^x: (has [0-9,]+ values|the shape is unknown)"):
        read_tensor("x", tensor_pb2.TensorProto(dtype=1, tensor_shape=shape), 1_500_000)
