"""`check --alert`: tells of what is not ok as a run tells of its end, once, again after some time, and when it is over.

A run that was killed tells nothing, and one that never starts neither.
"""

import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from cli.terminal import say
from oncall.checks import CHAMPION, DATABASE, Check
from oncall.evidence import Evidence
from pipeline.alerts import notifier
from pipeline.alerts.alert import Alert, create_rejection_alert, create_run_alert, find_streak
from pipeline.alerts.config import Alerts
from pipeline.alerts.incidents import NEWEST_RUN, REFUSED, AlertState, Incident
from pipeline.run.records import RunRecord


def tell(evidence: Evidence, checks: Sequence[Check]) -> str:
    """Tells what there is to tell; returns what became of it: `posted`, why not, or nothing."""
    newest = next(evidence.records(), None)
    section = _section(newest)
    alert_state = AlertState.read(evidence.root)
    bad = {one.name: one for one in checks if not one.ok}
    # What is said only where it is not ok, is over when nothing is said of it.
    well = {one.name for one in checks if one.ok} | {DATABASE} - {*bad}
    over = {name: alert_state.incidents.pop(name) for name in sorted(well & {*alert_state.incidents})}
    incidents = {name: alert_state.add(name, one.about, _since(evidence, one)) for name, one in bad.items()}
    now = time.time()
    due = {
        n for n, one in incidents.items() if one.notified is None or now - one.notified >= section.repeat_hours * 3600
    }
    news = {name: one for name, one in incidents.items() if name in due or one.pending}
    outcome = ""
    if news:
        alert = _alert(evidence, newest, checks, [*news], incidents)
        outcome = notifier.notify(section, alert, prints=bool(due))
        for name, one in incidents.items():
            one.notified, one.pending = now if due else one.notified, name in news and notifier.is_pending(outcome)
    elif over and not bad:
        outcome = notifier.notify(section, _recovered(evidence, newest, checks, over), prints=True)
    notifier.try_write("what was told", lambda: alert_state.write(evidence.root))
    return outcome


def _section(newest: RunRecord | None) -> Alerts:
    """Of the newest run's config: there is no other that is known to be meant."""
    try:
        return Alerts.model_validate((newest.config.get("alerts") if newest else None) or {})
    except ValidationError:
        say("alerts: those of the newest run's config are not of this release; nothing is posted", "warning")
        return Alerts()


def _since(evidence: Evidence, check: Check) -> float | None:
    known = {
        NEWEST_RUN: find_streak(evidence.root).since,
        REFUSED: evidence.refusal.since if evidence.refusal else None,
    }
    return known.get(check.name)


def _alert(
    evidence: Evidence,
    newest: RunRecord | None,
    checks: Sequence[Check],
    news: Sequence[str],
    incidents: Mapping[str, Incident],
) -> Alert:
    """About what is news; what is not is only named, if it is still so."""
    serving = _serving(checks)
    meant = evidence.record(incidents[NEWEST_RUN].subject) if NEWEST_RUN in news else None
    if meant is not None and len(news) == 1:
        return create_run_alert(evidence.root, meant, serving=serving)
    if evidence.refusal is not None and [*news] == [REFUSED]:
        return create_rejection_alert(evidence.root, evidence.refusal, serving=serving)
    told = [one for one in checks if one.name in news]
    still = ", ".join(name for name in incidents if name not in news)
    return Alert(
        event="failure",
        pipeline=_name(evidence, newest),
        state="NOT_OK",
        what=f"not ok: {', '.join(one.name for one in told)}{f'; still not ok: {still}' if still else ''}",
        why="\n".join(f"{one.name}: {one.said}" for one in told),
        since=min(one.since for one in incidents.values()),
        run_root=str(evidence.root.path),
        next=list(dict.fromkeys(one.todo for one in told if one.todo)),
        serving=serving,
        run_id=meant.run_id if meant else None,
    )


def _recovered(
    evidence: Evidence, newest: RunRecord | None, checks: Sequence[Check], over: Mapping[str, Incident]
) -> Alert:
    return Alert(
        event="recovered",
        pipeline=_name(evidence, newest),
        state="OK",
        what=f"ok again: {', '.join(over)}",
        why="",
        since=min(one.since for one in over.values()),
        run_root=str(evidence.root.path),
        serving=_serving(checks),
    )


def _name(evidence: Evidence, newest: RunRecord | None) -> str:
    return newest.pipeline if newest else evidence.root.path.name


def _serving(checks: Sequence[Check]) -> str:
    return next((one.said for one in checks if one.name == CHAMPION), "")
