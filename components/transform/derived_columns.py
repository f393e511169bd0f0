"""Columns of derived features, computed by TensorFlow: in the Transform graph, and for the statistics."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from components.transform.expressions import ExpressionValue, evaluate
from components.transform.raw_matrix import build_raw_matrix
from schemas.features import MISSING, ColumnType, DerivedColumn
from schemas.tables.values import MAX_FLOAT32
from serving.model.signatures import DTYPES

_COLUMN_TYPES: Mapping[tf.DType, ColumnType] = {dtype: name for name, dtype in DTYPES.items()}


def derive_columns(derived: Mapping[str, DerivedColumn], inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Return the values of derived columns, [batch] each, with `MISSING` where they are undefined.

    Args:
      derived: Derived columns by name.
      inputs: Raw columns by name, each a SparseTensor or Tensor with at most one value in each row.
    """
    operands: dict[str, ExpressionValue] = {}
    for name in dict.fromkeys(name for column in derived.values() for name in column.expression.columns):
        column_type = _COLUMN_TYPES[inputs[name].dtype]
        tensor = build_raw_matrix([inputs[name]], MISSING[column_type])[0]
        operands[name] = ExpressionValue(tensor, ~is_missing(tensor))
    return {
        name: _as_raw(evaluate(column.expression, operands), column.column_type) for name, column in derived.items()
    }


def is_missing(tensor: tf.Tensor) -> tf.Tensor:
    """Return which values of a raw column are `MISSING`."""
    missing = MISSING[_COLUMN_TYPES[tensor.dtype]]
    return tf.math.is_nan(tensor) if tensor.dtype.is_floating else tensor == missing


def _as_raw(value: ExpressionValue, column_type: ColumnType) -> tf.Tensor:
    """Return the values of an expression as those of a raw column."""
    tensor, dtype = value.tensor, DTYPES[column_type]
    if tensor.dtype == tf.bool and column_type == "string":
        tensor = tf.where(tensor, "true", "false")
    elif tensor.dtype == tf.float64 and column_type == "float":
        # What a double is beyond float32 is undefined, as it is in a file.
        value = ExpressionValue(tensor, value.valid & (tf.abs(tensor) < MAX_FLOAT32))
    return tf.where(
        value.valid, tf.cast(tensor, dtype) if dtype != tf.string else tensor, tf.constant(MISSING[column_type], dtype)
    )
