"""`runs` and `show`: the runs with their ends, and the nodes of one run."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cli.errors import ConfigError, RunRootError
from oncall.evaluations import Judgement, read_judgement
from oncall.results import CommandResult, ResultTable
from oncall.run_store import Run, RunList, RunStore
from oncall.start_blockers import describe_rejection, suggest_commands
from oncall.text_format import format_labels, format_seconds, format_time, join_heading
from pipeline.run.causes import explain_state
from pipeline.run.records import Kind, PushResult, RunRecord, RunState, find_clock_conflicts

# The property in which pipeline/run/dag_runner.py keeps the error of a failed execution.
_ERROR_PROPERTY = "error"
_KINDS = {Kind.LOCAL: "", Kind.REHEARSAL: ", a rehearsal", Kind.VERTEX: ", on Vertex AI"}
_NO_RECORD = "no record; only ML Metadata has it"
_RECORD_KEYS = (
    "config_hash",
    "revision",
    "dirty",
    "host",
    "pid",
    "user",
    "command",
    "log",
    "exit_code",
    "error",
    "until",
    "alert",
    "reason_to_run",
    "warnings",
    "measures",
)


@dataclass(frozen=True)
class RunRow:
    """A run in a list of runs.

    Attributes:
      run: ID of the run.
      state: State.
      started: Time of its start in seconds since 1970; None if it has no record.
      seconds: Duration; None if it is unknown.
      pushed: Result of the push; None if it is unknown.
      cause: Cause of the state; empty if it succeeded.
    """

    run: str
    state: RunState
    started: float | None
    seconds: float | None
    pushed: PushResult | None
    cause: str


def list_runs(store: RunStore, limit: int, skip: int = 0) -> CommandResult:
    """Return the newest runs after the first `skip`."""
    newest = store.list_runs(limit, skip)
    rows = [describe_run(store, run, readable=not newest.error) for run in newest.runs]
    table = ResultTable(
        ("run", "state", "started", "took", "pushed", "cause"),
        [_format_cells(row) for row in rows],
        sentences=("cause",),
        least=("started", "took"),
    )
    rejection = describe_rejection(store)
    records = (run.record for run in newest.runs if run.record is not None)
    conflicts = [str(conflict) for conflict in find_clock_conflicts(records, time.time())]
    document = {
        "run_root": store.location,
        "runs": [{**asdict(row), "pushed": str(row.pushed or "")} for row in rows],
        "total": newest.total,
        "refused": rejection,
        "clocks": conflicts,
    }
    tries = (("try", line) for line in suggest_commands(store))
    clocks = (("clock", line) for line in conflicts[:1])
    blockers = format_labels([("refused", join_heading(rejection)), *clocks, *tries])
    code = RunRootError.exit_code if newest.error else 0
    if not rows:
        return CommandResult(document, ["no runs yet"], code, newest.error)
    return CommandResult(document, [table, *_describe_rest(newest, limit), *blockers], code, newest.error)


def _format_cells(row: RunRow) -> list[str]:
    label, reason = (row.pushed.label, row.pushed.reason) if row.pushed is not None else ("", "")
    return [row.run, row.state, format_time(row.started), format_seconds(row.seconds), label, row.cause or reason]


def _describe_rest(newest: RunList, limit: int) -> list[str]:
    if newest.total is None:
        return [f"older runs are not shown; --limit {10 * limit} shows more"]
    if newest.total <= limit:
        return []
    return [f"{newest.total - limit} older runs are not shown; --limit {newest.total} shows all"]


def describe_run(store: RunStore, run: Run, *, readable: bool) -> RunRow:
    """Return a run as a list of runs has it."""
    record = run.record
    if record is None:
        reason = store.damaged_records.get(run.run_id) or describe_executions(store, run.run_id, readable)
        return RunRow(run.run_id, run.state, None, None, None, reason)
    seconds = _measure_run(record, run.state)
    return RunRow(run.run_id, run.state, record.started, seconds, record.push, explain_state(record, run.state))


def describe_executions(store: RunStore, run_id: str, readable: bool = True) -> str:
    """Return the executions of a run without a record by state, and their last change."""
    executions = store.metadata.get_run_executions(run_id) if readable else []
    if not executions:
        return _NO_RECORD
    counts = Counter(execution.state for execution in executions)
    states = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    last = max(execution.last_update_time_since_epoch for execution in executions) / 1000
    return f"no record; executions: {states}; last change {format_time(last)}"


def _measure_run(record: RunRecord, state: RunState) -> float | None:
    """Return the seconds from start to end, or until now."""
    if record.ended is not None:
        return record.ended - record.started
    return time.time() - record.started if state is RunState.RUNNING else None


def get_record(store: RunStore, run: Run) -> RunRecord:
    """Return the record of a run.

    Raises:
      ConfigError: it does not exist or cannot be read.
    """
    if run.record is None:
        reason = store.damaged_records.get(run.run_id) or f"run {run.run_id}: has no record; only ML Metadata has it"
        raise ConfigError(reason)
    return run.record


def show_run(store: RunStore, name: str) -> CommandResult:
    """Return the record of a run and its nodes."""
    run = store.find_run(name)
    if run.record is None:
        return _show_without_record(store, run)
    record, error = run.record, ""
    makers: Mapping[str, str] = {}
    findings: Mapping[str, str] = {}
    # A rehearsal leaves nothing in ML Metadata.
    if record.kind != Kind.REHEARSAL:
        try:
            makers = _find_makers(store, run.run_id)
            findings = store.metadata.get_findings(run.run_id)
        except RunRootError as caught:
            error = str(caught)
    judgement = read_judgement(store, run.run_id)
    activity = store.describe_activity(record) if run.state is RunState.RUNNING else None
    reason = explain_state(record, run.state) if activity is None else str(activity)
    names = dict.fromkeys([*record.expected, *record.nodes])
    nodes = [_describe_node(record, run.state, name, makers) for name in names]
    document = {
        "run": run.run_id,
        "state": run.state,
        "pipeline": record.pipeline,
        "started": record.started,
        "seconds": _measure_run(record, run.state),
        **{key: getattr(record, key) for key in _RECORD_KEYS},
        "resumes": record.resumes,
        "resumed_by": store.find_resumptions(run.run_id),
        "config": record.shown_config,
        "summary": record.result_texts,
        "cause": reason,
        "try": [activity.todo] if activity is not None and activity.todo else [],
        "decision": judgement.decision,
        "weight_column": judgement.weight_column,
        "challengers": dict(judgement.challengers),
        "findings": dict(findings),
        "nodes": nodes,
    }
    table = ResultTable(
        ("node", "state", "took", "made by run", "error"),
        [(n["node"], n["state"], format_seconds(n["seconds"]), n["made_by"], n["error"]) for n in nodes],
        sentences=("error",),
        least=("made by run", "took"),
    )
    code = RunRootError.exit_code if error else 0
    head = _format_record(record, run, judgement, document["resumed_by"], reason)
    head += format_labels(("finding", f"{name}: {text}") for name, text in findings.items())
    tries = format_labels(("try", line) for line in document["try"])
    return CommandResult(document, [*head, table, *tries], code, error)


def _format_record(
    record: RunRecord, run: Run, judgement: Judgement, resumed_by: Sequence[str], reason: str
) -> list[str]:
    changes = {True: ", with uncommitted changes", False: "", None: ""}[record.dirty]
    took = format_seconds(_measure_run(record, run.state)) or "unknown time"
    return format_labels(
        [
            ("run", f"{run.run_id} of {record.pipeline}{_KINDS[record.kind]}"),
            ("state", f"{run.state}" + (f", exit code {record.exit_code}" if record.exit_code else "")),
            (
                "started",
                f"{format_time(record.started)}, {'runs for' if run.state is RunState.RUNNING else 'took'} {took}",
            ),
            ("reason", record.reason_to_run),
            ("resumes", record.resumes),
            ("resumed by", ", ".join(resumed_by)),
            ("config", f"{record.config_hash or 'no hash'}; --json shows all of it"),
            ("revision", f"{record.revision or 'unknown'}{changes}"),
            ("by", f"{record.user} on {record.host}, process {record.pid}" if record.user else ""),
            ("command", record.command_line),
            ("log", record.log),
            ("cause", join_heading(reason)),
            ("decision", judgement.decision),
            *judgement.challengers.items(),
            ("weighted", f"by {judgement.weight_column}" if judgement.weight_column else ""),
            *record.result_texts.items(),
            ("alert", record.alert),
            *(("warning", line) for line in record.warnings),
        ]
    )


def _find_makers(store: RunStore, run_id: str) -> dict[str, str]:
    """Return the run that made each node's outputs."""
    outputs = store.metadata.get_run_outputs(run_id)
    first = {node: next(iter(by_output.values()))[0].id for node, by_output in outputs.items()}
    makers = store.metadata.find_makers(first.values())
    return {node: store.metadata.get_run_and_node(makers[id_].id)[0] for node, id_ in first.items() if id_ in makers}


def _describe_node(record: RunRecord, state: RunState, name: str, makers: Mapping[str, str]) -> dict[str, Any]:
    node = record.nodes.get(name)
    if node is None:
        return {"node": name, "state": "not reached", "seconds": None, "made_by": "", "error": ""}
    return {
        "node": name,
        "state": node.state if node.ended is not None or state is RunState.RUNNING else "cut off",
        "seconds": node.ended - node.started if node.ended is not None else None,
        "made_by": makers.get(name, "") if node.state == "cached" else "",
        "error": node.error,
    }


def _show_without_record(store: RunStore, run: Run) -> CommandResult:
    metadata = store.metadata
    nodes = []
    for execution in metadata.get_run_executions(run.run_id):
        error = str(execution.properties.get(_ERROR_PROPERTY, ""))
        node = metadata.get_run_and_node(execution.id)[1]
        nodes.append({"node": node, "state": execution.state.lower(), "error": error})
    reason = store.damaged_records.get(run.run_id) or describe_executions(store, run.run_id)
    document = {"run": run.run_id, "state": run.state, "cause": reason, "nodes": nodes}
    cells = [(node["node"], node["state"], node["error"]) for node in nodes]
    table = ResultTable(("node", "state", "error"), cells, sentences=("error",))
    head = format_labels([("run", run.run_id), ("state", run.state), ("cause", reason)])
    return CommandResult(document, [*head, table])
