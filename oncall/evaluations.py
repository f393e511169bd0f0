"""What Evaluator measured, from the summary that it writes beside TFMA's files."""

import json
from typing import Any

from oncall.graph import Outputs
from oncall.sources import Source
from schemas.errors import RunRootError

# As components/evaluation.py calls it.
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
    """The candidate's metrics, by slice and name; none where its files are gone."""
    try:
        # A metric that has no value is NaN in the file.
        return {
            f"{where}: {name}": float(value)
            for where, of_slice in _summary(outputs).get("metrics", {}).items()
            for name, value in of_slice.items()
            if value == value
        }
    except (AttributeError, TypeError, ValueError):
        return {}


def missed_thresholds(evidence: Source, run_id: str) -> list[str]:
    """The thresholds that a run's model missed, in words; none where they cannot be read."""
    try:
        found = _summary(evidence.metadata.outputs(run_id)).get("failures", [])
    except RunRootError:
        return []
    return [str(one) for one in found] if isinstance(found, list) else []
