"""`check`: compares the expected state of the newest run, the champion and the model server with the actual one."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PipelineError
from cli.terminal import command, flags
from oncall.model_versions import ModelVersion, ModelVersions
from oncall.results import CommandResult, ResultTable
from oncall.run_store import RunStore
from oncall.start_blockers import describe_rejection
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED
from pipeline.run.advice import ask_doctor, suggest_after_rejection
from pipeline.run.causes import cause
from pipeline.run.records import State

_TIMEOUT_SECONDS = 5.0
_MAX_READ_BYTES = 1 << 16
_CONTENT_MESSAGES = {
    True: "its files are those that were pushed",
    False: "its files are NOT those that were pushed",
    None: "its files cannot be read",
}
CHAMPION, DATABASE = "champion", "database"
_GOOD_STATES = (State.SUCCEEDED, State.CACHED)


@dataclass(frozen=True)
class Check:
    """One expectation and its result.

    Attributes:
      name: name of the check.
      ok: whether the expectation holds.
      message: actual state.
      todo: command to try if it does not hold.
      about: run or version that the check is about.
      run: run that the message names.
    """

    name: str
    ok: bool
    message: str
    todo: str = ""
    about: str = ""
    run: str = ""


def run_checks(store: RunStore, url: str | None, folder: Path | None, model: str | None) -> list[Check]:
    """Return the results of all checks.

    Args:
      store: runs.
      url: URL of a model server; None for none.
      folder: folder of the registry; None for the newest run's.
      model: name of the model; None for the newest run's.
    """
    checks = [_check_newest_run(store), *_check_rejection(store), *_check_database(store)]
    try:
        model_versions = store.find_model_versions(folder, model)
        command_flags = store.location_flags + flags(registry=folder, model=model)
        checks += _check_champion(store, model_versions, command_flags)
        champion = model_versions.champion
    except ConfigError:
        raise
    except PipelineError as error:
        checks.append(Check(CHAMPION, False, str(error), f"python -m oncall doctor{store.location_flags}"))
        champion = None
    if url is not None:
        checks.append(_check_server(url, champion))
    return checks


def document_checks(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the document of the checks."""
    return {"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]}


def report_checks(checks: Sequence[Check]) -> CommandResult:
    """Return the checks as a table; the exit code is 1 if one of them is not ok."""
    document = document_checks(checks)
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
            todo = f"python -m oncall doctor{store.location_flags}"
            return Check(name, False, store.damaged_records.get(run_id, "has no record"), todo, run_id)
        reason = cause(run.record, run.state)
        if run.state is State.RUNNING:
            note = f"; run {run_id} is running, {reason}"
            continue
        if run.state is State.INCOMPLETE:
            # Such a run is not meant to push anything.
            note = note or f"; run {run_id} {reason}"
            continue
        message = f"{run_id} {run.state}{note}{f': {reason}' if reason else ''}"
        todo = f"python -m oncall why {run_id}{store.location_flags}"
        return Check(name, run.state in _GOOD_STATES, message, todo, run_id, run_id)
    return Check(name, False, f"no whole run has ended on record{note}", f"python -m oncall runs{store.location_flags}")


def _check_rejection(store: RunStore) -> list[Check]:
    """Return a check only if the last run was rejected."""
    rejection = store.last_rejection
    if rejection is None:
        return []
    todo = next(iter(suggest_after_rejection(rejection, store.location_flags)), "")
    return [Check(REFUSED, False, describe_rejection(store), todo, f"{rejection.last}")]


def _check_database(store: RunStore) -> list[Check]:
    """Return a check only if the next run cannot use the database; the serving version needs none."""
    if not store.database_error:
        return []
    return [Check(DATABASE, False, store.database_error, ask_doctor(store.location_flags))]


def _check_champion(store: RunStore, model_versions: ModelVersions, command_flags: str) -> list[Check]:
    champion = model_versions.champion
    if champion is None:
        todo = f"python -m oncall serving{command_flags}"
        return [Check(CHAMPION, False, f"{model_versions.location}: no version serves", todo)]
    versions = {version.number: version for version in model_versions.list_versions()}
    if champion not in versions:
        message = f"version {champion} is the champion, and its folder is gone"
        return [Check(CHAMPION, False, message, model_versions.rollback_command)]
    checks = [Check(CHAMPION, True, f"version {champion} of {model_versions.name}")]
    is_intact = model_versions.is_intact(champion)
    changed = model_versions.list_changed_files(champion) if is_intact is False else []
    message = f"version {champion}: {_CONTENT_MESSAGES[is_intact]}{': ' if changed else ''}{', '.join(changed)}"
    checks.append(Check("content", bool(is_intact), message, model_versions.rollback_command, f"version {champion}"))
    pusher = versions[champion].run or "another tool"
    has_record = store.read_record(pusher) is not None
    message = f"pushed by run {pusher}" + ("" if has_record else ", which is not on record")
    lineage = f"python -m oncall lineage v{champion}{command_flags}"
    checks.append(Check("pushed by", has_record, message, lineage, run=versions[champion].run))
    return [*checks, *_check_traffic(model_versions, versions, champion)]


def _check_traffic(model_versions: ModelVersions, versions: Mapping[int, ModelVersion], champion: int) -> list[Check]:
    """Check that the champion gets requests, if versions share them."""
    if versions[champion].traffic is None:
        return []
    shares = [f"version {v.number} with {v.traffic} %" for v in versions.values() if v.traffic]
    message = f"serves {', '.join(shares) or 'nothing'}"
    return [Check("endpoint", bool(versions[champion].traffic), message, model_versions.rollback_command)]


def _check_server(url: str, champion: int | None) -> Check:
    """Check that the model server's default version is the champion."""
    name, address = "model server", url.rstrip("/") + "/health"
    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"--url: {url} is not an address; expected one such as http://localhost:8501")
    try:
        health = json.loads(_get(address))
        default, ready = health["default"], health["ready"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", None) or error
        message = f"{address}: does not respond as a model server: {reason}"
        return Check(name, False, message, command("curl", "-i", address))
    todo = command("curl", address)
    if not ready:
        return Check(name, False, f"{address}: is not ready; versions {health.get('versions')}", todo)
    expected = f"version {champion} is the champion" if champion is not None else "no version should serve"
    return Check(name, default == champion, f"serves version {default}; {expected}", todo)


def _get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as response:
            return bytes(response.read(_MAX_READ_BYTES))
    except urllib.error.HTTPError as error:
        # The body of a 503 names the versions that are not ready.
        return error.read(_MAX_READ_BYTES)
