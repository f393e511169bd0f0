"""`check`: compares the expected state of the newest run, the champion and the model server with the actual one."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, DataError, PipelineError
from cli.terminal import format_command, format_flags
from oncall.model_versions import ModelVersion, ModelVersions
from oncall.request_log import find_request_log
from oncall.results import Check, CommandResult, ResultTable
from oncall.run_store import RunStore
from oncall.server_check import check_server
from oncall.start_blockers import describe_rejection
from oncall.text_format import shorten
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED
from pipeline.run.advice import suggest_after_rejection, suggest_doctor, suggest_oncall
from pipeline.run.causes import explain_state
from pipeline.run.records import Kind, RunState, find_clock_conflicts
from serving.registry.local.errors import RegistryFault, RegistryFileError

# Runs among which an active one, or a clock that was wrong, is searched for.
_MAX_READ_RUNS = 20
_MAX_WARNING_CHARS = 120
_CONTENT_MESSAGES = {
    True: "its files are those that were pushed",
    False: "its files are NOT those that were pushed",
    None: "its files cannot be read",
}
CHAMPION, DATABASE = "champion", "database"
_GOOD_STATES = (RunState.SUCCEEDED, RunState.CACHED)


def run_checks(
    store: RunStore, url: str | None, folder: Path | None, model: str | None, log: Path | None = None
) -> list[Check]:
    """Return the results of all checks.

    Args:
      store: runs.
      url: URL of a model server; None for none.
      folder: folder of the registry; None for the newest run's.
      model: name of the model; None for the newest run's.
      log: folder of the request log; None for the newest config's.
    """
    checks = [_check_newest_run(store), *_check_active_run(store), *_check_rejection(store), *_check_database(store)]
    checks += [*_check_clocks(store), *_check_retraining(store)]
    try:
        model_versions = store.find_model_versions(folder, model)
        command_flags = store.location_flags + format_flags(registry=folder, model=model)
        checks += _check_champion(store, model_versions, command_flags)
        checks += _check_unexplained(model_versions)
        conflict = model_versions.find_conflict()
        checks += [Check("registry", False, *conflict)] if conflict is not None else []
        checks += _check_request_log(store, model_versions, folder, model, log)
    except ConfigError:
        raise
    except PipelineError as error:
        checks.append(Check(CHAMPION, False, str(error), suggest_doctor(store.location_flags)))
        model_versions = None
    if url is not None:
        checks += check_server(url, model_versions)
    return checks


def build_document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the document of the checks."""
    return {"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]}


def report_checks(checks: Sequence[Check]) -> CommandResult:
    """Return the checks as a table; the exit code is 1 if one of them is not ok."""
    document = build_document(checks)
    cells = [("ok" if check.ok else "NOT ok", check.name, check.message) for check in checks]
    table = ResultTable(("", "what", "found"), cells, sentences=("found",))
    todo = dict.fromkeys(f"try        {check.todo}" for check in checks if not check.ok and check.todo)
    return CommandResult(document, [table, *todo], 0 if document["ok"] else 1)


def _check_newest_run(store: RunStore) -> Check:
    """Check that the newest run that has ended succeeded."""
    name, note = NEWEST_RUN, ""
    for run_id in store.record_ids:
        run = store.get_run(run_id)
        if run.record is None:
            reason = store.damaged_records.get(run_id, "has no record")
            return Check(name, False, reason, suggest_doctor(store.location_flags), run_id)
        if run.state is RunState.RUNNING:
            # It has a check of its own.
            continue
        reason = explain_state(run.record, run.state)
        if run.state is RunState.INCOMPLETE:
            # Such a run is not meant to push anything.
            note = note or f"; the newer run {run_id} is INCOMPLETE: {reason}"
            continue
        warnings = run.record.warnings if run.state in _GOOD_STATES else []
        if warnings:
            more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
            reason = f"warning: {shorten(warnings[0], _MAX_WARNING_CHARS)}{more}"
        message = f"{run_id} {run.state}{f': {reason}' if reason else ''}{note}"
        todo = suggest_oncall("why", run_id, here=store.location_flags)
        return Check(name, run.state in _GOOD_STATES, message, todo, run_id, run_id)
    return Check(
        name, False, f"no whole run has ended on record{note}", suggest_oncall("runs", here=store.location_flags)
    )


def _check_active_run(store: RunStore) -> list[Check]:
    """Return a check only if a run is active."""
    for run_id in islice(store.record_ids, _MAX_READ_RUNS):
        run = store.get_run(run_id)
        if run.state is not RunState.RUNNING or run.record is None:
            continue
        activity = store.describe_activity(run.record)
        message = f"{run_id} RUNNING: {activity}"
        todo = activity.todo or suggest_oncall("log", run_id, "--follow", here=store.location_flags)
        return [Check("active run", not activity.problem, message, todo, run_id, run_id)]
    return []


def _check_clocks(store: RunStore) -> list[Check]:
    """Return a check only if a run on record began in the future."""
    conflicts = find_clock_conflicts(islice(store.read_records(), _MAX_READ_RUNS), time.time())
    future = [str(conflict) for conflict in conflicts if conflict.is_future]
    todo = format_command("date", "-u", note="compare it with the clock of that host; runs are in order all the same")
    return [Check("clocks", False, future[0], todo)] if future else []


def _check_unexplained(model_versions: ModelVersions) -> list[Check]:
    """Return a check only if the registry has versions that no push on record explains."""
    unexplained = model_versions.list_unexplained()
    if not unexplained:
        return []
    lines = [f"version {number} was not pushed: {reason}" for number, reason in unexplained.items()]
    todo = model_versions.quarantine_command
    return [Check("registry", False, "; ".join(lines), todo, ", ".join(map(str, unexplained)))]


def _check_rejection(store: RunStore) -> list[Check]:
    """Return a check only if the last run was rejected."""
    rejection = store.last_rejection
    if rejection is None:
        return []
    todo = next(iter(suggest_after_rejection(rejection, store.location_flags)), "")
    return [Check(REFUSED, False, describe_rejection(store), todo, f"{rejection.last}")]


def _check_retraining(store: RunStore) -> list[Check]:
    """Return a check only if `pipeline retrain` starts no run, since the file of its starts is damaged."""
    return [Check("retraining", False, str(store.retrain_error))] if store.retrain_error is not None else []


def _check_database(store: RunStore) -> list[Check]:
    """Return a check only if the next run cannot use the database; the serving version needs none."""
    problem = str(store.database_error or store.binding_error)
    return [Check(DATABASE, False, problem, suggest_doctor(store.location_flags))] if problem else []


def _check_champion(store: RunStore, model_versions: ModelVersions, command_flags: str) -> list[Check]:
    champion = model_versions.champion
    if champion is None:
        todo = suggest_oncall("serving", here=command_flags)
        return [Check(CHAMPION, False, f"{model_versions.location}: no version serves", todo)]
    versions = {version.number: version for version in model_versions.list_versions()}
    if champion not in versions:
        message = f"version {champion} is the champion, and its folder is gone"
        return [Check(CHAMPION, False, message, model_versions.rollback_command)]
    rollback = model_versions.rollback
    in_force = f"; {rollback}" if rollback is not None else ""
    checks = [Check(CHAMPION, True, f"version {champion} of {model_versions.name}{in_force}")]
    checks += _check_content(model_versions, champion, store.location_flags)
    pusher = versions[champion].run or "another tool"
    has_record = store.read_record(pusher) is not None
    message = f"pushed by run {pusher}" + ("" if has_record else ", which is not on record")
    lineage = suggest_oncall("lineage", f"v{champion}", here=command_flags)
    checks.append(Check("pushed by", has_record, message, lineage, run=versions[champion].run))
    return [*checks, *_check_traffic(model_versions, versions, champion)]


def _check_content(model_versions: ModelVersions, champion: int, here: str) -> list[Check]:
    """Check the champion's files; one that cannot be read hides no other check."""
    name, about = "content", f"version {champion}"
    try:
        data_time = model_versions.read_data_time(champion)
        is_intact = model_versions.is_intact(champion)
        changed = model_versions.list_changed_files(champion) if is_intact is False else []
    except PipelineError as error:
        is_denied = isinstance(error, RegistryFileError) and error.fault is RegistryFault.DENIED
        todo = suggest_doctor(here) if is_denied else model_versions.rollback_command
        return [Check(name, False, f"{about}: {error}", todo, about)]
    age = data_time.describe() if data_time is not None else "unknown: its push recorded no time of the data"
    message = f"{about}: {_CONTENT_MESSAGES[is_intact]}{': ' if changed else ''}{', '.join(changed)}"
    return [
        Check("age", True, f"{about} is {age}" if data_time is not None else age),
        Check(name, bool(is_intact), message, model_versions.rollback_command, about),
    ]


def _check_request_log(
    store: RunStore, model_versions: ModelVersions, folder: Path | None, model: str | None, log: Path | None
) -> list[Check]:
    """Return the checks of live quality and traffic only if there is a request log and a serving version."""
    if model_versions.champion is None:
        return []
    try:
        place = find_request_log(store, log)
    except DataError as error:
        return [Check("request log", False, str(error))]
    if place is None:
        return []
    # NumPy, Arrow and TFDV's extension, which no other check needs.
    from oncall.outcomes import check_quality
    from oncall.traffic import check_traffic

    checks = [check_quality(store, model_versions, place)]
    newest = next(iter(store.read_records()), None)
    if log is not None or (newest is not None and newest.kind is Kind.LOCAL):
        checks.append(check_traffic(store, folder, model, log))
    return checks


def _check_traffic(model_versions: ModelVersions, versions: Mapping[int, ModelVersion], champion: int) -> list[Check]:
    """Check that the champion gets requests, if versions share them."""
    if versions[champion].traffic is None:
        return []
    shares = [f"version {v.number} with {v.traffic} %" for v in versions.values() if v.traffic]
    message = f"serves {', '.join(shares) or 'nothing'}"
    # A push that has not ended adds its state behind a comma.
    by_hand = [
        f"version {v.number}"
        for v in versions.values()
        if v.traffic and v.number != champion and not v.state.startswith("candidate") and "," not in v.state
    ]
    if by_hand:
        message += f"; {', '.join(by_hand)} should get nothing: the traffic was changed by hand"
    is_right = bool(versions[champion].traffic) and not by_hand
    return [Check("endpoint", is_right, message, model_versions.traffic_command)]
