"""`why`: why a run failed, with the lines of the log that show it, and what to try."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cli.counts import format_count
from cli.errors import NotBlessedError, PipelineError
from cli.terminal import format_command
from oncall.anomalies import read_gate_report
from oncall.evaluations import Judgement, read_judgement
from oncall.log_excerpts import MAX_LINES
from oncall.model_versions import RollbackInForce
from oncall.results import CommandResult
from oncall.run_store import LogExcerpt, Run, RunStore
from oncall.runs import describe_executions
from oncall.start_blockers import describe_blockers, suggest_commands
from oncall.text_format import format_labels, shorten
from pipeline.run.advice import suggest_commands as suggest_for_run
from pipeline.run.advice import suggest_oncall
from pipeline.run.causes import explain_state, find_blamed_node, find_failed_node
from pipeline.run.records import Kind, RunRecord, RunState

# As components/evaluator/evaluation.py writes it, without a version.
_BASELINE = "the last blessed model"
_GOOD_STATES = (RunState.SUCCEEDED, RunState.CACHED, RunState.RUNNING, RunState.INCOMPLETE)


def explain_run(store: RunStore, name: str) -> CommandResult:
    """Return the cause of a run's state, and what keeps the next run from starting."""
    run = store.find_run(name)
    result = _explain_record(store, run, run.record) if run.record is not None else _explain_without_record(store, run)
    blockers, tries = describe_blockers(store), suggest_commands(store)
    document = {**result.document, **blockers, "try": [*result.document["try"], *tries]}
    problems = ((label, shorten(text, 400)) for label, text in blockers.items())
    lines = format_labels([*problems, *(("try", line) for line in tries)])
    return CommandResult(document, [*lines, *([""] if lines else []), *result.parts])


def _explain_record(store: RunStore, run: Run, record: RunRecord) -> CommandResult:
    is_bad = run.state not in _GOOD_STATES
    node = find_failed_node(record) if is_bad else None
    warnings = list(_read_warnings(store, record)) if run.state is not RunState.RUNNING else []
    reason = explain_state(record, run.state) or (
        format_count(len(warnings), "warning") if warnings else "nothing went wrong"
    )
    activity = store.describe_activity(record) if run.state is RunState.RUNNING else None
    if activity is not None:
        reason = str(activity)
    rollback = _find_rollback(store)
    newer = store.describe_newer_champion(record) if is_bad else ""
    resumptions = store.find_resumptions(run.run_id)
    excerpt = store.read_log_excerpt(record, node) if is_bad else LogExcerpt(record.log or "", [])
    not_blessed = record.exit_code == NotBlessedError.exit_code
    judgement = read_judgement(store, run.run_id) if not_blessed else Judgement()
    if not_blessed:
        baseline = _find_baseline(store, run.run_id)
        reason = reason.replace(_BASELINE, baseline)
        judgement = replace(judgement, missed=[line.replace(_BASELINE, baseline) for line in judgement.missed])
    good = store.find_last_success(run.run_id) if run.state is RunState.FAILED else None
    text = "\n".join([reason, *excerpt.lines])
    tries = suggest_for_run(record, run.state, store.location_flags, text, good, Path(store.location))
    if activity is not None and activity.todo:
        tries = [activity.todo, *tries]
    if newer:
        # What a push would replace is newer: a command that needs --yes is not the first advice.
        tries = [line for line in tries if " oncall resume " not in line]
        tries.append(suggest_oncall("check", here=store.location_flags, note="whether the newer version serves well"))
    document = {
        "run": run.run_id,
        "state": run.state,
        "exit_code": record.exit_code,
        "node": find_blamed_node(record) if is_bad else None,
        "cause": reason,
        "warnings": warnings,
        "resumes": record.resumes,
        "resumed_by": resumptions,
        "newer": newer,
        "rollback": str(rollback) if rollback is not None else "",
        "missed": list(judgement.missed),
        "warned": list(judgement.warned),
        "decision": judgement.decision,
        "log": excerpt.location if is_bad else record.log,
        "lines": excerpt.lines,
        "try": tries,
    }
    code = f", exit code {record.exit_code}" if record.exit_code else ""
    first, *rest = reason.splitlines() or [""]
    parts = format_labels(
        [
            ("run", run.run_id),
            ("state", f"{run.state}{code}"),
            ("node", document["node"]),
            ("cause", first),
            ("resumes", record.resumes),
            ("resumed by", ", ".join(resumptions)),
            ("newer", f"{newer} serves; `resume` would replace it and needs --yes" if newer else ""),
            ("serving", f"version {rollback.version}, {rollback}" if rollback is not None else ""),
        ]
    )
    parts += [f"{'':<10} {shorten(line, 200)}" for line in rest[:MAX_LINES]]
    parts += format_labels(("missed", line) for line in judgement.missed[:MAX_LINES])
    parts += format_labels(("warning", shorten(line, 400)) for line in warnings[:MAX_LINES])
    parts += format_labels(("warned", line) for line in judgement.warned[:MAX_LINES] if line not in warnings)
    parts += format_labels([("decision", judgement.decision)])
    parts += ["", *(f"try        {line}" for line in tries)]
    if is_bad:
        location = excerpt.location or "none: the run was started with --verbose"
        parts += ["", f"log        {location}", *excerpt.problem.splitlines()]
        nothing = [] if excerpt.problem else ["(the log has no more lines about it)"]
        parts += [f"  {line}" for line in excerpt.lines or nothing]
    return CommandResult(document, parts)


def _read_warnings(store: RunStore, record: RunRecord) -> Iterator[str]:
    """Yield the warnings of a run's gate and of its Evaluator; none if they cannot be read."""
    yield from record.warnings
    if record.kind is not Kind.VERTEX:
        return
    try:
        outputs = store.metadata.get_run_outputs(record.run_id)
    except PipelineError:
        return
    report = read_gate_report(outputs)
    yield from report.warnings if report else ()
    yield from read_judgement(store, record.run_id).warned


def _find_baseline(store: RunStore, run_id: str) -> str:
    """Return the version of the model that a run's Evaluator compared with; or its description if it is none."""
    try:
        metadata, model_versions = store.metadata, store.find_model_versions(None, None)
        executions = [
            e for e in metadata.get_run_executions(run_id) if metadata.get_run_and_node(e.id)[1] == "Evaluator"
        ]
        outputs = [
            event.artifact_id for event in metadata.get_execution_events(e.id for e in executions) if event.is_output
        ]
        # A cached evaluation is another run's, and so is its baseline.
        makers = {maker.id for maker in metadata.find_makers(outputs).values()}
        inputs = [event for event in metadata.get_execution_events(makers) if not event.is_output]
        models = {event.artifact_id for event in inputs if event.key == "baseline_model"}
        numbers = [version.number for version in model_versions.list_versions() if version.model in models]
    except PipelineError:
        return _BASELINE
    return f"version {numbers[-1]}" if numbers else _BASELINE


def _find_rollback(store: RunStore) -> RollbackInForce | None:
    """Return the rollback that is in force; None if there is none, or the registry cannot be read."""
    try:
        return store.find_model_versions(None, None).rollback
    except PipelineError:
        # `check` reports it.
        return None


def _explain_without_record(store: RunStore, run: Run) -> CommandResult:
    reason = store.damaged_records.get(run.run_id) or describe_executions(store, run.run_id)
    tries = [format_command("python", "-m", "oncall", "show", run.run_id) + store.location_flags]
    document = {"run": run.run_id, "state": run.state, "cause": reason, "node": None, "lines": [], "try": tries}
    labels = [("run", run.run_id), ("state", run.state), ("cause", reason), *(("try", line) for line in tries)]
    return CommandResult(document, format_labels(labels))
