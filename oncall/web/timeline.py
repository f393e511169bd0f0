"""The start and duration of each node of a run, as bars on one scale."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from oncall.text_format import format_seconds
from pipeline.run.records import RunState

_TICKS = 4
# States of executions without a record.
_STATES = {"COMPLETE": "complete", "CACHED": "cached", "FAILED": "failed"}


@dataclass(frozen=True)
class Bar:
    """One node.

    Attributes:
      node: name of the node.
      state: `complete`, `cached`, `failed`, `running`, `cut off` or `not reached`.
      started: seconds since 1970; None if it was not reached.
      took: duration in seconds; None if it has no end.
      left, width: position and length in percent of the run.
      error: reason of the failure.
    """

    node: str
    state: str
    started: float | None = None
    took: float | None = None
    left: float = 0.0
    width: float = 0.0
    error: str = ""

    @property
    def label(self) -> str:
        """State and duration."""
        return f"{self.state} in {format_seconds(self.took)}" if self.took is not None else self.state


@dataclass(frozen=True)
class Timeline:
    """The bars of a run, and the marks of the scale: (percent, label)."""

    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]


def read_timeline(store: LocalRunStore, run: Run) -> Timeline:
    """Return the nodes of a run, also those on record that were not reached."""
    bars = _read_record(run) if run.record is not None else _read_metadata(store, run.run_id)
    starts = [bar.started for bar in bars if bar.started is not None]
    if not starts:
        return Timeline(bars, [])
    start = run.record.started if run.record is not None else min(starts)
    end = max(bar.started + (bar.took or 0.0) for bar in bars if bar.started is not None)
    if run.state is RunState.RUNNING:
        end = time.time()
    length = max(end - start, 0.001)
    ticks = [(100 * tick / _TICKS, format_seconds(length * tick / _TICKS)) for tick in range(_TICKS + 1)]
    return Timeline([_scale_bar(bar, start, length) for bar in bars], ticks)


def _scale_bar(bar: Bar, start: float, length: float) -> Bar:
    if bar.started is None:
        return bar
    left = _to_percent((bar.started - start) / length)
    # The end of a cut-off node is not known; a running node lasts until now.
    width = _to_percent(bar.took / length) if bar.took is not None else 100 - left
    return Bar(bar.node, bar.state, bar.started, bar.took, left, min(width, 100 - left), bar.error)


def _to_percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2) if math.isfinite(share) else 0.0


def _read_record(run: Run) -> list[Bar]:
    assert run.record is not None
    bars = []
    for name in dict.fromkeys([*run.record.expected, *run.record.nodes]):
        node = run.record.nodes.get(name)
        if node is None:
            bars.append(Bar(name, "not reached"))
        elif node.ended is None:
            bars.append(Bar(name, "running" if run.state is RunState.RUNNING else "cut off", node.started))
        else:
            bars.append(Bar(name, node.state, node.started, max(node.ended - node.started, 0.0), error=node.error))
    return bars


def _read_metadata(store: LocalRunStore, run_id: str) -> list[Bar]:
    metadata = store.metadata
    bars = []
    for execution in metadata.get_run_executions(run_id):
        start, changed = (execution.create_time_since_epoch / 1000, execution.last_update_time_since_epoch / 1000)
        state = _STATES.get(execution.state, "cut off")
        took = max(changed - start, 0.0) if state != "cut off" else None
        bars.append(Bar(metadata.get_run_and_node(execution.id)[1] or str(execution.id), state, start, took))
    return bars
