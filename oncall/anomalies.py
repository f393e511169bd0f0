"""`anomalies`: the anomalies that ExampleValidator found in a run's data, and the gate's verdict."""

import json
from typing import Any

from components.example_validator.anomalies import ANOMALIES_FILE, list_anomalies, parse_anomalies
from components.policy import ADVICE, stopping
from oncall.metadata import Outputs
from oncall.results import CommandResult
from oncall.run_store import RunStore
from oncall.text_format import format_labels
from pipeline.run.causes import cause
from pipeline.run.records import RunRecord

_SPLIT = "Split-"


def report_anomalies(store: RunStore, name: str) -> CommandResult:
    """Return the anomalies of one run."""
    run = store.find_run(name)
    outputs = store.metadata.get_run_outputs(run.run_id)
    anomalies, report = read_anomalies(outputs), read_gate_report(outputs)
    warnings = list((report or {}).get("warnings", ()))
    gate, stops, advice = read_verdict(run.record)
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
        "validator": anomalies,
    }
    lines = format_labels(
        [
            ("run", f"{run.run_id} {run.state}"),
            ("gate", gate),
            *(("stopped by", line) for line in stops),
            ("do", advice),
            *(("warning", line) for line in warnings),
            ("compared", _format_comparison(report)),
            *(("validator", line) for line in anomalies),
        ]
    )
    if not anomalies:
        lines.append("validator  no anomalies" if reached else "validator  was not reached, or its files are gone")
    if not reached and run.record is not None and cause(run.record, run.state):
        lines.append(f"cause      {cause(run.record, run.state).splitlines()[0]}")
    return CommandResult(document, lines)


def read_verdict(record: RunRecord | None) -> tuple[str, list[str], str]:
    """Return the gate's verdict, the lines of its refusal, and its advice."""
    gate = record.nodes.get("Gate") if record else None
    if gate is None:
        return "not reached", [], ""
    verdict = {"failed": "STOPPED the run", "running": "was cut off"}.get(gate.state, "passed")
    if gate.state != "failed":
        return verdict, [], ""
    return verdict, stopping(gate.error), ADVICE if ADVICE in gate.error else ""


def _format_comparison(report: dict[str, Any] | None) -> str:
    if report is None:
        return ""
    counts = ", ".join(f"{number} features for {kind}" for kind, number in report.get("compared", {}).items())
    return counts + ("" if report.get("history") else "; nothing was pushed before, so there is no drift")


def read_anomalies(outputs: Outputs) -> list[str]:
    """Return ExampleValidator's anomalies, a line each: split, feature, problem."""
    lines: list[str] = []
    for artifact in outputs.get("ExampleValidator", {}).get("anomalies", ()):
        for file in sorted(artifact.folder.glob(f"{_SPLIT}*/{ANOMALIES_FILE}")):
            split = file.parent.name.removeprefix(_SPLIT)
            try:
                lines += map(str, list_anomalies(parse_anomalies(file.read_bytes()), split))
            except (OSError, ValueError) as error:
                lines.append(f"{split}: {file}: cannot be read: {error}")
    return lines


def read_gate_report(outputs: Outputs) -> dict[str, Any] | None:
    """Return Gate's report; None if it wrote none, or the file is missing."""
    for artifact in outputs.get("Gate", {}).get("report", ()):
        try:
            report = json.loads(artifact.folder.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) else None
    return None
