"""The columns of a request log, and how their values become Arrow arrays. Imports no TensorFlow.

The log has values to which the table's rules were applied, and the rules read them back unchanged. A list is a list, a
time is written in its format, a missing value is a null.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
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
    def fields(self) -> list[pa.Field]:
        """All fields of a row: those of the log, then the inputs, then the outputs."""
        return [*LOG_FIELDS, *(column.field for column in (*self.inputs, *self.outputs))]


def write_tensor(type_: pa.DataType, values: Any) -> pa.Array:
    """Return an Arrow array of the rows of a tensor: an array, or a list with the array or the values of each row."""
    if pa.types.is_nested(type_):
        offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
        is_flat = not pa.types.is_nested(type_.value_type)
        are_arrays = bool(values) and isinstance(values[0], np.ndarray)
        # An array of numbers, such as an image, is not read one by one.
        items = np.concatenate(values) if is_flat and are_arrays else [*chain.from_iterable(values)]
        return pa.ListArray.from_arrays(pa.array(offsets), write_tensor(type_.value_type, items))
    if isinstance(values, np.ndarray) and values.dtype != np.object_:
        return pa.array(values, type_)
    items = [value.item() if isinstance(value, np.ndarray | np.generic) else value for value in values]
    if pa.types.is_string(type_):
        return _decode(items)
    if pa.types.is_float16(type_):
        return pa.array(np.array(items, np.float16), type_)
    return pa.array(items, type_)


def _decode(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        # As the answer has them.
        return pa.array([value.decode(errors="replace") for value in values], pa.string())
