"""One call of a model, which has the rows of several requests."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]


class CallValues(NamedTuple):
    """Rows of a call as values of Python.

    Attributes:
      columns: Values by input, one a row.
      outputs: Values by output, one a row.
    """

    columns: Mapping[str, Sequence[Any]]
    outputs: Mapping[str, Sequence[Any]]

    @classmethod
    def parse(cls, content: bytes) -> "CallValues":
        """Return rows that were serialized by this program."""
        return cls(*pickle.loads(content))


@dataclass
class ModelCall:
    """The inputs and outputs of a call.

    Attributes:
      columns: Values by input, one a row.
      outputs: Arrays by output, [rows, ...] each.
    """

    columns: Mapping[str, Sequence[Any]]
    outputs: Outputs

    @cached_property
    def content(self) -> bytes:
        """All rows, serialized once."""
        return serialize_rows(self.columns, self.outputs)


class Answer(NamedTuple):
    """The answer to one request.

    Attributes:
      columns: Inputs of its rows.
      outputs: Their outputs, [rows, ...] each.
      rows: Number of its rows.
      call: Call of the model that they are from.
      start: Place of its first row in the call.
    """

    columns: Mapping[str, Sequence[Any]]
    outputs: Outputs
    rows: int
    call: ModelCall
    start: int


def serialize_rows(columns: Mapping[str, Sequence[Any]], outputs: Outputs) -> bytes:
    """Return rows of a call for `CallValues.parse`."""
    # An array of few values takes ten times as long as a list.
    values = {name: array.tolist() for name, array in outputs.items()}
    return pickle.dumps((columns, values), pickle.HIGHEST_PROTOCOL)
