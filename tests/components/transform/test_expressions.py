import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.transform.expressions import ExpressionValue, evaluate
from schemas.expressions import FUNCTIONS, Expression, Type
from schemas.tables.expression_values import evaluate as evaluate_rows

TYPES: dict[str, Type] = {
    "x": "number", "y": "number", "s": "string", "r": "string", "t": "time", "u": "time", "b": "boolean",
    "c": "time of day", "d": "time of day",
}  # fmt: skip
ARROW = {
    "number": pa.float64(),
    "string": pa.string(),
    "time": pa.int64(),
    "time of day": pa.int64(),
    "boolean": pa.bool_(),
}
# TensorFlow takes subnormal numbers, those below 1e-307, as 0.
NUMBERS = st.one_of(
    st.none(),
    st.integers(-5, 5).map(float),
    st.floats(-1e30, 1e30, allow_subnormal=False),
    st.floats(-4, 4, allow_subnormal=False),
    st.sampled_from([0.5, 1.5, 2.5]),
)
STRINGS = st.one_of(st.none(), st.text("ab/é \n\U0001f600", max_size=6))
ROWS = st.fixed_dictionaries(
    {
        "x": NUMBERS, "y": NUMBERS, "s": STRINGS, "r": STRINGS, "b": st.one_of(st.none(), st.booleans()),
        "t": st.one_of(st.none(), st.integers(-(10**9), 10**9)),
        "u": st.one_of(st.none(), st.integers(-(10**9), 10**9)),
        "c": st.one_of(st.none(), st.integers(0, 86_399)),
        "d": st.one_of(st.none(), st.integers(0, 86_399)),
    }
)  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn, type_: Type, depth: int = 2) -> str:
    """Return a random expression of a type."""
    leaves = {
        "number": ["x", "y", "2", "0.5", "-1"],
        "string": ["s", "r", "'a'", "'/é'"],
        "time": ["t", "u"],
        "time of day": ["c", "d"],
        "boolean": ["b", "True"],
    }[type_]
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(leaves))

    def part(of: Type) -> str:
        return f"({draw(expressions(of, depth - 1))})"

    any_type: Type = draw(st.sampled_from(["number", "string", "time", "time of day", "boolean"]))
    choices = {
        "number": [
            *(lambda sign=sign: f"{part('number')} {sign} {part('number')}" for sign in ("+", "-", "*", "/")),
            *(lambda name=name: f"{name}({part('number')})" for name in ("abs", "exp", "log", "log1p", "sqrt")),
            lambda: f"min({part('number')}, {part('number')}, {part('number')})",
            lambda: f"max({part('number')}, {part('number')})",
            lambda: f"{part('time')} - {part('time')}",
            lambda: f"{part('time of day')} - {part('time of day')}",
            lambda: f"hour({part('time of day')})",
            lambda: f"length({part('string')})",
            lambda: f"haversine({part('number')}, 1, 2, 3)",
        ],
        "string": [
            lambda: f"{part('string')} + {part('string')}",
            lambda: f"substring({part('string')}, {draw(st.integers(0, 4))}, {draw(st.integers(0, 3))})",
            lambda: f"split_part({part('string')}, '/', {draw(st.integers(0, 2))})",
            *(lambda name=name: f"{name}({part('string')})" for name in ("lower", "upper", "strip")),
        ],
        "time": [lambda: f"coalesce({part('time')}, {part('time')})"],
        "time of day": [lambda: f"coalesce({part('time of day')}, {part('time of day')})"],
        "boolean": [
            lambda: f"{part('boolean')} and {part('boolean')}",
            lambda: f"{part('boolean')} or {part('boolean')}",
            lambda: f"not {part('boolean')}",
            lambda: f"is_missing({part(any_type)})",
            lambda: f"contains({part('string')}, 'a')",
            lambda: f"{part('time')} < {part('time')}",
            lambda: f"{part('string')} == {part('string')}",
            lambda: f"x {draw(st.sampled_from(['<', '<=', '>', '>=', '==', '!=']))} y",
        ],
    }[type_]
    shared = [
        lambda: f"{part(type_)} if {part('boolean')} else {part(type_)}",
        lambda: f"coalesce({part(type_)}, {part(type_)})",
    ]
    return draw(st.sampled_from([*choices, *shared]))()


def tensors(columns: dict[str, pa.Array]) -> dict[str, ExpressionValue]:
    values = {}
    for name, column in columns.items():
        fill: Any = {"number": math.nan, "string": "", "time": -(2**63), "time of day": -(2**63), "boolean": False}[
            TYPES[name]
        ]
        filled = column.fill_null(fill).to_pylist()
        dtype = {"number": tf.float64, "string": tf.string, "boolean": tf.bool}.get(TYPES[name], tf.int64)
        values[name] = ExpressionValue(tf.constant(filled, dtype), tf.constant(np.asarray(column.is_valid())))
    return values


def check(text: str, rows: list[dict[str, Any]]) -> None:
    expression = Expression.parse(text, TYPES)
    columns = {name: pa.array([row[name] for row in rows], ARROW[TYPES[name]]) for name in expression.columns}
    expected = evaluate_rows(expression, columns).to_pylist()
    tensor, valid = evaluate(expression, tensors(columns))
    values = [
        value if is_valid else None
        for value, is_valid in zip(tensor.numpy().tolist(), valid.numpy().tolist(), strict=True)
    ]
    values = [value.decode() if isinstance(value, bytes) else value for value in values]
    for value, other in zip(values, expected, strict=True):
        if isinstance(other, float) and isinstance(value, float):
            assert math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12), (text, value, other)
        else:
            assert value == other, (text, value, other)


@pytest.mark.integration
@given(st.data(), st.lists(ROWS, min_size=2, max_size=4))
@settings(max_examples=300)
def test_the_graph_computes_what_the_reader_computes(data: st.DataObject, rows: list[dict[str, Any]]) -> None:
    type_: Type = data.draw(st.sampled_from(["number", "string", "boolean"]))
    check(data.draw(expressions(type_)), rows)


def test_every_function_is_computed_alike() -> None:
    row = {"x": 2.5, "y": -1.5, "s": "a/É ", "r": "b", "t": 100, "u": -7, "c": 100, "d": 86_399, "b": True}
    rows = [row, {**row, "x": 0.0, "y": 0.0}, dict.fromkeys(row), {**row, "x": -3.0, "s": ""}]
    calls = {
        "negative": "-x", "not": "not b", "if": "x if b else y", "substring": "substring(s, 1, 2)",
        "split_part": "split_part(s, '/', 1)", "contains": "contains(s, '/')", "haversine": "haversine(x, y, y, x)",
    }  # fmt: skip
    for name, signatures in FUNCTIONS.items():
        for signature in signatures:
            names = {
                "number": ["x", "y"],
                "string": ["s", "r"],
                "time": ["t", "u"],
                "time of day": ["c", "d"],
                "boolean": ["b", "b"],
                "same": ["x", "y"],
            }
            operands = [names[type_][number % 2] for number, type_ in enumerate(signature.operands)]
            call = f"{name}({', '.join(operands)})" if name.isidentifier() else f"{operands[0]} {name} {operands[-1]}"
            check(calls.get(name, f"b {name} b" if name in ("and", "or") else call), rows)
