"""`anomalies`: what ExampleValidator found in a run's data, and what Gate made of it."""

import json
from typing import Any

from components.example_validator.anomalies import ANOMALIES_FILE, listed, parsed
from components.policy import ADVICE, stopping
from oncall.graph import Outputs
from oncall.sources import Source
from oncall.terminal import Answer, labelled
from pipeline.run.causes import cause
from pipeline.run.records import RunRecord

_SPLIT = "Split-"


def anomalies(evidence: Source, name: str) -> Answer:
    """Return the anomalies of one run."""
    run = evidence.find(name)
    outputs = evidence.metadata.outputs(run.run_id)
    found, report = validator_anomalies(outputs), gate_report(outputs)
    warnings = list((report or {}).get("warnings", ()))
    gate, stops, advice = verdict(run.record)
    reached = "ExampleValidator" in outputs
    document = {
        "run": run.run_id,
        "state": run.state,
        "gate": gate,
        "stops": stops,
        "advice": advice,
        "warnings": warnings,
        "compared": (report or {}).get("compared", {}),
        "history": (report or {}).get("history"),
        "reached": reached,
        "validator": found,
    }
    shown = labelled(
        [
            ("run", f"{run.run_id} {run.state}"),
            ("gate", gate),
            *(("stopped by", line) for line in stops),
            ("do", advice),
            *(("warning", line) for line in warnings),
            ("compared", _compared(report)),
            *(("validator", line) for line in found),
        ]
    )
    if not found:
        shown.append("validator  no anomalies" if reached else "validator  did not come so far, or its files are gone")
    if not reached and run.record is not None and cause(run.record, run.state):
        shown.append(f"cause      {cause(run.record, run.state).splitlines()[0]}")
    return Answer(document, shown)


def verdict(record: RunRecord | None) -> tuple[str, list[str], str]:
    """Return what the gate said of a run's data, in words; the lines of its refusal; and what to do then."""
    gate = record.nodes.get("Gate") if record else None
    if gate is None:
        return "not reached", [], ""
    said = {"failed": "STOPPED the run", "running": "was cut off"}.get(gate.state, "passed")
    if gate.state != "failed":
        return said, [], ""
    return said, stopping(gate.error), ADVICE if ADVICE in gate.error else ""


def _compared(report: dict[str, Any] | None) -> str:
    if report is None:
        return ""
    counted = ", ".join(f"{number} features for {kind}" for kind, number in report.get("compared", {}).items())
    return counted + ("" if report.get("history") else "; nothing was pushed before, so there is no drift")


def validator_anomalies(outputs: Outputs) -> list[str]:
    """Return what ExampleValidator found, a line each: split, feature, what is wrong."""
    found: list[str] = []
    for artifact in outputs.get("ExampleValidator", {}).get("anomalies", ()):
        for file in sorted(artifact.folder.glob(f"{_SPLIT}*/{ANOMALIES_FILE}")):
            split = file.parent.name.removeprefix(_SPLIT)
            try:
                found += map(str, listed(parsed(file.read_bytes()), split))
            except (OSError, ValueError) as error:
                found.append(f"{split}: {file}: cannot be read: {error}")
    return found


def gate_report(outputs: Outputs) -> dict[str, Any] | None:
    """Return what Gate wrote; None if it wrote nothing, or it is gone."""
    for artifact in outputs.get("Gate", {}).get("report", ()):
        try:
            found = json.loads(artifact.folder.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None
    return None
