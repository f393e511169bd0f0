"""The columns of a request log, and how their values become Arrow arrays. Imports no TensorFlow.

The log has values to which the table's rules were applied, and the rules read them back unchanged. A list is a list, a
time is written in its format, a missing value is a null.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from serving.request_log.shards import LOG_FIELDS


@dataclass(frozen=True)
class LoggedColumn:
    """One column of a log that is an input or an output.

    Attributes:
      field: Its name and type.
      source: Name of the input or output.
      write: Function from the values of all rows to an Arrow array; it can be pickled.
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

    inputs: Sequence[LoggedColumn] = ()
    outputs: Sequence[LoggedColumn] = ()
    masked: Sequence[str] = ()

    @property
    def columns(self) -> list[LoggedColumn]:
        """The inputs, then the outputs."""
        return [*self.inputs, *self.outputs]

    @property
    def fields(self) -> list[pa.Field]:
        """All fields of a row, those of the log first."""
        return [*LOG_FIELDS, *(column.field for column in self.columns)]


def write_tensor(type_: pa.DataType, values: Any) -> pa.Array:
    """Return an Arrow array of the rows of a tensor: an array, or a list of arrays of any size, one a row."""
    if isinstance(values, list):
        if not pa.types.is_nested(type_):
            return write_tensor(type_, np.array([value.item() for value in values], object).reshape(-1))
        sizes = [len(value) for value in values]
        items: Any = [item for value in values for item in value]
        if not pa.types.is_nested(type_.value_type):
            items = np.concatenate(values) if values else np.array([])
        return _as_lists(sizes, write_tensor(type_.value_type, items))
    if values.ndim > 1:
        rows = values.reshape(-1, *values.shape[2:])
        return _as_lists([values.shape[1]] * len(values), write_tensor(type_.value_type, rows))
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
