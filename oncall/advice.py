"""What to try after a run that did not end well: one or two commands, by the kind of its error."""

import re

from oncall.sources import Source
from pipeline.records import Kind, RunRecord, State

_NO_SPACE = re.compile(r"no space left|disk quota|ENOSPC", re.IGNORECASE)
_NO_MEMORY = re.compile(r"MemoryError|ResourceExhausted|OOM|out of memory|Cannot allocate memory", re.IGNORECASE)
_LOCKED = re.compile(r"database is locked|subset of tables in MLMD", re.IGNORECASE)


def advice(evidence: Source, record: RunRecord, state: State, said: str, last_good: str | None) -> list[str]:
    """Commands, each with its reason.

    Args:
      evidence: where the run is known.
      record: of the run.
      state: its state.
      said: its error and the lines of its log.
      last_good: the last run before it that succeeded.
    """
    here = evidence.here
    resume = f"{evidence.again(record)}    # finished nodes are answered from the cache"
    match state:
        case State.RUNNING:
            return [evidence.follow(record)]
        case State.SUCCEEDED | State.CACHED if record.kind == Kind.REHEARSAL:
            return ["python vertex_runner.py submit --dry-run    # what a push would do on Vertex AI"]
        case State.SUCCEEDED | State.CACHED:
            return [f"python -m oncall check{here}    # whether what it pushed serves"]
        case State.ABORTED:
            return [resume]
        case State.CRASHED:
            return [resume, "journalctl -k --since '2 hours ago' | grep -i 'out of memory'    # the kernel killed it?"]
        case _ if record.kind == Kind.REHEARSAL:
            return [*_log(evidence, record), f"{evidence.again(record)}    # once the cause is mended"]
        case _:
            by_text = _by_text(said, here, resume) if record.kind == Kind.LOCAL else []
            return [*by_text, *_by_code(evidence, record, last_good)][:3]


def _by_text(said: str, here: str, resume: str) -> list[str]:
    if _NO_SPACE.search(said):
        return [f"python -m oncall gc --keep-last 5 --keep-pushed{here}    # the disk is full; add --yes", resume]
    if _NO_MEMORY.search(said):
        return ["free -h    # too little memory; give the machine more, or lower training.batch_size", resume]
    if _LOCKED.search(said):
        return [f"python -m oncall doctor{here}    # who holds the database", resume]
    return []


def _by_code(evidence: Source, record: RunRecord, last_good: str | None) -> list[str]:
    run, here = record.run_id, evidence.here
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
            again = f"{evidence.again(record)}    # once the cause is mended"
            return [*compared, *_log(evidence, record), again]


def _log(evidence: Source, record: RunRecord) -> list[str]:
    shown = evidence.whole_log(record)
    return [f"{shown}    # the whole story"] if shown else []
