"""Derived columns in the Transform graph: the expressions of schemas/expressions.py over tensors.

A value is a tensor and whether it is present, both of shape [batch]. Numbers are computed in float64, as they are when
the same expression is evaluated over the rows of a file.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from schemas.expressions import EARTH_RADIUS_KM, MAX_LATITUDE, Call, ColumnReference, Constant, Expression, Node, Type
from schemas.tables.time_parts import PARTS

_TF_TYPES: Mapping[Type, tf.DType] = {
    "number": tf.float64,
    "string": tf.string,
    "time": tf.int64,
    "time of day": tf.int64,
    "boolean": tf.bool,
}


class ExpressionValue(NamedTuple):
    """Values of an expression: the tensor, and whether each value is present; both of shape [batch]."""

    tensor: tf.Tensor
    valid: tf.Tensor


def evaluate(expression: Expression, columns: Mapping[str, ExpressionValue]) -> ExpressionValue:
    """Return the values of an expression.

    Args:
      expression: Parsed expression.
      columns: Values of the columns that it uses, by name; float32 or float64 for numbers, int64 for times, string, or
        bool.
    """
    batch = tf.shape(next(iter(columns.values())).tensor) if columns else tf.constant([1])
    return _evaluate(expression.root, columns, batch)


def _evaluate(node: Node, columns: Mapping[str, ExpressionValue], batch: tf.Tensor) -> ExpressionValue:
    match node:
        case Constant():
            return ExpressionValue(tf.fill(batch, tf.constant(node.value, _TF_TYPES[node.type])), tf.fill(batch, True))
        case ColumnReference():
            tensor, valid = columns[node.name]
            return _without_undefined(tensor if node.type == "string" else tf.cast(tensor, _TF_TYPES[node.type]), valid)
        case Call(function="contains", operands=(first, Constant(value=pattern))):
            strings = _evaluate(first, columns, batch)
            has_pattern = tf.strings.regex_full_match(strings.tensor, f"(?s).*{re.escape(str(pattern))}.*")
            return ExpressionValue(has_pattern, strings.valid)
        case Call(function="substring", operands=(first, Constant(value=start), Constant(value=count))):
            return _extract_substring(_evaluate(first, columns, batch), int(float(start)), int(float(count)))
        case Call(function="split_part", operands=(first, Constant(value=separator), Constant(value=index))):
            return _split_part(_evaluate(first, columns, batch), str(separator), int(float(index)))
    values = [_evaluate(operand, columns, batch) for operand in node.operands]
    valid = tf.reduce_all(tf.stack([value.valid for value in values]), axis=0)
    match node.function:
        case "is_missing":
            return ExpressionValue(tf.logical_not(valid), tf.fill(batch, True))
        case "coalesce":
            return _coalesce(values)
        case "if":
            condition, then, other = values
            chosen = tf.where(condition.tensor, then.valid, other.valid)
            return ExpressionValue(tf.where(condition.tensor, then.tensor, other.tensor), condition.valid & chosen)
    tensor = _FUNCTIONS[node.function](*[value.tensor for value in values])
    return _without_undefined(tf.cast(tensor, _TF_TYPES[node.type]) if node.type == "number" else tensor, valid)


def _without_undefined(tensor: tf.Tensor, valid: tf.Tensor) -> ExpressionValue:
    """Return values of which numbers that are not finite, and empty strings, are missing."""
    if tensor.dtype.is_floating:
        valid &= tf.math.is_finite(tensor)
        return ExpressionValue(tf.where(valid, tensor, tf.zeros_like(tensor)), valid)
    if tensor.dtype == tf.string:
        valid &= tensor != ""
        return ExpressionValue(tf.where(valid, tensor, tf.fill(tf.shape(tensor), "")), valid)
    return ExpressionValue(tensor, valid)


def _coalesce(values: list[ExpressionValue]) -> ExpressionValue:
    tensor, valid = values[-1]
    for value in reversed(values[:-1]):
        tensor, valid = tf.where(value.valid, value.tensor, tensor), value.valid | valid
    return ExpressionValue(tensor, valid)


def _extract_substring(strings: ExpressionValue, start: int, count: int) -> ExpressionValue:
    # tf.strings.substr rejects a position beyond the end.
    begin = tf.minimum(tf.strings.length(strings.tensor, "UTF8_CHAR"), start)
    return _without_undefined(
        tf.strings.substr(strings.tensor, begin, tf.fill(tf.shape(begin), count), "UTF8_CHAR"), strings.valid
    )


def _split_part(strings: ExpressionValue, separator: str, index: int) -> ExpressionValue:
    parts = tf.strings.split(strings.tensor, separator)
    has_part = parts.row_lengths() > index
    place = tf.where(has_part, parts.row_starts() + index, tf.zeros_like(parts.row_starts()))
    # A batch without any part has nothing to gather from.
    flat = tf.concat([parts.flat_values, [""]], axis=0)
    return _without_undefined(tf.gather(flat, place), strings.valid & has_part)


def _compute_haversine_km(*degrees: tf.Tensor) -> tf.Tensor:
    """Return the distance of points on a sphere (R. W. Sinnott, Virtues of the Haversine, 1984).

    It is NaN for a latitude beyond a pole.
    """
    is_beyond = tf.reduce_any(tf.abs(tf.stack(degrees[::2])) > MAX_LATITUDE, axis=0)
    latitude, longitude, other_latitude, other_longitude = (angle * (math.pi / 180) for angle in degrees)
    half_chord = (
        tf.sin((other_latitude - latitude) / 2) ** 2
        + tf.cos(latitude) * tf.cos(other_latitude) * tf.sin((other_longitude - longitude) / 2) ** 2
    )
    kilometres = 2 * EARTH_RADIUS_KM * tf.asin(tf.sqrt(tf.clip_by_value(half_chord, 0.0, 1.0)))
    return tf.where(is_beyond, tf.constant(math.nan, kilometres.dtype), kilometres)


def _fold(function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[..., tf.Tensor]:
    def fold(first: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
        for other in others:
            first = function(first, other)
        return first

    return fold


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "+": lambda x, y: tf.strings.join([x, y]) if x.dtype == tf.string else x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "//": lambda x, y: tf.floor(x / y),
    "%": lambda x, y: x - tf.floor(x / y) * y,
    "**": tf.pow,
    "negative": lambda x: -x,
    "==": tf.equal,
    "!=": tf.not_equal,
    "<": tf.less,
    "<=": tf.less_equal,
    ">": tf.greater,
    ">=": tf.greater_equal,
    "and": _fold(tf.logical_and),
    "or": _fold(tf.logical_or),
    "not": tf.logical_not,
    "abs": tf.abs,
    "exp": tf.exp,
    "log": tf.math.log,
    "log1p": tf.math.log1p,
    "sqrt": tf.sqrt,
    "floor": tf.floor,
    "ceil": tf.math.ceil,
    "round": tf.round,
    "min": _fold(tf.minimum),
    "max": _fold(tf.maximum),
    "lower": tf.strings.lower,
    "upper": tf.strings.upper,
    "strip": tf.strings.strip,
    "length": lambda x: tf.strings.length(x, "UTF8_CHAR"),
    "sin": tf.sin,
    "cos": tf.cos,
    **PARTS,
    "haversine": _compute_haversine_km,
}
