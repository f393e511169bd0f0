"""What an alert says: what, why, since when, what next; as text for people, and as JSON for a webhook."""

import datetime
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.terminal import clean, flags
from pipeline.alerts.config import Event
from pipeline.run.advice import advice, after_refusal
from pipeline.run.causes import cause, failed_node
from pipeline.run.records import RunRecord, State, newest_records
from pipeline.run.rejections import Refusal, Refusals
from pipeline.run.run_root import RunRoot

_EVENTS: dict[State, Event] = {State.FAILED: "failure", State.CRASHED: "failure", State.ABORTED: "aborted"}
_SHOWN_LINES, _SHOWN_CHARACTERS = 20, 400
_AFTER_ALL_RUNS = "~"


@dataclass(frozen=True)
class Alert:
    """What is told. docs/alerts.md says what each field of the document is."""

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
        """Whether something is to be done."""
        return self.event not in ("success", "recovered")

    def text(self) -> str:
        """For people: a line of what happened, and lines of why, since when, the serving version and what to do."""
        times = f", {self.count} times in a row" if self.count > 1 else ""
        good = f"; the last good run is {self.last_good}" if self.last_good and self.is_bad else ""
        lines = [f"{self.pipeline}: {self.what}, on {self.host}"]
        lines += _labelled("why", _shown(self.why))
        since = f"{_moment(self.since)}{times}{good}"
        if self.event == "recovered":
            lines += _labelled("before", [f"not well since {since}"])
        elif self.event != "success":
            lines += _labelled("since", [since])
        lines += _labelled("serving", [self.serving] if self.serving else [])
        lines += _labelled("next", list(self.next))
        lines += _labelled("log", [self.log] if self.log else [])
        return "\n".join(map(clean, lines))

    def document(self) -> dict[str, Any]:
        """For the webhook."""
        return {
            "pipeline": self.pipeline,
            "event": self.event,
            "run_id": self.run_id,
            "state": self.state,
            "exit_code": self.exit_code,
            "node": self.node,
            "what": self.what,
            "why": self.why,
            "since": _moment(self.since),
            "count": self.count,
            "last_good": self.last_good,
            "next": list(self.next),
            "serving": self.serving,
            "host": self.host,
            "run_root": self.run_root,
            "log": self.log,
            "time": _moment(self.time),
            # As Slack wants it: nothing in it can become a link or call everybody.
            "text": self.text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        }


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _shown(why: str) -> list[str]:
    lines = [line[:_SHOWN_CHARACTERS] for line in why.splitlines()]
    more = [f"and {len(lines) - _SHOWN_LINES} lines more"] if len(lines) > _SHOWN_LINES else []
    return [*lines[:_SHOWN_LINES], *more]


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [f"{label if number == 0 else '':<8} {line.strip()}" for number, line in enumerate(lines)]


@dataclass(frozen=True)
class Streak:
    """The runs that did not end well since the last that did.

    Attributes:
      count: number of them.
      since: when the first of them started; None where there is none.
      last_good: the run before it.
    """

    count: int
    since: float | None
    last_good: str | None


def streak(root: RunRoot, before: str = _AFTER_ALL_RUNS, refused: Refusal | None = None) -> Streak:
    """Return the runs that did not end well before one, or all.

    Args:
      root: run root of the runs.
      before: a run's id.
      refused: the runs that were not even started meanwhile; they are counted, too.
    """
    count, starts = refused.count if refused else 0, [refused.since] if refused else []
    last_good = None
    for record in newest_records(root):
        if record.run_id >= before:
            continue
        if record.succeeded:
            last_good = record.run_id
            break
        goes_on = record.ended is None and root.is_locked
        if record.state(locked=goes_on) not in (State.INCOMPLETE, State.RUNNING):
            count += 1
            starts.append(record.started)
    return Streak(count, min(starts, default=None), last_good)


def of_run(
    root: RunRoot,
    record: RunRecord,
    *,
    missed: Sequence[str] = (),
    serving: str = "",
) -> Alert:
    """About a run that has ended, or whose process is gone.

    Args:
      root: run root of the run.
      record: its record.
      missed: the thresholds that its model missed.
      serving: the serving version, where the record does not say it.
    """
    state = record.state(locked=False)
    node = failed_node(record) if state in _EVENTS else None
    refused = Refusals(root).known()
    before = streak(root, record.run_id, refused if refused and refused.since < record.started else None)
    event = _EVENTS.get(state) or ("recovered" if record.succeeded and before.count else "success")
    # The error names the first.
    why = "\n".join(filter(None, [cause(record, state), *(missed if len(missed) > 1 else ())]))
    here = _here(root)
    asked = [f"python -m oncall why {record.run_id}{here}"] if state in _EVENTS else []
    pushed = f"; pushed {record.summary['pushed']}" if state not in _EVENTS and "pushed" in record.summary else ""
    code = f" with exit code {record.exit_code}" if record.exit_code else ""
    return Alert(
        event=event,
        pipeline=record.pipeline,
        state=state,
        what=f"run {record.run_id} {state}{f' in {node}' if node else ''}{code}{pushed}",
        why=why,
        since=record.started if before.since is None else before.since,
        run_root=str(root.path),
        next=[*asked, *advice(record, state, here, why, before.last_good, root.path)],
        serving=serving or record.summary.get("serving", ""),
        count=before.count + (state in _EVENTS),
        last_good=before.last_good,
        run_id=record.run_id,
        exit_code=record.exit_code,
        node=node,
        log=record.log,
    )


def of_refusal(root: RunRoot, refusal: Refusal, *, serving: str) -> Alert:
    """About a run that was not started, as others before it."""
    before = streak(root, refused=refusal)
    return Alert(
        event="refusal",
        pipeline=refusal.pipeline,
        state="REFUSED",
        what=f"no run was started; exit code {refusal.exit_code}",
        why=refusal.why,
        since=before.since or refusal.since,
        run_root=str(root.path),
        next=after_refusal(refusal, _here(root)),
        serving=serving,
        count=before.count,
        last_good=before.last_good,
        exit_code=refusal.exit_code,
    )


def _here(root: RunRoot) -> str:
    return flags(run_root=root.path)
