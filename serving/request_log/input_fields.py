"""The types and values of a log's input columns, which are those of the training table. Imports no TensorFlow."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.features import MISSING
from schemas.tables.time_format import EPOCHS, TimeFormat
from serving.model.inputs import ModelInput


def build_field(column: ModelInput) -> pa.Field:
    """Return the field of an input. A vector remains a string, since its decimals are those of the request."""
    rule = column.rule
    if rule.times is not None:
        return pa.field(column.column, pa.int64() if rule.times.format in EPOCHS else pa.string())
    if rule.items is not None and rule.items.numbers is None:
        return pa.field(column.column, pa.list_(pa.string()))
    types = {"float": pa.float64(), "int": pa.int64(), "string": pa.string()}
    return pa.field(column.column, types[rule.kind])


def find_writer(field: ModelInput) -> Callable[[Any], pa.Array]:
    """Return the function that writes converted values of a column of the model as the training table has them."""
    rule = field.rule
    if rule.times is not None:
        return partial(_write_times, rule.times)
    match rule.kind:
        case "float":
            return _write_floats
        case "int":
            return _write_integers
        case "string":
            if rule.items is not None and rule.items.numbers is None:
                return partial(_write_lists, rule.items.delimiter)
            return _write_required_strings if rule.required else _write_strings


def _write_floats(values: list[Any]) -> pa.Array:
    # Through NumPy: Arrow rejects integers that a double cannot hold exactly.
    return pa.array(np.array(values, np.float64), pa.float64(), from_pandas=True)


def _write_integers(values: list[Any]) -> pa.Array:
    numbers = np.array(values, np.int64)
    return pa.array(numbers, pa.int64(), mask=numbers == MISSING["int"])


def _write_required_strings(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.string())


def _write_strings(values: list[Any]) -> pa.Array:
    strings = pa.array(values, pa.string())
    return pc.if_else(pc.equal(strings, ""), pa.scalar(None, pa.string()), strings)


def _write_lists(delimiter: str, values: list[Any]) -> pa.Array:
    return pc.split_pattern(_write_strings(values), delimiter)


def _write_times(times: TimeFormat, values: list[Any]) -> pa.Array:
    written = [None if value == MISSING["int"] else times.write(value) for value in values]
    return pa.array(written, pa.string()).cast(pa.int64()) if times.format in EPOCHS else pa.array(written, pa.string())
