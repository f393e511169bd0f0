"""Golden requests: rows with the answers that the evaluated model gave; a deployment has to give the same."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class GoldenRequests:
    """Requests and what they must be answered with.

    Attributes:
      instances: raw values by the model's input names, as JSON.
      predictions: outputs by name for each instance, but for the version, which a push decides.
      tolerance: how far a number in an answer may be off, relative to it or, near zero, absolute.
    """

    instances: Sequence[Mapping[str, Any]]
    predictions: Sequence[Mapping[str, Any]]
    tolerance: float = 1e-3

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "GoldenRequests":
        """Raise ValueError, KeyError or TypeError if the text is something else."""
        values = json.loads(text)
        return cls(values["instances"], values["predictions"], float(values["tolerance"]))

    def difference(self, answers: Sequence[Any]) -> str | None:
        """Return what is wrong with the answers, in words; None if nothing is."""
        if len(answers) != len(self.predictions):
            return f"{len(answers)} answers to {len(self.predictions)} requests"
        for row, (expected, found) in enumerate(zip(self.predictions, answers, strict=True)):
            for name, value in expected.items():
                if not isinstance(found, Mapping) or name not in found:
                    return f"request {row}: no '{name}' in the answer {found!r}"
                if not _alike(value, found[name], self.tolerance):
                    return f"request {row}: {name} is {found[name]!r}, expected {value!r}"
        return None


def _alike(expected: Any, found: Any, tolerance: float) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(_alike(e, f, tolerance) for e, f in zip(expected, found, strict=True))
        )
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return math.isclose(expected, found, rel_tol=tolerance, abs_tol=tolerance)
    return bool(expected == found)
