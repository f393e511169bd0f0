"""`runs` and `show`: what ran, how it ended, and what each node did."""

import time
from collections import Counter
from typing import Any

from cli.errors import ConfigError, RunRootError
from oncall.evaluations import judgement
from oncall.graph import properties
from oncall.rejections import refused, tries
from oncall.sources import Listed, Run, Source
from oncall.terminal import Answer, Rows, headline, labelled, moment, seconds
from pipeline.run.causes import cause
from pipeline.run.records import Kind, RunRecord, State

# What pipeline/run/dag_runner.py keeps of a failed execution.
_ERROR_PROPERTY = "error"
_KINDS = {Kind.LOCAL: "", Kind.REHEARSAL: ", a rehearsal", Kind.VERTEX: ", on Vertex AI"}
_NO_RECORD = "no record; only ML Metadata knows it"


def listed(evidence: Source, limit: int, skip: int = 0) -> Answer:
    """Return the newest runs, after so many that are skipped."""
    newest = evidence.listed(limit, skip)
    found = [_line(evidence, run, readable=not newest.error) for run in newest.runs]
    rows = Rows(
        ("run", "state", "started", "took", "pushed", "cause"),
        [_cells(one) for one in found],
        sentences=("cause",),
        least=("started", "took"),
    )
    document = {"run_root": evidence.place, "runs": found, "total": newest.total, "refused": refused(evidence)}
    since = labelled([("refused", headline(refused(evidence))), *(("try", one) for one in tries(evidence))])
    code = RunRootError.exit_code if newest.error else 0
    return Answer(document, [rows, *_more(newest, limit), *since] if found else ["no runs yet"], code, newest.error)


def _cells(one: dict[str, Any]) -> list[str]:
    what, why = push_of(one["pushed"])
    return [one["run"], one["state"], moment(one["started"]), seconds(one["seconds"]), what, one["cause"] or why]


def push_of(pushed: str) -> tuple[str, str]:
    """Return what a run pushed, `version 2` or `nothing`; and why nothing, if it succeeded."""
    version, to, _ = pushed.partition(" to ")
    what, _, why = pushed.partition(": ")
    return (version, "") if to else (what, why)


def _more(newest: Listed, limit: int) -> list[str]:
    if newest.total is None:
        return [f"older runs are not shown; --limit {10 * limit} shows more"]
    if newest.total <= limit:
        return []
    return [f"{newest.total - limit} older runs are not shown; --limit {newest.total} shows all"]


def _line(evidence: Source, run: Run, *, readable: bool) -> dict[str, Any]:
    record = run.record
    if record is None:
        said = evidence.damaged.get(run.run_id) or unknown_evidence(evidence, run.run_id, readable)
        return {"run": run.run_id, "state": run.state, "started": None, "seconds": None, "pushed": "", "cause": said}
    return {
        "run": run.run_id,
        "state": run.state,
        "started": record.started,
        "seconds": took(record, run.state),
        "pushed": record.summary.get("pushed", ""),
        "cause": cause(record, run.state),
    }


def unknown_evidence(evidence: Source, run_id: str, readable: bool = True) -> str:
    """Return what ML Metadata says of a run without a record: executions by state, the last change."""
    executions = evidence.metadata.executions(run_id) if readable else []
    if not executions:
        return _NO_RECORD
    counted = Counter(evidence.metadata.state(e) for e in executions)
    states = ", ".join(f"{number} {state}" for state, number in sorted(counted.items()))
    last = max(e.last_update_time_since_epoch for e in executions) / 1000
    return f"no record; executions: {states}; last change {moment(last)}"


def took(record: RunRecord, state: State) -> float | None:
    """Seconds from start to end, or until now."""
    if record.ended is not None:
        return record.ended - record.started
    return time.time() - record.started if state is State.RUNNING else None


def need_record(evidence: Source, run: Run) -> RunRecord:
    """Return the record of a run.

    Raises:
      ConfigError: there is none that can be read.
    """
    if run.record is None:
        why = evidence.damaged.get(run.run_id) or f"run {run.run_id}: has no record; ML Metadata alone knows it"
        raise ConfigError(why)
    return run.record


def shown(evidence: Source, name: str) -> Answer:
    """Everything about one run."""
    run = evidence.find(name)
    if run.record is None:
        return _shown_unknown(evidence, run)
    record, error = run.record, ""
    try:
        # A rehearsal leaves nothing in ML Metadata.
        makers = {} if record.kind == Kind.REHEARSAL else _makers(evidence, run.run_id)
    except RunRootError as caught:
        makers, error = {}, str(caught)
    decision = judgement(evidence, run.run_id).decision
    nodes = [_node(record, run.state, name, makers) for name in dict.fromkeys([*record.expected, *record.nodes])]
    kept = (
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
    )
    document = {
        "run": run.run_id,
        "state": run.state,
        "pipeline": record.pipeline,
        "started": record.started,
        "seconds": took(record, run.state),
        **{name: getattr(record, name) for name in kept},
        "resumes": record.resumes,
        "config": record.config,
        "summary": record.summary,
        "cause": cause(record, run.state),
        "decision": decision,
        "nodes": nodes,
    }
    rows = Rows(
        ("node", "state", "took", "made by run", "error"),
        [(n["node"], n["state"], seconds(n["seconds"]), n["made_by"], n["error"]) for n in nodes],
        sentences=("error",),
        least=("made by run", "took"),
    )
    code = RunRootError.exit_code if error else 0
    return Answer(document, [*_head(record, run, decision), rows], code, error)


def _head(record: RunRecord, run: Run, decision: str) -> list[str]:
    changed = {True: ", with uncommitted changes", False: "", None: ""}[record.dirty]
    return labelled(
        [
            ("run", f"{run.run_id} of {record.pipeline}{_KINDS[record.kind]}"),
            ("state", f"{run.state}" + (f", exit code {record.exit_code}" if record.exit_code else "")),
            ("started", f"{moment(record.started)}, took {seconds(took(record, run.state)) or 'unknown time'}"),
            ("resumes", record.resumes),
            ("config", f"{record.config_hash or 'no hash'}; --json shows all of it"),
            ("revision", f"{record.revision or 'unknown'}{changed}"),
            ("by", f"{record.user} on {record.host}, process {record.pid}" if record.user else ""),
            ("command", record.command_line),
            ("log", record.log),
            ("cause", headline(cause(record, run.state))),
            ("decision", decision),
            *(record.summary.items()),
            ("alert", record.alert),
        ]
    )


def _makers(evidence: Source, run_id: str) -> dict[str, str]:
    """Return the run that made each node's outputs."""
    outputs = evidence.metadata.outputs(run_id)
    first = {node: next(iter(found.values()))[0].id for node, found in outputs.items()}
    made = evidence.metadata.makers(first.values())
    return {node: evidence.metadata.place(made[id_].id)[0] for node, id_ in first.items() if id_ in made}


def _node(record: RunRecord, state: State, name: str, makers: dict[str, str]) -> dict[str, Any]:
    known = record.nodes.get(name)
    if known is None:
        return {"node": name, "state": "not reached", "seconds": None, "made_by": "", "error": ""}
    return {
        "node": name,
        "state": known.state if known.ended is not None or state is State.RUNNING else "cut off",
        "seconds": known.ended - known.started if known.ended is not None else None,
        "made_by": makers.get(name, "") if known.state == "cached" else "",
        "error": known.error,
    }


def _shown_unknown(evidence: Source, run: Run) -> Answer:
    metadata = evidence.metadata
    nodes = []
    for execution in metadata.executions(run.run_id):
        error = str(properties(execution).get(_ERROR_PROPERTY, ""))
        nodes.append(
            {"node": metadata.place(execution.id)[1], "state": metadata.state(execution).lower(), "error": error}
        )
    said = evidence.damaged.get(run.run_id) or unknown_evidence(evidence, run.run_id)
    document = {"run": run.run_id, "state": run.state, "cause": said, "nodes": nodes}
    rows = Rows(("node", "state", "error"), [(n["node"], n["state"], n["error"]) for n in nodes], sentences=("error",))
    return Answer(document, [*labelled([("run", run.run_id), ("state", run.state), ("cause", said)]), rows])
