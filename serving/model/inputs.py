"""The inputs of a model, and the conversion of requests to columns of values. Imports no TensorFlow.

A column is a list of Python's own values: many small requests become one batch by joining lists, converted once.
`schemas.tables.values.convert` owns the conversion; here only values that it would return unchanged pass without it.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import pyarrow as pa

from schemas.data import ReadOptions
from schemas.declaration import suggest_name
from schemas.features import MISSING, ColumnType, FeatureSet, escape_name
from schemas.sensitive import find_sensitive
from schemas.tables import examples
from schemas.tables.values import INT64, MAX_FLOAT32, Rule, build_feature_rules, convert, format_value

# The missing values of the graph; strings are `str` here.
_MISSING: Mapping[ColumnType, Any] = {**MISSING, "string": ""}
# A character has at most four bytes, of MAX_VALUE_BYTES.
_MAX_USUAL_CHARS = 1 << 18
_MAX_NAME_CHARS = 40

Columns = dict[str, list[Any]]


class RequestError(ValueError):
    """The request does not fit the model. The message names the row and the feature."""


@dataclass(frozen=True)
class ModelInput:
    """One input of a model: the name of a feature by `escape_name`, and how its values are converted."""

    name: str
    rule: Rule

    @property
    def column(self) -> str:
        """The name of the feature's column."""
        return self.rule.column

    @property
    def kind(self) -> ColumnType:
        """The type of the values."""
        return self.rule.kind

    @property
    def required(self) -> bool:
        """Whether a row must have a value."""
        return self.rule.required

    @property
    def num_ids(self) -> int:
        """The number of IDs of an identity feature; 0 of other inputs."""
        return self.rule.num_ids or 0


class Inputs(dict[str, ModelInput]):
    """The inputs of a model by name.

    Attributes:
      other_columns: Names of the training table's columns that the model does not use. A request may have them.
      sensitive_columns: Names of the sensitive columns of the training table.
      ids: The inputs that are IDs, by name.
      texts: The inputs that keep a limited number of tokens, by name.
      own_columns: Names that the inputs may have in a request.
      decimal: Character before the fraction of a number in a string.
    """

    def __init__(
        self, inputs: Sequence[ModelInput], other_columns: Sequence[str] = (), sensitive_columns: Sequence[str] = ()
    ) -> None:
        super().__init__({field.name: field for field in inputs})
        self.sensitive_columns = frozenset([*sensitive_columns, *map(escape_name, sensitive_columns)])
        self.other_columns = frozenset([*other_columns, *map(escape_name, other_columns)])
        self.ids = {field.name: field for field in inputs if field.rule.num_ids is not None}
        self.texts = {field.name: field.rule.tokens for field in inputs if field.rule.tokens is not None}
        self.decimal = next((field.rule.numbers.decimal for field in inputs), ".")
        self._by_column = {field.column: field.name for field in inputs}
        self.own_columns = frozenset([*self, *self._by_column])
        # A feature may decide on splits, too.
        self._columns = list(dict.fromkeys([*self._by_column, *other_columns]))

    def find_name(self, column: str, where: str) -> str | None:
        """Return the name of the input for a column; None for one of the other columns.

        Raises:
          RequestError: The training table has no such column.
        """
        if column in self:
            return column
        name = self._by_column.get(column)
        if name is None and column not in self.other_columns:
            raise RequestError(f"{where}'{column[:_MAX_NAME_CHARS]}' is unknown; {suggest_name(column, self._columns)}")
        return name


def build_inputs(features: FeatureSet, options: ReadOptions) -> Inputs:
    """Return the inputs of a model that was trained on these features, of a table that was read with `options`."""
    rules = build_feature_rules(features, options)
    return Inputs(
        [ModelInput(escape_name(name), rule) for name, rule in rules.items()],
        options.other_columns,
        find_sensitive(features, options),
    )


def convert_rows(inputs: Inputs, instances: Sequence[Any]) -> Columns:
    """Return rows, each a mapping of names to values, as one list for each input.

    A value that may be missing and is omitted, null, or a string that stands for a missing value becomes what the
    graph takes as missing.

    Raises:
      RequestError: A row is not a mapping; a name is unknown; a value is missing or cannot be converted.
    """
    rows = [_name_inputs(inputs, instance, row) for row, instance in enumerate(instances)]
    return {name: _convert(field, [instance.get(name) for instance in rows]) for name, field in inputs.items()}


def convert_columns(inputs: Inputs, columns: Mapping[str, Sequence[Any]]) -> Columns:
    """Return values that come by column as `convert_rows` does, those omitted filled in.

    Raises:
      RequestError: As `convert_rows`; or the columns differ in length.
    """
    for name, values in columns.items():
        if not isinstance(values, list):
            raise RequestError(f"{name}: expected a list of values, one a row, found {type(values).__name__}")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        rows = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise RequestError(f"the inputs have different numbers of rows: {rows}")
    if not columns.keys() <= inputs.keys():
        columns = _rename(inputs, columns, "")
    nothing = [None] * (lengths.pop() if lengths else 0)
    return {name: _convert(field, columns.get(name, nothing)) for name, field in inputs.items()}


def convert_examples(inputs: Inputs, records: Sequence[bytes]) -> Columns:
    """Return serialized tf.Example as one list for each input, as `convert_rows` does.

    Raises:
      RequestError: A record is not a tf.Example; or as `convert_rows`.
    """
    columns: Columns = {name: [None] * len(records) for name in inputs}
    try:
        for part in examples.decode(records, inputs.own_columns, inputs.decimal):
            for column in part.names:
                name = inputs.find_name(column, "")
                if name is not None:
                    strings = part.columns.column(column).to_pylist()
                    columns[name][part.start : part.start + len(strings)] = strings
    except examples.ExampleError as error:
        raise RequestError(f"instances[{error.index}]: {error}") from error
    return {name: _convert(field, columns[name]) for name, field in inputs.items()}


def count_out_of_range(inputs: Inputs, columns: Columns) -> dict[str, int]:
    """Return by column for how many values the model takes another: `schemas.tables.values.find_out_of_range`."""
    counts = {
        field.column: sum(1 for value in columns[name] if not 0 <= value < field.num_ids and value in INT64)
        for name, field in inputs.ids.items()
    }
    for name, limit in inputs.texts.items():
        counts[inputs[name].column] = int(limit.is_exceeded(pa.array(columns[name], pa.string())).sum())
    return {column: count for column, count in counts.items() if count}


def _name_inputs(inputs: Inputs, instance: Any, row: int) -> Mapping[str, Any]:
    """Return a row by the names of the inputs; a row may also have the data's own names of the columns."""
    if not isinstance(instance, Mapping):
        raise RequestError(f"instances[{row}]: expected an object of features, found {type(instance).__name__}")
    if instance.keys() <= inputs.keys():
        return instance
    return _rename(inputs, instance, f"instances[{row}]: ")


def _rename(inputs: Inputs, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    by_name: dict[str, Any] = {}
    for column, value in values.items():
        name = inputs.find_name(column, where)
        if name in by_name:
            raise RequestError(f"{where}{name}: is given twice, as '{inputs[name].column}' too")
        if name is not None:
            by_name[name] = value
    return by_name


def _convert(field: ModelInput, values: Sequence[Any]) -> list[Any]:
    """Return the values of one input as the graph takes them.

    Raises:
      RequestError: A value is missing or cannot be converted.
    """
    unusual_rows = _find_unusual(field.rule, values)
    if not unusual_rows:
        return values if isinstance(values, list) else list(values)
    converted_values = list(values)
    if not field.required:
        # The way through Arrow takes as long as the model.
        missing = _MISSING[field.kind]
        converted_values = [missing if value is None else value for value in values]
        unusual_rows = [row for row in unusual_rows if values[row] is not None]
        if not unusual_rows:
            return converted_values
    strings = [_as_string(field, values[row], row) for row in unusual_rows]
    result = convert(pa.array(strings, pa.string()), field.rule)
    for index, fault in sorted(result.faults.items()):
        raise RequestError(f"instances[{unusual_rows[index]}]: {field.column}: {fault.reason}")
    for row, value in zip(unusual_rows, result.values.to_pylist(), strict=True):
        converted_values[row] = (
            _MISSING[field.kind] if value is None else value.decode() if isinstance(value, bytes) else value
        )
    return converted_values


def _find_unusual(rule: Rule, values: Sequence[Any]) -> list[int]:
    """Return the rows of the values that may change in the conversion. This runs for every value of every request."""
    if rule.times is not None or rule.items is not None:
        return list(range(len(values)))
    match rule.kind:
        case "string":
            markers, strip = rule.markers, rule.strip_spaces
            return [
                row
                for row, value in enumerate(values)
                if value.__class__ is not str
                or value in markers
                or len(value) > _MAX_USUAL_CHARS
                or (strip and value != value.strip())
            ]
        case "float":
            numbers = rule.missing_numbers
            return [
                row
                for row, value in enumerate(values)
                if value.__class__ not in (float, int)
                or not -MAX_FLOAT32 < value < MAX_FLOAT32
                or (numbers and value in numbers)
            ]
        case "int":
            numbers = rule.missing_numbers
            return [
                row
                for row, value in enumerate(values)
                if value.__class__ is not int or value not in INT64 or (numbers and value in numbers)
            ]
        case kind:
            assert_never(kind)


def _as_string(field: ModelInput, value: Any, row: int) -> str | None:
    where = f"instances[{row}]: {field.column}"
    if field.rule.items is None and isinstance(value, list) and len(value) == 1:
        # Columns of shape [rows, 1], as TensorFlow's Estimators and tf.Example have them.
        (value,) = value
    if field.kind == "string" and isinstance(value, Mapping) and value.keys() == {"b64"}:
        value = _decode_base64(value["b64"], where)
    try:
        return format_value(value, field.rule)
    except ValueError as error:
        raise RequestError(f"{where}: {error}") from error


def _decode_base64(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise RequestError(f"{where}: b64 is not base64") from error
