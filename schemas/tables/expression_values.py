"""The values of expressions (schemas/expressions.py) over Arrow's arrays. Imports no TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.expressions import (
    EARTH_RADIUS_KM,
    MAX_LATITUDE,
    TIMES,
    Call,
    ColumnReference,
    Constant,
    Expression,
    Node,
    Type,
)
from schemas.tables.time_parts import PARTS

_ARROW_TYPES: Mapping[Type, pa.DataType] = {
    "number": pa.float64(),
    "string": pa.string(),
    "time": pa.int64(),
    "time of day": pa.int64(),
    "boolean": pa.bool_(),
}
Function = Callable[..., Any]


def evaluate(expression: Expression, columns: Mapping[str, pa.Array]) -> pa.Array:
    """Return the value of each row, null where it is missing or not defined.

    Args:
      expression: Parsed expression.
      columns: Values of the columns that it uses, by name, null where one is missing; [n]. Numbers are float64 or
        float32, times int64 of wall seconds.
    """
    rows = len(next(iter(columns.values()))) if columns else 1
    return _evaluate(expression.root, columns, rows)


def _evaluate(node: Node, columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    match node:
        case Constant():
            return pa.array([node.value], _ARROW_TYPES[node.type]).take(pa.array(np.zeros(rows, np.int64)))
        case ColumnReference():
            return _without_undefined(columns[node.name].cast(_ARROW_TYPES[node.type]))
        case Call(function="substring", operands=(first, Constant(value=start), Constant(value=count))):
            strings = _evaluate(first, columns, rows)
            begin, length = int(float(start)), int(float(count))
            return _without_undefined(pc.utf8_slice_codeunits(strings, begin, begin + length))
        case Call(function="split_part", operands=(first, Constant(value=separator), Constant(value=index))):
            parts = pc.split_pattern(_evaluate(first, columns, rows), str(separator))
            number = int(float(index))
            part = pc.list_slice(parts, number, number + 1, return_fixed_size_list=True)
            return _without_undefined(part.flatten() if not part.null_count else _flatten(part))
        case Call(function="contains", operands=(first, Constant(value=pattern))):
            return pc.match_substring(_evaluate(first, columns, rows), str(pattern))
    values = [_evaluate(operand, columns, rows) for operand in node.operands]
    if node.function == "-" and node.operands[0].type in TIMES:
        return pc.subtract(*values).cast(pa.float64())
    return _without_undefined(_ARROW_FUNCTIONS[node.function](*values))


def _flatten(lists: pa.Array) -> pa.Array:
    """Return the only value of each list, null for no list."""
    return pa.array([None if value is None else value[0] for value in lists.to_pylist()], pa.string())


def _without_undefined(values: pa.Array) -> pa.Array:
    """Return values with null for numbers that are not finite and for empty strings."""
    if pa.types.is_floating(values.type):
        return pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))
    if pa.types.is_string(values.type):
        return pc.if_else(pc.not_equal(values, ""), values, pa.scalar(None, values.type))
    return values


def _compute_haversine_km(*degrees: pa.Array) -> pa.Array:
    """Return the distance of points on a sphere (R. W. Sinnott, Virtues of the Haversine, 1984).

    It is null for a latitude beyond a pole.
    """
    valid = np.logical_and.reduce([np.asarray(column.is_valid()) for column in degrees])
    for latitudes in degrees[::2]:
        valid &= np.abs(pc.fill_null(latitudes, 0.0).to_numpy(zero_copy_only=False)) <= MAX_LATITUDE
    numbers = [np.radians(pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False)) for column in degrees]
    latitude, longitude, other_latitude, other_longitude = numbers
    half_chord = (
        np.sin((other_latitude - latitude) / 2) ** 2
        + np.cos(latitude) * np.cos(other_latitude) * np.sin((other_longitude - longitude) / 2) ** 2
    )
    kilometres = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord, 0.0, 1.0)))
    return pa.array(kilometres, pa.float64(), mask=~valid)


def _build_time_part(part: Callable[[Any], Any]) -> Function:
    def evaluate(seconds: pa.Array) -> pa.Array:
        values = part(pc.fill_null(seconds, 0).to_numpy(zero_copy_only=False)).astype(np.float64)
        return pa.array(values, mask=np.asarray(seconds.is_null()))

    return evaluate


def _divide_to_floor(dividend: pa.Array, divisor: pa.Array) -> pa.Array:
    return pc.floor(pc.divide(dividend, divisor))


def _fold(function: Function) -> Function:
    def fold(first: pa.Array, *others: pa.Array) -> pa.Array:
        for other in others:
            first = function(first, other)
        return first

    return fold


_ARROW_FUNCTIONS: Mapping[str, Function] = {
    "+": lambda x, y: pc.binary_join_element_wise(x, y, "") if pa.types.is_string(x.type) else pc.add(x, y),
    "-": pc.subtract,
    "*": pc.multiply,
    "/": pc.divide,
    "//": _divide_to_floor,
    "%": lambda x, y: pc.subtract(x, pc.multiply(_divide_to_floor(x, y), y)),
    "**": pc.power,
    "negative": pc.negate,
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "and": _fold(pc.and_),
    "or": _fold(pc.or_),
    "not": pc.invert,
    "if": pc.if_else,
    "abs": pc.abs,
    "exp": pc.exp,
    "log": lambda x: pc.ln(x),
    "log1p": lambda x: pc.log1p(x),
    "sqrt": lambda x: pc.sqrt(x),
    "floor": pc.floor,
    "ceil": pc.ceil,
    "round": lambda x: pc.round(x, round_mode="half_to_even"),
    "min": lambda *values: pc.min_element_wise(*values, skip_nulls=False),
    "max": lambda *values: pc.max_element_wise(*values, skip_nulls=False),
    "coalesce": pc.coalesce,
    "is_missing": pc.is_null,
    "lower": pc.ascii_lower,
    "upper": pc.ascii_upper,
    "strip": pc.ascii_trim_whitespace,
    "length": lambda x: pc.utf8_length(x).cast(pa.float64()),
    "sin": lambda x: pc.sin(x),
    "cos": lambda x: pc.cos(x),
    **{name: _build_time_part(part) for name, part in PARTS.items()},
    "haversine": _compute_haversine_km,
}
