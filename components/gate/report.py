"""Report of the gate, which it writes also for a run that it lets pass. Imports no TensorFlow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class GateReport:
    """The gate's report.

    Attributes:
      warnings: Anomalies that stop no run.
      history: Whether statistics of an earlier push were compared.
      compared: Number of comparisons by kind.
    """

    warnings: Sequence[str]
    history: bool
    compared: Mapping[str, int]

    @classmethod
    def load(cls, file: Path) -> Self:
        """Return the content of a file.

        Raises:
          OSError: It cannot be read.
          ValueError: It is not a report.
        """
        try:
            return cls(**json.loads(file.read_bytes()))
        except TypeError as error:
            raise ValueError(f"{file}: is not a report of the gate: {error}") from error
