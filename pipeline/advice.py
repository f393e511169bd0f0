"""What to try after a run that did not end well: one or two commands, by the kind of its error."""

import re
import shlex
from dataclasses import dataclass
from typing import Protocol

from pipeline.causes import failed_node
from pipeline.records import Kind, RunRecord, State

_NO_SPACE = re.compile(r"no space left|disk quota|ENOSPC", re.IGNORECASE)
_NO_MEMORY = re.compile(r"MemoryError|ResourceExhausted|OOM|out of memory|Cannot allocate memory", re.IGNORECASE)
_LOCKED = re.compile(r"database is locked|subset of tables in MLMD", re.IGNORECASE)


class Commands(Protocol):
    """How to ask further and go on, where a run is known.

    Attributes:
      here: the flags that name the place, with a space before them; empty if they need not be given.
    """

    here: str

    def again(self, record: RunRecord) -> str:
        """The command that goes on with a run."""

    def follow(self, record: RunRecord) -> str:
        """The command that shows how a run goes on."""

    def whole_log(self, record: RunRecord) -> str | None:
        """The command that shows all that the failed node wrote."""


@dataclass
class OnThisMachine:
    """Of runs and rehearsals of this machine; `here` as for all commands."""

    here: str

    def again(self, record: RunRecord) -> str:
        """`resume`, which no rehearsal needs."""
        if record.kind == Kind.REHEARSAL:
            return shlex.join(["python", *record.command])
        return f"python -m oncall resume {record.run_id}{self.here}"

    def follow(self, record: RunRecord) -> str:
        """`oncall log --follow`, if there is a log."""
        log = record.log_of(record.running_node)
        if record.kind == Kind.REHEARSAL and log:
            return f"tail -f {log}"
        return f"python -m oncall log {record.run_id} --follow{self.here}" if log else f"ps -p {record.pid}"

    def whole_log(self, record: RunRecord) -> str | None:
        """`oncall log`, if there is one."""
        log = record.log_of(failed_node(record))
        if record.kind == Kind.REHEARSAL and log:
            return f"less +G {log}"
        return f"python -m oncall log {record.run_id}{self.here}" if log else None


def advice(commands: Commands, record: RunRecord, state: State, said: str, last_good: str | None) -> list[str]:
    """Commands, each with its reason.

    Args:
      commands: where the run is known.
      record: of the run.
      state: its state.
      said: its error and the lines of its log.
      last_good: the last run before it that succeeded.
    """
    here = commands.here
    resume = f"{commands.again(record)}    # finished nodes are answered from the cache"
    match state:
        case State.RUNNING:
            return [commands.follow(record)]
        case State.SUCCEEDED | State.CACHED if record.kind == Kind.REHEARSAL:
            return ["python vertex_runner.py submit --dry-run    # what a push would do on Vertex AI"]
        case State.SUCCEEDED | State.CACHED:
            return [f"python -m oncall check{here}    # whether what it pushed serves"]
        case State.ABORTED | State.INCOMPLETE:
            return [resume]
        case State.CRASHED:
            return [resume, "journalctl -k --since '2 hours ago' | grep -i 'out of memory'    # the kernel killed it?"]
        case _ if record.kind == Kind.REHEARSAL:
            return [*_log(commands, record), f"{commands.again(record)}    # once the cause is mended"]
        case _:
            by_text = _by_text(said, here, resume) if record.kind == Kind.LOCAL else []
            return [*by_text, *_by_code(commands, record, last_good)][:3]


def _by_text(said: str, here: str, resume: str) -> list[str]:
    if _NO_SPACE.search(said):
        return [f"python -m oncall gc --keep-last 5 --keep-pushed{here}    # the disk is full; add --yes", resume]
    if _NO_MEMORY.search(said):
        return ["free -h    # too little memory; give the machine more, or lower training.batch_size", resume]
    if _LOCKED.search(said):
        return [f"python -m oncall doctor{here}    # who holds the database", resume]
    return []


def _by_code(commands: Commands, record: RunRecord, last_good: str | None) -> list[str]:
    run, here = record.run_id, commands.here
    compared = [f"python -m oncall diff {last_good} {run}{here}    # since the last good run"] if last_good else []
    accept = f"python -m pipeline schema diff --run {run}{here}    # if the data is right and the schema is old"
    match record.exit_code:
        case 3:
            accepting = [accept] if record.kind == Kind.LOCAL else []
            return [f"python -m oncall anomalies {run}{here}    # what does not fit", *accepting, *compared]
        case 4:
            return [*compared, f"python -m oncall serving{here}    # what serves is untouched"]
        case 5:
            return [f"python -m oncall serving{here}    # which versions are taken", *compared]
        case 6:
            return [f"python -m oncall doctor{here}"]
        case _:
            again = f"{commands.again(record)}    # once the cause is mended"
            return [*compared, *_log(commands, record), again]


def _log(commands: Commands, record: RunRecord) -> list[str]:
    shown = commands.whole_log(record)
    return [f"{shown}    # the whole story"] if shown else []
