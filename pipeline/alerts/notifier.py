"""Notifications of a run's end, on standard error (for cron and systemd) and to the webhook."""

import time
from collections.abc import Callable, Sequence

from cli.terminal import print_message
from pipeline.alerts.alert import Alert, create_rejection_alert, create_run_alert
from pipeline.alerts.config import Alerts
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED, AlertState, Incident
from pipeline.alerts.webhook import NotPostedError, post, read_address
from pipeline.run.records import RecordFile, RunRecord
from pipeline.run.rejections import Rejection, RejectionFile
from pipeline.run.run_root import RunRoot

POSTED = "posted"


def deliver(section: Alerts, alert: Alert) -> str:
    """Post an alert, if the config asks for it.

    Returns:
      The outcome, for the record: `posted`, the reason why not, or nothing if there was nothing to post.
    """
    events = {alert.event, *(["success"] if alert.event == "recovered" else [])}
    try:
        # Read each time: that it is missing shall be reported before it is needed.
        url = read_address(section)
        if url is None or not events & {*section.events}:
            return ""
        post(url, alert.to_document(), seconds=section.timeout_seconds)
    except NotPostedError as error:
        reason = str(error)
    except KeyboardInterrupt:
        reason = "interrupted"
    else:
        return POSTED
    print_message(f"alert not posted: {reason}", "warning")
    return f"not posted: {reason}"


def describe_plan(section: Alerts) -> str:
    """Return the notifications that a run would send, for a dry run."""
    try:
        url = read_address(section)
    except NotPostedError as error:
        return f"NOT posted: {error}"
    place = section.webhook_env or section.webhook_file
    return f"{', '.join(section.events)} posted to the address in {place}" if url else "none are posted"


def report_end(section: Alerts, root: RunRoot, file: RecordFile, *, missed: Sequence[str], prints: bool) -> None:
    """Report how the run of this process ended.

    Args:
      section: Section of the config.
      root: Run root of the run.
      file: Record of the run.
      missed: Thresholds that the model missed.
      prints: Whether an alert that is bad is printed.
    """
    alert = create_run_alert(root, file.record, missed=missed)
    outcome = notify(section, alert, prints=prints and alert.is_bad)
    if outcome:
        try_write("the outcome of the alert", lambda: file.update(alert=outcome))
    try_write("that runs start again", RejectionFile(root).remove)
    alert_state = AlertState.read(root)
    alert_state.incidents.pop(REFUSED, None)
    if file.record.succeeded:
        alert_state.incidents.pop(NEWEST_RUN, None)
    elif alert.is_bad:
        alert_state.incidents[NEWEST_RUN] = _create_incident(file.record.run_id, alert, outcome, is_printed=prints)
    try_write("the incidents", lambda: alert_state.write(root))


def report_crash(section: Alerts, root: RunRoot, record: RunRecord, *, serving: str, prints: bool) -> None:
    """Report, once, an earlier run whose process is gone."""
    alert_state = AlertState.read(root)
    previous = alert_state.incidents.get(NEWEST_RUN)
    if previous is not None and previous.subject == record.run_id and not previous.pending:
        return
    alert = create_run_alert(root, record, serving=serving)
    outcome = notify(section, alert, prints=prints)
    alert_state.incidents[NEWEST_RUN] = _create_incident(record.run_id, alert, outcome, is_printed=prints)
    try_write("the incidents", lambda: alert_state.write(root))


def report_rejection(section: Alerts, root: RunRoot, rejection: Rejection, *, serving: str, prints: bool) -> None:
    """Report why a run was not started."""
    alert = create_rejection_alert(root, rejection, serving=serving)
    outcome = notify(section, alert, prints=prints)
    alert_state = AlertState.read(root)
    alert_state.incidents[REFUSED] = _create_incident(f"{rejection.last}", alert, outcome, is_printed=prints)
    try_write("the incidents", lambda: alert_state.write(root))


def notify(section: Alerts, alert: Alert, *, prints: bool) -> str:
    """Print an alert if `prints` is set, and post it as the config asks; return the outcome of the post."""
    if prints:
        print_message(alert.format_text(), "error" if alert.is_bad else "notice")
    return deliver(section, alert)


def is_pending(outcome: str) -> bool:
    """Return whether an alert is still to be posted."""
    return outcome not in ("", POSTED)


def _create_incident(subject: str, alert: Alert, outcome: str, *, is_printed: bool) -> Incident:
    """Return the incident of an alert, which `oncall check --alert` does not report again."""
    notified = time.time() if is_printed or outcome == POSTED else None
    return Incident(
        subject=subject, since=alert.since, count=alert.count, notified=notified, pending=is_pending(outcome)
    )


def try_write(content: str, write: Callable[[], None]) -> None:
    """Write a file that a run can do without; print a warning that names its content if that fails."""
    try:
        write()
    except OSError as error:
        print_message(f"{error.filename or content}: cannot be written: {error.strerror}", "warning")
