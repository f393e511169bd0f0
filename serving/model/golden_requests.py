"""Golden requests: rows with the evaluated model's answers, which every deployment must repeat."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cli.counts import format_count
from serving.registry import parse_json


@dataclass(frozen=True)
class GoldenRequests:
    """Requests with the answers that they must get.

    Attributes:
      instances: raw values by the model's input names, as JSON.
      predictions: outputs by name for each instance, without the version, which a push decides.
      tolerance: largest difference of a number in an answer, relative or, near zero, absolute.
    """

    instances: Sequence[Mapping[str, Any]]
    predictions: Sequence[Mapping[str, Any]]
    tolerance: float = 1e-3

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "GoldenRequests":
        """Parse the JSON of `to_json`.

        Raises:
          ValueError, KeyError, TypeError: the string is something else.
        """
        values = parse_json(text)
        return cls(values["instances"], values["predictions"], float(values["tolerance"]))

    def find_difference(self, answers: Sequence[Any]) -> str | None:
        """Return a message about the first wrong answer; None if all are right."""
        if len(answers) != len(self.predictions):
            return f"{format_count(len(answers), 'answer')} to {format_count(len(self.predictions), 'request')}"
        for row, (expected, answer) in enumerate(zip(self.predictions, answers, strict=True)):
            for name, value in expected.items():
                if not isinstance(answer, Mapping) or name not in answer:
                    return f"request {row}: no '{name}' in the answer {answer!r}"
                if not _is_close(value, answer[name], self.tolerance):
                    return f"request {row}: {name} is {answer[name]!r}, expected {value!r}"
        return None


def _is_close(expected: Any, actual: Any, tolerance: float) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(_is_close(e, a, tolerance) for e, a in zip(expected, actual, strict=True))
        )
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return math.isclose(expected, actual, rel_tol=tolerance, abs_tol=tolerance)
    return bool(expected == actual)
