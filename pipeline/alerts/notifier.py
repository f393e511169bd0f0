"""Tells how a run ended: on standard error, for cron and systemd, and to the webhook. It changes no run's exit code."""

import time
from collections.abc import Callable, Sequence

from cli.terminal import say
from pipeline.alerts.alert import Alert, of_refusal, of_run
from pipeline.alerts.config import Alerts
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED, Standing, Trouble
from pipeline.alerts.webhook import NotPostedError, address, post
from pipeline.run.records import RecordFile, RunRecord
from pipeline.run.rejections import Refusal, Refusals
from pipeline.run.run_root import RunRoot

POSTED = "posted"


def deliver(section: Alerts, alert: Alert) -> str:
    """Post an alert, if the config asks for it.

    Returns:
      What became of it, for the record: `posted`, why not, or nothing where there was nothing to post.
    """
    wanted = {alert.event, *(["success"] if alert.event == "recovered" else [])}
    try:
        # Looked for each time: that it is missing shall be known before it is needed.
        url = address(section)
        if url is None or not wanted & {*section.events}:
            return ""
        post(url, alert.document(), seconds=section.timeout_seconds)
    except NotPostedError as error:
        why = str(error)
    except KeyboardInterrupt:
        why = "interrupted"
    else:
        return POSTED
    say(f"alert not posted: {why}", "warning")
    return f"not posted: {why}"


def plan(section: Alerts) -> str:
    """Return what would be told, for a dry run."""
    try:
        found = address(section)
    except NotPostedError as error:
        return f"NOT posted: {error}"
    place = section.webhook_env or section.webhook_file
    return f"{', '.join(section.events)} posted to the address in {place}" if found else "none are posted"


def ended(section: Alerts, root: RunRoot, file: RecordFile, *, missed: Sequence[str], shown: bool) -> None:
    """Tells how the run of this process ended.

    Args:
      section: section of the config.
      root: run root of the run.
      file: its record.
      missed: the thresholds that its model missed.
      shown: whether what is bad is printed.
    """
    alert = of_run(root, file.record, missed=missed)
    outcome = told(section, alert, shown=shown and alert.is_bad)
    if outcome:
        kept("what became of the alert", lambda: file.noted(alert=outcome))
    kept("that no refusal stands", Refusals(root).forget)
    standing = Standing.of(root)
    standing.troubles.pop(REFUSED, None)
    if file.record.succeeded:
        standing.troubles.pop(NEWEST_RUN, None)
    elif alert.is_bad:
        standing.troubles[NEWEST_RUN] = _trouble(file.record.run_id, alert, outcome, shown=shown)
    kept("what was told", lambda: standing.keep(root))


def crashed(section: Alerts, root: RunRoot, record: RunRecord, *, serving: str, shown: bool) -> None:
    """Tells, once, of a run before this one whose process is gone."""
    standing = Standing.of(root)
    known = standing.troubles.get(NEWEST_RUN)
    if known is not None and known.about == record.run_id and not known.owed:
        return
    alert = of_run(root, record, serving=serving)
    outcome = told(section, alert, shown=shown)
    standing.troubles[NEWEST_RUN] = _trouble(record.run_id, alert, outcome, shown=shown)
    kept("what was told", lambda: standing.keep(root))


def refused(section: Alerts, root: RunRoot, refusal: Refusal, *, serving: str, shown: bool) -> None:
    """Tells that a run was not started, and why."""
    alert = of_refusal(root, refusal, serving=serving)
    outcome = told(section, alert, shown=shown)
    standing = Standing.of(root)
    standing.troubles[REFUSED] = _trouble(f"{refusal.last}", alert, outcome, shown=shown)
    kept("what was told", lambda: standing.keep(root))


def told(section: Alerts, alert: Alert, *, shown: bool) -> str:
    """Print an alert if it is to be shown, and post it as the config says; return what became of that."""
    if shown:
        say(alert.text(), "error" if alert.is_bad else "notice")
    return deliver(section, alert)


def is_owed(outcome: str) -> bool:
    """Whether an alert is still to be posted."""
    return outcome.startswith("not posted")


def _trouble(about: str, alert: Alert, outcome: str, *, shown: bool) -> Trouble:
    """Return what was told, for `oncall check --alert`, which does not tell it again."""
    told = time.time() if shown or outcome == POSTED else None
    return Trouble(about=about, since=alert.since, count=alert.count, told=told, owed=is_owed(outcome))


def kept(what: str, write: Callable[[], None]) -> None:
    """Write a file that is good to have; that it cannot be written is said, with what it would have been."""
    try:
        write()
    except OSError as error:
        say(f"{error.filename or what}: cannot be written: {error.strerror}", "warning")
