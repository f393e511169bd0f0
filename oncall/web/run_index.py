"""The facts by which runs are selected, kept in memory: a record is read again only if its file was replaced."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oncall.diff import flatten
from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from pipeline.run.causes import explain_state
from pipeline.run.records import RunState

# A record is replaced by another file when it is written, so that one of them differs.
_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class RunFacts:
    """Facts by which a run is selected.

    Attributes:
      run_id: ID of the run.
      state: state of the run.
      started: its start in seconds since 1970; None if it has no record.
      version: version that it pushed; None if it pushed none.
      config: its config by dotted key, with the values of sensitive features masked.
      texts: texts of its record in lower case.
    """

    run_id: str
    state: RunState
    started: float | None = None
    version: int | None = None
    config: Mapping[str, Any] | None = None
    texts: tuple[str, ...] = ()


class RunIndex:
    """Facts of the runs of one run root. It holds those of runs that have ended, whose state cannot change."""

    def __init__(self) -> None:
        self._facts: dict[str, tuple[_Signature, RunFacts]] = {}
        # Most runs have the same config, which is larger than all other facts.
        self._configs: dict[str, Mapping[str, Any]] = {}

    def read(self, store: LocalRunStore, run_id: str) -> RunFacts:
        """Return the facts of a run."""
        signature = _read_signature(store, run_id)
        kept = self._facts.get(run_id)
        if kept is not None and kept[0] == signature:
            return kept[1]
        run = store.get_run(run_id)
        facts = self._collect(run)
        # A file that was replaced while it was read has another signature at the next read.
        if signature is not None and run.record is not None and run.record.ended is not None:
            self._facts[run_id] = (signature, facts)
        return facts

    def _collect(self, run: Run) -> RunFacts:
        record = run.record
        if record is None:
            return RunFacts(run.run_id, run.state, texts=(run.run_id.lower(),))
        config = flatten(record.shown_config)
        texts = (run.run_id, explain_state(record, run.state), record.user, record.command_line)
        return RunFacts(
            run.run_id,
            run.state,
            record.started,
            record.push.written_version if record.push is not None else None,
            self._configs.setdefault(json.dumps(config), config),
            tuple(text.lower() for text in texts),
        )


def _read_signature(store: LocalRunStore, run_id: str) -> _Signature | None:
    """Return what differs between two files of the same name; None if there is none."""
    try:
        stat = os.stat(store.root.locate_record(run_id))
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)
