"""The columns of a request log: those of the training table, from the inputs that a model was given, and its outputs.

The log has values to which the table's rules were applied, and the rules read them back unchanged. A list is a list, a
time is written in its format, a missing value is a null.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import tensorflow as tf

from schemas.tables.log_columns import PREDICTION_PREFIX, is_log_column
from serving.model.inputs import ModelInput
from serving.model.model_call import ModelCall
from serving.model.predictor import Predictor
from serving.model.session_model import list_specs
from serving.model.signatures import SERVING_DEFAULT
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.input_fields import build_field, find_writer
from serving.request_log.shards import LOG_FIELDS, RequestLogError

_BYTES_SUFFIX = "_bytes"

# Rows of a call of the model.
CallPart = tuple[ModelCall, slice]


class LoggedVersion(Protocol):
    """A version of a model whose predictions are logged."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def signature(self) -> str:
        """Name of its signature that is called."""

    @property
    def predictor(self) -> Predictor | TensorPredictor:
        """Its model."""


@dataclass(frozen=True)
class LoggedColumn:
    """One column of a log that is an input or an output.

    Attributes:
      field: Its name and type.
      source: Name of the input or output.
      write: Function from the values of all rows to an Arrow array.
    """

    field: pa.Field
    source: str
    write: Callable[[Any], pa.Array]


@dataclass(frozen=True)
class LogLayout:
    """The columns of a version.

    Attributes:
      inputs, outputs: Their columns.
      masked: Sensitive inputs that are left out.
    """

    inputs: Sequence[LoggedColumn]
    outputs: Sequence[LoggedColumn]
    masked: Sequence[str]

    @property
    def fields(self) -> list[pa.Field]:
        """All fields of a row, those of the log first."""
        return [*LOG_FIELDS, *(column.field for column in [*self.inputs, *self.outputs])]

    def write(self, parts: Sequence[CallPart]) -> Iterator[pa.Array]:
        """Yield the inputs and outputs of parts of calls as arrays of all their rows."""
        for column in self.inputs:
            yield column.write([*chain.from_iterable(call.columns[column.source][rows] for call, rows in parts)])
        for column in self.outputs:
            yield column.write(np.concatenate([call.outputs[column.source][rows] for call, rows in parts]))


def build_layout(version: LoggedVersion, *, log_sensitive: bool) -> LogLayout:
    """Return the columns of a version.

    Raises:
      RequestLogError: A column has the name of one of the log's own, or has values that no table has.
    """
    predictor = version.predictor
    signature = predictor.signature(SERVING_DEFAULT)
    masked: list[str] = []
    inputs: list[LoggedColumn] = []
    if isinstance(predictor, TensorPredictor):
        # Strings may be images, or serialized tf.Example.
        inputs = [_build_tensor(name, name, spec, is_bytes=True) for name, spec in predictor.specs.items()]
        signature = predictor.own_signature
    else:
        for field in predictor.inputs.values():
            if field.rule.sensitive and not log_sensitive:
                masked.append(field.column)
            else:
                inputs.append(_build_input(field))
    for column in inputs:
        if is_log_column(column.field.name):
            raise RequestLogError(
                f"version {version.number}: the column '{column.field.name}' has the name of a column of the request "
                "log; rename it in the data, or serve without --log-requests"
            )
    specs = list_specs(signature.outputs)
    outputs = [
        _build_tensor(f"{PREDICTION_PREFIX}{name}", name, spec, is_bytes=name.endswith(_BYTES_SUFFIX))
        for name, spec in specs.items()
    ]
    return LogLayout(inputs, outputs, masked)


def _build_input(field: ModelInput) -> LoggedColumn:
    return LoggedColumn(build_field(field), field.name, find_writer(field))


def _build_tensor(column: str, source: str, spec: tf.TensorSpec, *, is_bytes: bool) -> LoggedColumn:
    """Return the column of a tensor whose first dimension is the rows; further ones are lists."""
    if spec.shape.rank is None:
        raise RequestLogError(f"'{source}' has any number of dimensions, which no column has; serve without the log")
    try:
        type_ = (
            (pa.binary() if is_bytes else pa.string())
            if spec.dtype == tf.string
            else pa.from_numpy_dtype(np.dtype(spec.dtype.as_numpy_dtype))
        )
    except (pa.ArrowException, TypeError) as error:
        raise RequestLogError(
            f"'{source}' has values of {spec.dtype.name}, which no column has; serve without --log-requests"
        ) from error
    for _ in range(max(spec.shape.rank - 1, 0)):
        type_ = pa.list_(type_)
    return LoggedColumn(pa.field(column, type_), source, partial(_write_tensor, type_))


def _write_tensor(type_: pa.DataType, values: Any) -> pa.Array:
    if isinstance(values, list):
        # One array a row, of any size.
        if not pa.types.is_nested(type_):
            return _write_tensor(type_, np.array([value.item() for value in values], object).reshape(-1))
        sizes = [len(value) for value in values]
        items: Any = [item for value in values for item in value]
        if not pa.types.is_nested(type_.value_type):
            items = np.concatenate(values) if values else np.array([])
        return _as_lists(sizes, _write_tensor(type_.value_type, items))
    if values.ndim > 1:
        rows = values.reshape(-1, *values.shape[2:])
        return _as_lists([values.shape[1]] * len(values), _write_tensor(type_.value_type, rows))
    if values.dtype != np.object_:
        return pa.array(values, type_)
    if pa.types.is_string(type_):
        return _decode(values.tolist())
    return pa.array(values.tolist(), type_)


def _as_lists(sizes: Sequence[int], items: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items)


def _decode(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        # As the answer has them.
        return pa.array([value.decode(errors="replace") for value in values], pa.string())
