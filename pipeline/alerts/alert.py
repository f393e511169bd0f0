"""An alert: the event, its reason, its start and the next commands; as text for people, as JSON for a webhook."""

import datetime
import itertools
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.counts import format_count
from cli.terminal import clean, format_flags
from pipeline.alerts.config import Event
from pipeline.run.advice import suggest_after_rejection, suggest_commands, suggest_oncall
from pipeline.run.causes import explain_state, find_blamed_node
from pipeline.run.records import RunRecord, RunState, read_newest_records
from pipeline.run.rejections import Rejection, RejectionFile
from pipeline.run.run_root import RunRoot

_EVENTS: dict[RunState, Event] = {RunState.FAILED: "failure", RunState.CRASHED: "failure", RunState.ABORTED: "aborted"}
_MAX_SHOWN_LINES, _MAX_SHOWN_CHARS = 20, 400


@dataclass(frozen=True)
class Alert:
    """One alert; docs/alerts.md describes each field of its document."""

    event: Event
    pipeline: str
    state: str
    what: str
    why: str
    since: float
    run_root: str
    next: Sequence[str] = ()
    serving: str = ""
    count: int = 1
    last_good: str | None = None
    run_id: str | None = None
    exit_code: int | None = None
    node: str | None = None
    log: str | None = None
    host: str = field(default_factory=socket.gethostname)
    time: float = field(default_factory=time.time)

    @property
    def is_bad(self) -> bool:
        """Whether the on-call engineer has to act."""
        return self.event not in ("success", "recovered")

    def format_text(self) -> str:
        """Return the alert as lines for people: event, reason, start, serving version, next commands."""
        times = f", {self.count} times in a row" if self.count > 1 else ""
        good = f"; the last good run is {self.last_good}" if self.last_good and self.is_bad else ""
        lines = [f"{self.pipeline}: {self.what}, on {self.host}"]
        lines += _add_label("why", _shorten(self.why))
        since = f"{_format_time(self.since)}{times}{good}"
        if self.event == "recovered":
            lines += _add_label("before", [f"not well since {since}"])
        elif self.event != "success":
            lines += _add_label("since", [since])
        lines += _add_label("serving", [self.serving] if self.serving else [])
        lines += _add_label("next", list(self.next))
        lines += _add_label("log", [self.log] if self.log else [])
        return "\n".join(map(clean, lines))

    def to_document(self) -> dict[str, Any]:
        """Return the JSON document for the webhook."""
        return {
            "pipeline": self.pipeline,
            "event": self.event,
            "run_id": self.run_id,
            "state": self.state,
            "exit_code": self.exit_code,
            "node": self.node,
            "what": self.what,
            "why": self.why,
            "since": _format_time(self.since),
            "count": self.count,
            "last_good": self.last_good,
            "next": list(self.next),
            "serving": self.serving,
            "host": self.host,
            "run_root": self.run_root,
            "log": self.log,
            "time": _format_time(self.time),
            # As Slack wants it: nothing in it can become a link or call everybody.
            "text": self.format_text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        }


def _format_time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _shorten(why: str) -> list[str]:
    lines = [
        line if len(line) <= _MAX_SHOWN_CHARS else f"{line[: _MAX_SHOWN_CHARS - 3]}..." for line in why.splitlines()
    ]
    more = [f"and {format_count(len(lines) - _MAX_SHOWN_LINES, 'line')} more"] if len(lines) > _MAX_SHOWN_LINES else []
    return [*lines[:_MAX_SHOWN_LINES], *more]


def _add_label(label: str, lines: Sequence[str]) -> list[str]:
    return [f"{label if number == 0 else '':<8} {line.strip()}" for number, line in enumerate(lines)]


@dataclass(frozen=True)
class Streak:
    """The runs that did not succeed since the last that did.

    Attributes:
      count: Number of runs.
      since: Start of the first of them; None if there is none.
      last_good: Run before it, which succeeded.
    """

    count: int
    since: float | None
    last_good: str | None


def find_streak(root: RunRoot, before: str | None = None, rejection: Rejection | None = None) -> Streak:
    """Return the last runs that did not succeed.

    Args:
      root: Run root of the runs.
      before: ID of a run; only runs before it are counted. None for all runs.
      rejection: Runs that were not started meanwhile, which are counted too.
    """
    count, starts = rejection.count if rejection else 0, [rejection.since] if rejection else []
    last_good = None
    records = read_newest_records(root)
    if before is not None:
        # Empty behind a run whose record was removed.
        records = itertools.islice(itertools.dropwhile(lambda record: record.run_id != before, records), 1, None)
    for record in records:
        if record.succeeded:
            last_good = record.run_id
            break
        is_running = record.ended is None and root.is_locked
        if record.get_state(locked=is_running) not in (RunState.INCOMPLETE, RunState.RUNNING):
            count += 1
            starts.append(record.started)
    return Streak(count, min(starts, default=None), last_good)


def create_run_alert(
    root: RunRoot,
    record: RunRecord,
    *,
    missed: Sequence[str] = (),
    serving: str = "",
) -> Alert:
    """Return the alert of a run that has ended, or whose process is gone.

    Args:
      root: Run root of the run.
      record: Record of the run.
      missed: Thresholds that its model missed.
      serving: Serving version, if the record has none.
    """
    state = record.get_state(locked=False)
    node = find_blamed_node(record) if state in _EVENTS else None
    rejection = RejectionFile(root).read()
    before = find_streak(root, record.run_id, rejection if rejection and rejection.since < record.started else None)
    event = _EVENTS.get(state) or ("recovered" if record.succeeded and before.count else "success")
    # The error names the first threshold.
    why = "\n".join(filter(None, [explain_state(record, state), *(missed if len(missed) > 1 else ())]))
    here = _format_root_flags(root)
    questions = [suggest_oncall("why", record.run_id, here=here)] if state in _EVENTS else []
    pushed = f"; pushed {record.push}" if state not in _EVENTS and record.push is not None else ""
    code = f" with exit code {record.exit_code}" if record.exit_code else ""
    return Alert(
        event=event,
        pipeline=record.pipeline,
        state=state,
        what=f"run {record.run_id} {state}{f' in {node}' if node else ''}{code}{pushed}",
        why=why,
        since=record.started if before.since is None else before.since,
        run_root=str(root.path),
        next=[*questions, *suggest_commands(record, state, here, why, before.last_good, root.path)],
        serving=serving or record.summary.get("serving", ""),
        count=before.count + (state in _EVENTS),
        last_good=before.last_good,
        run_id=record.run_id,
        exit_code=record.exit_code,
        node=node,
        log=record.log,
    )


def create_rejection_alert(root: RunRoot, rejection: Rejection, *, serving: str) -> Alert:
    """Return the alert of a run that was not started."""
    before = find_streak(root, rejection=rejection)
    return Alert(
        event="refusal",
        pipeline=rejection.pipeline,
        state="REFUSED",
        what=f"no run was started; exit code {rejection.exit_code}",
        why=rejection.why,
        since=before.since or rejection.since,
        run_root=str(root.path),
        next=suggest_after_rejection(rejection, _format_root_flags(root)),
        serving=serving,
        count=before.count,
        last_good=before.last_good,
        exit_code=rejection.exit_code,
    )


def _format_root_flags(root: RunRoot) -> str:
    return format_flags(run_root=root.path)
