"""The progress of a run that is active: its node, the epoch, and the last lines of the log."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

from oncall.local.run_store import LocalRunStore
from oncall.log_excerpts import read_log_tail
from oncall.run_store import LogExcerpt, Run
from oncall.web.charts import Chart
from oncall.web.training_curves import draw_training, parse_epochs
from pipeline.run.records import RunRecord, RunState

_TAIL_LINES = 14
# The log of a training of hundreds of epochs.
_EPOCH_LINES = 2000
_COMPARED_RUNS = 20


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run.

    Attributes:
      node: node that has begun and not ended; empty between two.
      ended, expected: number of nodes that have ended, and of all.
      seconds: time in the node; None between two.
      usual_seconds: median time of the node in earlier runs that completed it; None if none did.
      epoch, epochs: epoch that ended last, and all; None outside of a training.
      curves: metrics of the epochs so far.
      tail: last lines of the log.
    """

    node: str
    ended: int
    expected: int
    seconds: float | None
    usual_seconds: float | None
    epoch: int | None
    epochs: int | None
    curves: Sequence[Chart]
    tail: LogExcerpt


def read_progress(store: LocalRunStore, run: Run) -> RunProgress | None:
    """Return the progress of a run; None if it is not active."""
    record = run.record
    if record is None or run.state is not RunState.RUNNING:
        return None
    node = record.running_node
    training = None
    if node is not None:
        training = parse_epochs(read_log_tail(record, node, _EPOCH_LINES).lines)
    return RunProgress(
        node=node or "",
        ended=sum(1 for begun in record.nodes.values() if begun.ended is not None),
        expected=len(record.expected),
        seconds=time.time() - record.nodes[node].started if node is not None else None,
        usual_seconds=_measure_usual(store, record, node) if node is not None else None,
        epoch=training.length if training is not None else None,
        epochs=training.epochs if training is not None else None,
        curves=draw_training({"": training}) if training is not None else (),
        tail=read_log_tail(record, node, _TAIL_LINES),
    )


def _measure_usual(store: LocalRunStore, record: RunRecord, node: str) -> float | None:
    times = [
        earlier.nodes[node].ended - earlier.nodes[node].started  # type: ignore[operator]
        for earlier in islice(store.read_records(), _COMPARED_RUNS)
        if earlier.run_id != record.run_id and node in earlier.nodes and earlier.nodes[node].state == "complete"
    ]
    return median(times) if times else None
