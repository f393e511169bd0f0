"""`why`: why a run failed, with the lines of the log that show it, and what to try."""

from pathlib import Path

from cli.errors import NotBlessedError
from cli.terminal import command
from oncall.evaluations import Judgement, read_judgement
from oncall.log_excerpts import MAX_LINES
from oncall.results import CommandResult
from oncall.run_store import LogExcerpt, Run, RunStore
from oncall.runs import describe_executions
from oncall.start_blockers import describe_blockers, suggest_commands
from oncall.text_format import format_labels, shorten
from pipeline.run.advice import suggest_commands as suggest_for_run
from pipeline.run.causes import cause, failed_node
from pipeline.run.records import RunRecord, State

_GOOD_STATES = (State.SUCCEEDED, State.CACHED, State.RUNNING, State.INCOMPLETE)


def explain_run(store: RunStore, name: str) -> CommandResult:
    """Return the cause of a run's state, and what keeps the next run from starting."""
    run = store.find_run(name)
    result = _explain_record(store, run, run.record) if run.record is not None else _explain_without_record(store, run)
    blockers, tries = describe_blockers(store), suggest_commands(store)
    document = {**result.document, **blockers, "try": [*result.document["try"], *tries]}
    problems = ((label, shorten(text, 400)) for label, text in blockers.items())
    lines = format_labels([*problems, *(("try", line) for line in tries)])
    return CommandResult(document, [*result.parts, *([""] if lines else []), *lines])


def _explain_record(store: RunStore, run: Run, record: RunRecord) -> CommandResult:
    is_bad = run.state not in _GOOD_STATES
    node = failed_node(record) if is_bad else None
    reason = cause(record, run.state) or "nothing went wrong"
    excerpt = store.read_log_excerpt(record, node) if is_bad else LogExcerpt(record.log or "", [])
    not_blessed = record.exit_code == NotBlessedError.exit_code
    judgement = read_judgement(store, run.run_id) if not_blessed else Judgement()
    good = store.find_last_success(run.run_id) if run.state is State.FAILED else None
    text = "\n".join([reason, *excerpt.lines])
    tries = suggest_for_run(record, run.state, store.location_flags, text, good, Path(store.location))
    document = {
        "run": run.run_id,
        "state": run.state,
        "exit_code": record.exit_code,
        "node": node,
        "cause": reason,
        "missed": list(judgement.missed),
        "warned": list(judgement.warned),
        "decision": judgement.decision,
        "log": excerpt.location if is_bad else record.log,
        "lines": excerpt.lines,
        "try": tries,
    }
    code = f", exit code {record.exit_code}" if record.exit_code else ""
    first, *rest = reason.splitlines() or [""]
    parts = format_labels([("run", run.run_id), ("state", f"{run.state}{code}"), ("node", node), ("cause", first)])
    parts += [f"{'':<10} {shorten(line, 200)}" for line in rest[:MAX_LINES]]
    parts += format_labels(("missed", line) for line in judgement.missed[:MAX_LINES])
    parts += format_labels(("warned", line) for line in judgement.warned[:MAX_LINES])
    parts += format_labels([("decision", judgement.decision)])
    if is_bad:
        location = excerpt.location or "none: the run was started with --verbose"
        parts += ["", f"log        {location}", *excerpt.problem.splitlines()]
        nothing = [] if excerpt.problem else ["(the log has no more lines about it)"]
        parts += [f"  {line}" for line in excerpt.lines or nothing]
    return CommandResult(document, [*parts, "", *(f"try        {line}" for line in tries)])


def _explain_without_record(store: RunStore, run: Run) -> CommandResult:
    reason = store.damaged_records.get(run.run_id) or describe_executions(store, run.run_id)
    tries = [command("python", "-m", "oncall", "show", run.run_id) + store.location_flags]
    document = {"run": run.run_id, "state": run.state, "cause": reason, "node": None, "lines": [], "try": tries}
    labels = [("run", run.run_id), ("state", run.state), ("cause", reason), *(("try", line) for line in tries)]
    return CommandResult(document, format_labels(labels))
