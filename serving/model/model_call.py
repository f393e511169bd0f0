"""One call of a model, which has the rows of several requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ModelCall:
    """The inputs and outputs of a call.

    Attributes:
      columns: Values by input, one a row.
      outputs: Arrays by output, [rows, ...] each.
    """

    columns: Mapping[str, Sequence[Any]]
    outputs: Outputs

    def select(self, start: int, rows: int) -> "ModelCall":
        """Return the rows of one request, which keeps no others in memory."""
        end = start + rows
        return ModelCall(
            {name: values[start:end] for name, values in self.columns.items()},
            {name: values[start:end].copy() for name, values in self.outputs.items()},
        )
