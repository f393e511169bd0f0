"""`check --alert`: notifies of failed checks as a run notifies of its end: once, again after some time, and when fixed.

A run that was killed, or that never starts, sends no alert itself.
"""

import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from cli.errors import ConfigError, RunRootError
from cli.terminal import print_message
from oncall.checks import CHAMPION, DATABASE, build_document
from oncall.local.run_store import LocalRunStore
from oncall.results import Check, CommandResult
from oncall.run_store import RunStore
from pipeline.alerts import notifier
from pipeline.alerts.alert import Alert, create_rejection_alert, create_run_alert, find_streak
from pipeline.alerts.config import Alerts
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED, TRAFFIC, AlertState, Incident
from pipeline.run.records import RunRecord


def notify_of_checks(store: RunStore, checks: Sequence[Check]) -> CommandResult:
    """Notify of the checks; return their document with the delivery's outcome.

    Raises:
      ConfigError: the runs are on Vertex AI.
    """
    if not isinstance(store, LocalRunStore):
        raise ConfigError(
            "--alert: is for runs of this machine; for Vertex AI, let Cloud Monitoring notify of jobs that fail"
        )
    document = build_document(checks)
    return CommandResult({**document, "alert": notify(store, checks)}, [], 0 if document["ok"] else 1)


def notify(store: LocalRunStore, checks: Sequence[Check]) -> str:
    """Send an alert if one is due; return `posted`, why it was not posted, or an empty string."""
    newest = next(store.read_records(), None)
    config = _read_config(newest)
    alert_state = AlertState.read(store.root)
    failed = {check.name: check for check in checks if not check.ok}
    # These checks exist only while they fail, or while a request log exists: without them, their incident is over.
    passed = {check.name for check in checks if check.ok} | {DATABASE, TRAFFIC} - {*failed}
    resolved = {name: alert_state.incidents.pop(name) for name in sorted(passed & {*alert_state.incidents})}
    incidents = {
        name: alert_state.add(name, check.about, _find_start(store, check), check.parts)
        for name, check in failed.items()
    }
    now = time.time()
    repeat_seconds = config.repeat_hours * 3600
    due = {
        name
        for name, incident in incidents.items()
        # By a clock that was ahead, it was notified after now.
        if incident.notified is None or abs(now - incident.notified) >= repeat_seconds
    }
    reported = [name for name, incident in incidents.items() if name in due or incident.pending]
    outcome = ""
    if reported:
        alert = _create_failure(store, newest, checks, reported, incidents)
        outcome = notifier.notify(config, alert, prints=bool(due))
        for name, incident in incidents.items():
            incident.notified = now if due else incident.notified
            incident.pending = name in reported and notifier.is_pending(outcome)
        _record_findings(store, [failed[name] for name in failed if name in due])
    elif resolved and not failed:
        outcome = notifier.notify(config, _create_recovery(store, newest, checks, resolved), prints=True)
    notifier.try_write("what was told", lambda: alert_state.write(store.root))
    return outcome


def _record_findings(store: LocalRunStore, checks: Sequence[Check]) -> None:
    """Write alerts about a version into ML Metadata, with its run."""
    for check in checks:
        if check.trained_by:
            try:
                store.record_finding(check.trained_by, check.name, check.message)
            except RunRootError as error:
                print_message(f"{check.name}: not written into ML Metadata: {error}", "warning")


def _read_config(newest: RunRecord | None) -> Alerts:
    """Return the alert config of the newest run, the only one that a run root has."""
    try:
        return Alerts.model_validate((newest.config.get("alerts") if newest else None) or {})
    except ValidationError:
        print_message("alerts: those of the newest run's config are not of this release; nothing is posted", "warning")
        return Alerts()


def _find_start(store: LocalRunStore, check: Check) -> float | None:
    """Return the time when the failure began; None if only this check shows it."""
    if check.name == NEWEST_RUN:
        return find_streak(store.root).since
    return store.last_rejection.since if check.name == REFUSED and store.last_rejection else None


def _create_failure(
    store: LocalRunStore,
    newest: RunRecord | None,
    checks: Sequence[Check],
    reported: Sequence[str],
    incidents: Mapping[str, Incident],
) -> Alert:
    """Return the alert about the reported incidents; it only names the others that continue."""
    serving = _describe_champion(checks)
    record = store.read_record(incidents[NEWEST_RUN].subject) if NEWEST_RUN in reported else None
    if record is not None and len(reported) == 1:
        return create_run_alert(store.root, record, serving=serving)
    if store.last_rejection is not None and [*reported] == [REFUSED]:
        return create_rejection_alert(store.root, store.last_rejection, serving=serving)
    reported_checks = [check for check in checks if check.name in reported]
    others = ", ".join(name for name in incidents if name not in reported)
    names = ", ".join(check.name for check in reported_checks)
    return Alert(
        event="traffic" if [*reported] == [TRAFFIC] else "failure",
        pipeline=_get_pipeline(store, newest),
        state="NOT_OK",
        what=f"not ok: {names}{f'; still not ok: {others}' if others else ''}",
        why="\n".join(f"{check.name}: {check.message}" for check in reported_checks),
        since=min(incident.since for incident in incidents.values()),
        run_root=str(store.root.path),
        next=list(dict.fromkeys(check.todo for check in reported_checks if check.todo)),
        serving=serving,
        run_id=record.run_id if record else None,
    )


def _create_recovery(
    store: LocalRunStore, newest: RunRecord | None, checks: Sequence[Check], resolved: Mapping[str, Incident]
) -> Alert:
    return Alert(
        event="recovered",
        pipeline=_get_pipeline(store, newest),
        state="OK",
        what=f"ok again: {', '.join(resolved)}",
        why="",
        since=min(incident.since for incident in resolved.values()),
        run_root=str(store.root.path),
        serving=_describe_champion(checks),
    )


def _get_pipeline(store: LocalRunStore, newest: RunRecord | None) -> str:
    return newest.pipeline if newest else store.root.path.name


def _describe_champion(checks: Sequence[Check]) -> str:
    return next((check.message for check in checks if check.name == CHAMPION), "")
