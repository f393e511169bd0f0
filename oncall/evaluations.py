"""What Evaluator measured, from the summary that it writes beside TFMA's files."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cli.errors import DataError, RunRootError
from oncall.graph import Outputs
from oncall.sources import Source

# As components/evaluator/evaluation.py calls it.
_SUMMARY = "summary.json"


def _summary(outputs: Outputs) -> dict[str, Any]:
    for artifact in outputs.get("Evaluator", {}).get("evaluation", ()):
        try:
            found = json.loads((artifact.folder / _SUMMARY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def metrics(outputs: Outputs) -> dict[str, float]:
    """Return the candidate's metrics, by slice and name, NaN where one is undefined; none where its files are gone."""
    try:
        return {
            f"{where}: {name}": math.nan if value is None else float(value)
            for where, of_slice in _summary(outputs).get("metrics", {}).items()
            for name, value in of_slice.items()
        }
    except (AttributeError, TypeError, ValueError):
        return {}


@dataclass(frozen=True)
class Judgement:
    """What Evaluator said of a run's model, in words; all empty where it cannot be read.

    Attributes:
      missed: why the model was not blessed.
      warned: what is to be known of it nevertheless.
      constant: its loss beside that of the constant predictor.
      decision: threshold of a binary label and the costs it was chosen by; empty without declared costs.
    """

    missed: Sequence[str] = ()
    warned: Sequence[str] = ()
    constant: str = ""
    decision: str = ""


def judgement(evidence: Source, run_id: str) -> Judgement:
    """Return what Evaluator said of a run's model."""
    try:
        found = _summary(evidence.metadata.outputs(run_id))
    except RunRootError:
        return Judgement()
    return Judgement(
        missed=_lines(found.get("failures")),
        warned=_lines(found.get("warnings")),
        constant=_text(found.get("constant_predictor")),
        decision=_text(found.get("decision")),
    )


def _text(found: Any) -> str:
    return str(found.get("text", "")) if isinstance(found, dict) else ""


def _lines(found: Any) -> list[str]:
    return [str(line) for line in found] if isinstance(found, list) else []


@dataclass(frozen=True)
class Measured:
    """One metric of one slice: the candidate's, and the baseline's on the same rows, if it has one."""

    value: float | None
    baseline: float | None = None

    @property
    def change(self) -> float | None:
        return None if self.value is None or self.baseline is None else self.value - self.baseline


def by_slice(outputs: Outputs) -> dict[str, dict[str, Measured]]:
    """Return the metrics by slice and name, beside the baseline's; none if Evaluator has not ended.

    Raises:
      DataError: they cannot be read.
    """
    if "Evaluator" not in outputs:
        return {}
    summary = _summary(outputs)
    try:
        baseline = summary.get("baseline", {})
        found = {
            str(where): {
                str(name): Measured(_number(value), _number(baseline.get(where, {}).get(name)))
                for name, value in of_slice.items()
            }
            for where, of_slice in summary.get("metrics", {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{_SUMMARY}: is damaged: {error}") from error
    if not found:
        places = ", ".join(artifact.uri for artifact in outputs["Evaluator"].get("evaluation", ())) or "Evaluator"
        raise DataError(f"{places}: holds no {_SUMMARY} that can be read; was it deleted?")
    return found


def _number(value: Any) -> float | None:
    # An undefined metric is null in the file; earlier it was NaN.
    return None if value is None or not math.isfinite(value) else float(value)
