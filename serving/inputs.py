"""What a model takes: its inputs by name, and how rows of JSON become columns. Imports no TensorFlow.

A column is a list of Python's own values: many small requests become one batch by joining lists, converted once.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from schemas.declaration import did_you_mean
from schemas.features import MISSING, ColumnType, FeatureSet, column_type, safe_name

# What a missing value is in the graph; texts are text here.
_MISSING: Mapping[ColumnType, Any] = {**MISSING, "string": ""}
_EXPECTED: Mapping[ColumnType, str] = {"string": "a text", "float": "a number", "int": "an integer"}
_INT64 = range(-(2**63), 2**63)
_LARGEST_FLOAT32 = 3.4028235677973366e38
_SHOWN_CHARACTERS = 40

Columns = dict[str, list[Any]]


class RequestError(ValueError):
    """The request does not fit the model; the text names the row and the feature."""


@dataclass(frozen=True)
class Input:
    """One input of a model: the `safe_name` of a feature, its column, its type, and whether it may be left out."""

    name: str
    column: str
    kind: ColumnType
    required: bool

    @property
    def missing(self) -> Any:
        return _MISSING[self.kind]


def declared_inputs(features: FeatureSet) -> dict[str, Input]:
    """The inputs of a model that was trained on these features; those with a declared `missing` may be left out."""
    return {
        safe_name(name): Input(safe_name(name), name, column_type(feature), feature.missing is None)
        for name, feature in features.features.items()
    }


def columns_of(inputs: Mapping[str, Input], instances: Sequence[Any]) -> Columns:
    """Rows, each a mapping of names to values, as one list for each input.

    A value that may be missing and is left out, or null, becomes what the graph knows as missing.

    Raises:
      RequestError: a row is no mapping; a name is unknown; a value is missing or of another type.
    """
    named = [_named(inputs, instance, row) for row, instance in enumerate(instances)]
    return {
        name: [_value(one, instance.get(name), row) for row, instance in enumerate(named)]
        for name, one in inputs.items()
    }


def _named(inputs: Mapping[str, Input], instance: Any, row: int) -> Mapping[str, Any]:
    """A row by the names of the inputs; the data's own names of the columns will do too."""
    if not isinstance(instance, Mapping):
        raise RequestError(f"instances[{row}]: expected an object of features, found {type(instance).__name__}")
    if instance.keys() <= inputs.keys():
        return instance
    return _renamed(inputs, instance, f"instances[{row}]: ")


def _renamed(inputs: Mapping[str, Input], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    names = {one.column: name for name, one in inputs.items()}
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        own = name if name in inputs else names.get(name)
        if own is None:
            hint = did_you_mean(name, [one.column for one in inputs.values()])
            raise RequestError(f"{where}'{name[:_SHOWN_CHARACTERS]}' is unknown; {hint}")
        if own in renamed:
            raise RequestError(f"{where}{own}: is given twice, as '{inputs[own].column}' too")
        renamed[own] = value
    return renamed


def check_columns(inputs: Mapping[str, Input], columns: Mapping[str, Sequence[Any]]) -> Columns:
    """The same for values that come by column: every column of one length, those left out filled in.

    Raises:
      RequestError: as `columns_of`; or the columns differ in length.
    """
    if not columns.keys() <= inputs.keys():
        columns = _renamed(inputs, columns, "")
    for name in columns:
        if not isinstance(columns[name], list):
            raise RequestError(f"{name}: expected a list of values, one a row, found {type(columns[name]).__name__}")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        found = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise RequestError(f"the inputs have different numbers of rows: {found}")
    rows = lengths.pop() if lengths else 0
    nothing = [None] * rows
    return {
        name: [_value(one, value, row) for row, value in enumerate(columns.get(name, nothing))]
        for name, one in inputs.items()
    }


def _value(one: Input, value: Any, row: int) -> Any:
    """A value as the graph takes it.

    Raises:
      RequestError: it does not fit.
    """
    # The common case first: this runs for every value of every request.
    match one.kind:
        case "string":
            if value.__class__ is str and (value or not one.required):
                return value
        case "float":
            if value.__class__ in (float, int) and -_LARGEST_FLOAT32 < value < _LARGEST_FLOAT32:
                return value
        case "int":
            if value.__class__ is int and value in _INT64:
                return value
        case kind:
            assert_never(kind)
    return _uncommon(one, value, row)


def _uncommon(one: Input, value: Any, row: int) -> Any:
    where = f"instances[{row}]: {one.column}"
    if value is None or value == "" or value != value:
        if one.required:
            raise RequestError(f"{where}: is missing, and the model was trained without missing values of it")
        if value is None or value == one.missing or value != value:
            return one.missing
    if one.kind == "string" and isinstance(value, Mapping) and value.keys() == {"b64"}:
        return _decoded(value["b64"], where)
    # Numbers that passed through a protobuf Value, as on Vertex AI, are floats.
    if one.kind == "int" and isinstance(value, float) and value.is_integer() and int(value) in _INT64:
        return int(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and one.kind != "string" and (one.kind == "float" or float(value).is_integer()):
        raise RequestError(f"{where}: {value!r} is out of the range of {'float32' if one.kind == 'float' else 'int64'}")
    raise RequestError(f"{where}: expected {_EXPECTED[one.kind]}, found {str(value)[:_SHOWN_CHARACTERS]!r}")


def _decoded(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RequestError(f"{where}: b64 is not base64") from error
