"""The columns of a version in a request log: those of the training table, and the outputs of its model."""

from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import tensorflow as tf

from schemas.tables.log_columns import PREDICTION_PREFIX, is_log_column
from serving.model.inputs import ModelInput
from serving.model.predictor import Predictor
from serving.model.session_model import list_specs
from serving.model.signatures import SERVING_DEFAULT
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.input_fields import build_field, find_writer
from serving.request_log.layout import LoggedColumn, LogLayout, write_tensor
from serving.request_log.shards import RequestLogError

_BYTES_SUFFIX = "_bytes"


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


def build_layout(version: LoggedVersion, *, log_sensitive: bool) -> LogLayout:
    """Return the columns of a version.

    Raises:
      RequestLogError: A column has the name of one of the log's own, or has values that no table has.
    """
    predictor = version.predictor
    signature = predictor.get_signature(SERVING_DEFAULT)
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
    return LoggedColumn(pa.field(column, type_), source, partial(write_tensor, type_))
