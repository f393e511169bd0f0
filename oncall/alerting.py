"""`check --alert`: tells of what is not ok as a run tells of its end, once, again after some time, and when it is over.

A run that was killed tells nothing, and one that never starts neither.
"""

import time
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from oncall.checks import CHAMPION, Check
from oncall.evidence import Evidence
from pipeline.alerts import telling
from pipeline.alerts.alert import Alert, of_run, streak
from pipeline.alerts.config import Alerts
from pipeline.alerts.standing import NEWEST_RUN, Standing, Trouble
from pipeline.records import RunRecord
from serving.terminal import say


def tell(evidence: Evidence, checks: Sequence[Check]) -> str:
    """Tells what there is to tell; returns what became of it: `posted`, why not, or nothing."""
    newest = next(evidence.records(), None)
    section = _section(newest)
    standing = Standing.of(evidence.root)
    over = {one.name: standing.troubles.pop(one.name) for one in checks if one.ok and one.name in standing.troubles}
    bad = {one.name: one for one in checks if not one.ok}
    troubles = {name: standing.add(name, one.about, _since(evidence, one)) for name, one in bad.items()}
    now = time.time()
    due = any(one.told is None or now - one.told >= section.repeat_hours * 3600 for one in troubles.values())
    outcome = ""
    if due or any(one.owed for one in troubles.values()):
        outcome = telling.told(section, _alert(evidence, newest, checks, bad, troubles), shown=due)
        for one in troubles.values():
            one.told, one.owed = now if due else one.told, telling.is_owed(outcome)
    elif over and not bad:
        outcome = telling.told(section, _recovered(evidence, newest, checks, over), shown=True)
    telling.kept("what was told", lambda: standing.keep(evidence.root))
    return outcome


def _section(newest: RunRecord | None) -> Alerts:
    """Of the newest run's config: there is no other that is known to be meant."""
    try:
        return Alerts.model_validate((newest.config.get("alerts") if newest else None) or {})
    except ValidationError:
        say("alerts: those of the newest run's config are not of this release; nothing is posted", "warning")
        return Alerts()


def _since(evidence: Evidence, check: Check) -> float | None:
    return streak(evidence.root).since if check.name == NEWEST_RUN else None


def _alert(
    evidence: Evidence,
    newest: RunRecord | None,
    checks: Sequence[Check],
    bad: Mapping[str, Check],
    troubles: Mapping[str, Trouble],
) -> Alert:
    todo = list(dict.fromkeys(one.todo for one in bad.values() if one.todo))
    serving = _serving(checks)
    meant = evidence.record(bad[NEWEST_RUN].about) if NEWEST_RUN in bad else None
    if meant is not None and len(bad) == 1:
        return of_run(evidence.root, meant, serving=serving)
    return Alert(
        event="failure",
        pipeline=_name(evidence, newest),
        state="NOT_OK",
        what=f"not ok: {', '.join(bad)}",
        why="\n".join(f"{name}: {one.said}" for name, one in bad.items()),
        since=min(one.since for one in troubles.values()),
        run_root=str(evidence.root.path),
        next=todo,
        serving=serving,
        run_id=meant.run_id if meant else None,
    )


def _recovered(
    evidence: Evidence, newest: RunRecord | None, checks: Sequence[Check], over: Mapping[str, Trouble]
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
