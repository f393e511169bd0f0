"""The differences between two answers to the same rows: changed decisions, and differences of scores.

A decision is the predicted label, by argmax or by the model's own threshold. A number is another decision if it differs
by more than a relative tolerance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.model.output_names import PREDICTION, PROBABILITIES, PROBABILITY
from serving.model.signatures import CLASSES, MODEL_VERSION, PREDICTED_LABEL, SCHEMA_HASH

Arrays = Mapping[str, NDArray[Any]]
_DECLARED = (PREDICTED_LABEL, PREDICTION)
DEFAULT_TOLERANCE = 0.01


class OutputsDifferError(ValueError):
    """Two models have no output in common that a decision is made by."""


@dataclass(frozen=True)
class OutputComparison:
    """Differences of two answers.

    Attributes:
      changed: Whether the decision on a row differs, [rows].
      differences: Largest difference of a score, [rows]; 0 of a model without scores.
      is_numeric: Whether decisions are numbers, so that the tolerance decides.
    """

    changed: NDArray[np.bool_]
    differences: NDArray[np.float64]
    is_numeric: bool = False


def compare_outputs(before: Arrays, after: Arrays, tolerance: float = DEFAULT_TOLERANCE) -> OutputComparison:
    """Compare the outputs of two models for the same rows.

    Args:
      before: Outputs of the serving version, [rows] or [rows, ...] each.
      after: Outputs of the other version.
      tolerance: Largest relative difference of a number that leaves the decision as it is.

    Raises:
      OutputsDifferError: The models decide by other outputs.
    """
    kinds = [next((name for name in _DECLARED if name in outputs), "") for outputs in (before, after)]
    if kinds[0] != kinds[1]:
        raise OutputsDifferError(f"the outputs differ: {_join(before)}; and {_join(after)}")
    if kinds[0] == PREDICTED_LABEL:
        changed = before[PREDICTED_LABEL] != after[PREDICTED_LABEL]
        return OutputComparison(changed, _compare_probabilities(before, after, len(changed)))
    if kinds[0] == PREDICTION:
        return _compare_numbers(before[PREDICTION], after[PREDICTION], tolerance)
    names = (before.keys() & after.keys()) - {MODEL_VERSION, SCHEMA_HASH}
    if not names:
        raise OutputsDifferError(f"the outputs differ: {_join(before)}; and {_join(after)}")
    parts = [_compare_tensors(name, before[name], after[name], tolerance) for name in sorted(names)]
    return OutputComparison(
        np.asarray(np.stack([part.changed for part in parts]).any(axis=0)),
        np.stack([part.differences for part in parts]).max(axis=0),
        any(part.is_numeric for part in parts),
    )


def _join(outputs: Arrays) -> str:
    return ", ".join(sorted(outputs.keys() - {MODEL_VERSION, SCHEMA_HASH})) or "none"


def _compare_numbers(before: NDArray[Any], after: NDArray[Any], tolerance: float) -> OutputComparison:
    """Compare numbers, [rows, ...] each; a row with several differs if one of them does."""
    rows = len(before)
    old, new = (values.astype(np.float64).reshape(rows, -1) for values in (before, after))
    differences = np.abs(new - old)
    changed = np.asarray((differences > tolerance * np.abs(old)).any(axis=1))
    return OutputComparison(changed, differences.max(axis=1, initial=0.0), is_numeric=True)


def _compare_tensors(name: str, before: NDArray[Any], after: NDArray[Any], tolerance: float) -> OutputComparison:
    """Compare an output of a model without a declared label."""
    if before.shape != after.shape:
        raise OutputsDifferError(f"{name}: has shape {list(before.shape)} before, and {list(after.shape)} after")
    if before.dtype.kind == "f" and after.dtype.kind == "f":
        return _compare_numbers(before, after, tolerance)
    changed = (before != after).reshape(len(before), -1).any(axis=1)
    return OutputComparison(changed, np.zeros(len(before)))


def _compare_probabilities(before: Arrays, after: Arrays, rows: int) -> NDArray[np.float64]:
    if PROBABILITY in before and PROBABILITY in after:
        return _compare_numbers(before[PROBABILITY], after[PROBABILITY], 0.0).differences
    if not all(name in outputs for name in (PROBABILITIES, CLASSES) for outputs in (before, after)):
        return np.zeros(rows)
    old, new = (
        dict(zip(outputs[CLASSES][0].tolist(), outputs[PROBABILITIES].astype(np.float64).T, strict=True))
        for outputs in (before, after)
    )
    # A class that only one of the models has is improbable for the other.
    nothing = np.zeros(rows)
    columns = [np.abs(new.get(name, nothing) - old.get(name, nothing)) for name in old.keys() | new.keys()]
    return np.asarray(np.stack(columns).max(axis=0))
