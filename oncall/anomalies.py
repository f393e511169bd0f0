"""`anomalies`: the anomalies that ExampleValidator found in a run's data, and the gate's verdict."""

from dataclasses import dataclass

from components.example_validator.anomalies import ANOMALIES_FILE, list_anomalies, parse_anomalies
from components.gate.report import GateReport
from components.policy import ADVICE, Verdict
from oncall.metadata import Outputs
from oncall.results import CommandResult
from oncall.run_store import RunStore
from oncall.text_format import format_labels
from pipeline.run.causes import explain_state
from pipeline.run.records import RunRecord

_SPLIT = "Split-"


@dataclass(frozen=True)
class GateOutcome:
    """The outcome of a run's gate.

    Attributes:
      text: Outcome in words.
      verdict: Verdict that stopped the run; empty if it did not.
      advice: Advice of that verdict; empty without one.
    """

    text: str
    verdict: Verdict
    advice: str = ""


def report_anomalies(store: RunStore, name: str) -> CommandResult:
    """Return the anomalies of one run."""
    run = store.find_run(name)
    outputs = store.metadata.get_run_outputs(run.run_id)
    anomalies, report = read_anomalies(outputs), read_gate_report(outputs)
    warnings = report.warnings if report else []
    gate = read_gate_outcome(run.record)
    reached = "ExampleValidator" in outputs
    document = {
        "run": run.run_id,
        "state": run.state,
        "gate": gate.text,
        "stops": gate.verdict.stops,
        "advice": gate.advice,
        "warnings": warnings,
        "compared": report.compared if report else {},
        "history": report.history if report else None,
        "reached": reached,
        "validator": anomalies,
    }
    lines = format_labels(
        [
            ("run", f"{run.run_id} {run.state}"),
            ("gate", gate.text),
            *(("stopped by", line) for line in gate.verdict.stops),
            ("do", gate.advice),
            *(("warning", line) for line in warnings),
            ("compared", _format_comparison(report)),
            *(("validator", line) for line in anomalies),
        ]
    )
    if not anomalies:
        lines.append("validator  no anomalies" if reached else "validator  was not reached, or its files are gone")
    if not reached and run.record is not None and explain_state(run.record, run.state):
        lines.append(f"cause      {explain_state(run.record, run.state).splitlines()[0]}")
    return CommandResult(document, lines)


def read_gate_outcome(record: RunRecord | None) -> GateOutcome:
    """Return the outcome of a run's gate, from its record alone."""
    gate = record.nodes.get("Gate") if record else None
    if gate is None:
        return GateOutcome("not reached", Verdict([], []))
    if gate.state == "failed":
        return GateOutcome("STOPPED the run", Verdict.parse(gate.error), ADVICE if ADVICE in gate.error else "")
    return GateOutcome("was cut off" if gate.state == "running" else "passed", Verdict([], []))


def _format_comparison(report: GateReport | None) -> str:
    if report is None:
        return ""
    counts = ", ".join(f"{number} features for {kind}" for kind, number in report.compared.items())
    return counts + ("" if report.history else "; nothing was pushed before, so there is no drift")


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


def read_gate_report(outputs: Outputs) -> GateReport | None:
    """Return Gate's report; None if it wrote none, or the file is missing."""
    for artifact in outputs.get("Gate", {}).get("report", ()):
        try:
            return GateReport.load(artifact.folder)
        except (OSError, ValueError):
            return None
    return None
