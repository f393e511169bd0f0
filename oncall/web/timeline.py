"""When each component of a run began and how long it took, as bars on one scale."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from oncall.evidence import Evidence, Run
from oncall.terminal import seconds
from pipeline.run.records import State

_TICKS = 4
# Of an execution that ML Metadata alone knows.
_STATES = {"COMPLETE": "complete", "CACHED": "cached", "FAILED": "failed"}


@dataclass(frozen=True)
class Bar:
    """One component.

    Attributes:
      node: its name.
      state: `complete`, `cached`, `failed`, `running`, `cut off` or `not reached`.
      started: seconds since 1970; None if it was not reached.
      took: seconds; None if it has no end.
      left, width: in percent of the run.
      error: why it failed.
    """

    node: str
    state: str
    started: float | None = None
    took: float | None = None
    left: float = 0.0
    width: float = 0.0
    error: str = ""

    @property
    def said(self) -> str:
        """State and duration, in words."""
        return f"{self.state} in {seconds(self.took)}" if self.took is not None else self.state


@dataclass(frozen=True)
class Timeline:
    """The bars of a run, and the times that are marked: (percent, words)."""

    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]


def timeline(evidence: Evidence, run: Run) -> Timeline:
    """Return the components of a run, those on record that were not reached among them."""
    found = _of_record(run) if run.record is not None else _of_metadata(evidence, run.run_id)
    begun = [bar.started for bar in found if bar.started is not None]
    if not begun:
        return Timeline(found, [])
    start = run.record.started if run.record is not None else min(begun)
    end = max(bar.started + (bar.took or 0.0) for bar in found if bar.started is not None)
    if run.state is State.RUNNING:
        end = time.time()
    length = max(end - start, 0.001)
    ticks = [(100 * tick / _TICKS, seconds(length * tick / _TICKS)) for tick in range(_TICKS + 1)]
    return Timeline([_placed(bar, start, length) for bar in found], ticks)


def _placed(bar: Bar, start: float, length: float) -> Bar:
    if bar.started is None:
        return bar
    left = _percent((bar.started - start) / length)
    # What was cut off went on until nobody knows when; what runs, until now.
    width = _percent(bar.took / length) if bar.took is not None else 100 - left
    return Bar(bar.node, bar.state, bar.started, bar.took, left, min(width, 100 - left), bar.error)


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2) if math.isfinite(share) else 0.0


def _of_record(run: Run) -> list[Bar]:
    assert run.record is not None
    found = []
    for name in dict.fromkeys([*run.record.expected, *run.record.nodes]):
        node = run.record.nodes.get(name)
        if node is None:
            found.append(Bar(name, "not reached"))
        elif node.ended is None:
            found.append(Bar(name, "running" if run.state is State.RUNNING else "cut off", node.started))
        else:
            found.append(Bar(name, node.state, node.started, max(node.ended - node.started, 0.0), error=node.error))
    return found


def _of_metadata(evidence: Evidence, run_id: str) -> list[Bar]:
    metadata = evidence.metadata
    found = []
    for execution in metadata.executions(run_id):
        begun, changed = (execution.create_time_since_epoch / 1000, execution.last_update_time_since_epoch / 1000)
        state = _STATES.get(metadata.state(execution), "cut off")
        took = max(changed - begun, 0.0) if state != "cut off" else None
        found.append(Bar(metadata.place(execution.id)[1] or str(execution.id), state, begun, took))
    return found
