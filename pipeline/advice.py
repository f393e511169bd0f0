"""What to try after a run that did not end well: one or two commands, by the kind of its error."""

import re

from pipeline.records import RunRecord, State

_NO_SPACE = re.compile(r"no space left|disk quota|ENOSPC", re.IGNORECASE)
_NO_MEMORY = re.compile(r"MemoryError|ResourceExhausted|OOM|out of memory|Cannot allocate memory", re.IGNORECASE)
_LOCKED = re.compile(r"database is locked|subset of tables in MLMD", re.IGNORECASE)


def advice(record: RunRecord, state: State, here: str, said: str, last_good: str | None) -> list[str]:
    """Commands, each with its reason.

    Args:
      record: of the run.
      state: its state.
      here: the flag that names the run root, with a space before it; empty if it need not be given.
      said: its error and the lines of its log.
      last_good: the last run before it that succeeded.
    """
    run = record.run_id
    resume = f"python -m oncall resume {run}{here}    # finished nodes are answered from the cache"
    match state:
        case State.RUNNING:
            return [f"python -m oncall log {run} --follow{here}" if record.log else f"ps -p {record.pid}"]
        case State.SUCCEEDED | State.CACHED:
            return [f"python -m oncall check{here}    # whether what it pushed serves"]
        case State.ABORTED | State.INCOMPLETE:
            return [resume]
        case State.CRASHED:
            return [resume, "journalctl -k --since '2 hours ago' | grep -i 'out of memory'    # the kernel killed it?"]
        case _:
            return [*_by_text(said, here, resume), *_by_code(record, here, last_good)][:3]


def _by_text(said: str, here: str, resume: str) -> list[str]:
    if _NO_SPACE.search(said):
        return [f"python -m oncall gc --keep-last 5 --keep-pushed{here}    # the disk is full; add --yes", resume]
    if _NO_MEMORY.search(said):
        return ["free -h    # too little memory; give the machine more, or lower training.batch_size", resume]
    if _LOCKED.search(said):
        return [f"python -m oncall doctor{here}    # who holds the database", resume]
    return []


def _by_code(record: RunRecord, here: str, last_good: str | None) -> list[str]:
    run = record.run_id
    compared = [f"python -m oncall diff {last_good} {run}{here}    # since the last good run"] if last_good else []
    match record.exit_code:
        case 3:
            return [
                f"python -m oncall anomalies {run}{here}    # what does not fit",
                f"python -m pipeline schema diff --run {run}{here}    # if the data is right and the schema is old",
                *compared,
            ]
        case 4:
            return [*compared, f"python -m oncall serving{here}    # what serves is untouched"]
        case 5:
            return [f"python -m oncall serving{here}    # which versions are taken", *compared]
        case 6:
            return [f"python -m oncall doctor{here}"]
        case _:
            log = [f"python -m oncall log {run}{here}    # the whole story"] if record.log else []
            return [*compared, *log, f"python -m oncall resume {run}{here}    # once the cause is mended"]
