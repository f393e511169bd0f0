"""The next commands after a run, chosen by its state and its error."""

import re
from pathlib import Path

from cli.errors import PushError, RunRootError
from cli.terminal import RUNNER_SCRIPTS, command, runner
from pipeline.run.causes import failed_node
from pipeline.run.records import DEFAULT_CONFIG, Kind, RunRecord, State, command_line, shown_config_flags
from pipeline.run.rejections import Rejection
from pipeline.run.run_root import default_run_root

_NO_SPACE = re.compile(r"no space left|disk quota|ENOSPC", re.IGNORECASE)
_NO_MEMORY = re.compile(r"MemoryError|ResourceExhausted|OOM|out of memory|Cannot allocate memory", re.IGNORECASE)
_LOCKED = re.compile(r"database is locked|subset of tables in MLMD", re.IGNORECASE)


def suggest_commands(
    record: RunRecord, state: State, here: str, error: str, last_good: str | None, run_root: Path
) -> list[str]:
    """Return the next commands, each with its reason.

    Args:
      record: Record of the run.
      state: State of the run.
      here: Flags that name the run root, or the project on Vertex AI, with a space before each; empty if they are not
        needed.
      error: Error of the run and lines of its log.
      last_good: Last run before it that succeeded.
      run_root: Folder of the run; not used for Vertex AI.
    """
    resume = _add_note(again(record, here), "finished nodes are reused from the cache")
    match state:
        case State.RUNNING if record.kind is Kind.VERTEX:
            return [command(*runner("vertex_runner.py"), "status", record.run_id) + _project_flags(here)]
        case State.RUNNING:
            return [_follow(record, here)]
        case State.SUCCEEDED | State.CACHED if record.kind is Kind.REHEARSAL:
            flags = shown_config_flags(record.config_flags)
            note = "what a push would do on Vertex AI"
            return [command(*runner("vertex_runner.py"), "submit", "--dry-run", *flags, note=note)]
        case State.SUCCEEDED | State.CACHED:
            return [f"python -m oncall check{here}    # whether what it pushed serves"]
        case State.ABORTED | State.INCOMPLETE:
            return [resume]
        case State.CRASHED:
            return [resume, "journalctl -k --since '2 hours ago' | grep -i 'out of memory'    # the kernel killed it?"]
        case _ if record.kind is Kind.REHEARSAL:
            return [*_log(record, here), _add_note(again(record, here), "once the cause is fixed")]
        case _:
            by_error = _suggest_by_error(error, here, resume) if record.kind is Kind.LOCAL else []
            return [*by_error, *_suggest_by_exit_code(record, here, last_good, run_root)][:3]


def suggest_after_rejection(rejection: Rejection, here: str) -> list[str]:
    """Return the commands for a run that was not started, by its exit code; none if the error is enough."""
    match rejection.exit_code:
        case PushError.exit_code:
            return [f"python -m oncall serving{here}    # which versions are taken"]
        case RunRootError.exit_code:
            return [ask_doctor(here)]
        case _ if Path(rejection.command[0]).name in ("local_runner.py", RUNNER_SCRIPTS["local_runner.py"]):
            typed = [part for part in rejection.command if part != "--quiet"]
            line = command_line([*typed, "--dry-run"], rejection.folder)
            return [f"{line}    # once it is fixed: checks it, and starts nothing"]
        case _:
            return []


def ask_doctor(here: str) -> str:
    """Return the command for a run root that cannot be used."""
    return f"python -m oncall doctor{here}    # what is wrong with it, and what to do"


def again(record: RunRecord, here: str) -> str:
    """Return the command that continues with a run."""
    match record.kind:
        case Kind.LOCAL:
            return f"python -m oncall resume {record.run_id}{here}"
        case Kind.REHEARSAL:
            return record.command_line
        case Kind.VERTEX:
            # A job does not know the file of its config.
            line = command(*runner("vertex_runner.py"), "submit", "--wait") + _project_flags(here)
            return f"{line}    # add its --config unless that is {DEFAULT_CONFIG}"


def _add_note(line: str, note: str) -> str:
    return f"{line}; {note}" if "    # " in line else f"{line}    # {note}"


def _project_flags(here: str) -> str:
    """Return the flags that vertex_runner.py has too: its config names the pipeline."""
    return here.partition(" --pipeline ")[0]


def _follow(record: RunRecord, here: str) -> str:
    """Return the command that shows how a run continues."""
    log = record.log_of(record.running_node)
    if record.kind is Kind.REHEARSAL and log:
        return command("tail", "-f", log)
    return f"python -m oncall log {record.run_id} --follow{here}" if log else f"ps -p {record.pid}"


def _log(record: RunRecord, here: str) -> list[str]:
    """Return the command that shows all that the failed node wrote."""
    log = record.log_of(failed_node(record))
    if log is None:
        return []
    commands = {Kind.LOCAL: f"python -m oncall log {record.run_id}{here}", Kind.REHEARSAL: command("less", "+G", log)}
    return [f"{commands.get(record.kind, log)}    # the whole story"]


def _suggest_by_error(error: str, here: str, resume: str) -> list[str]:
    if _NO_SPACE.search(error):
        return [f"python -m oncall gc --keep-last 5 --keep-pushed{here}    # the disk is full; add --yes", resume]
    if _NO_MEMORY.search(error):
        return ["free -h    # too little memory; give the machine more, or lower training.batch_size", resume]
    if _LOCKED.search(error):
        return [f"python -m oncall doctor{here}    # who holds the database", resume]
    return []


def schema_diff(record: RunRecord, run_root: Path) -> str:
    """Return the command that shows what the schema would be for a run's data."""
    flags = shown_config_flags(record.config_flags)
    place = [] if run_root == default_run_root(record.pipeline) else ["--run-root", run_root]
    note = "if the data is right and the schema is old"
    return command("python", "-m", "pipeline", "schema", "diff", "--run", record.run_id, *flags, *place, note=note)


def _suggest_by_exit_code(record: RunRecord, here: str, last_good: str | None, run_root: Path) -> list[str]:
    run = record.run_id
    compared = [f"python -m oncall diff {last_good} {run}{here}    # since the last good run"] if last_good else []
    match record.exit_code:
        case 3:
            accepting = [schema_diff(record, run_root)] if record.kind is Kind.LOCAL else []
            return [f"python -m oncall anomalies {run}{here}    # what does not fit", *accepting, *compared]
        case 4:
            return [*compared, f"python -m oncall serving{here}    # the serving version is unchanged"]
        case 5:
            return [f"python -m oncall serving{here}    # which versions are taken", *compared]
        case 6:
            return [ask_doctor(here)]
        case _:
            return [*compared, *_log(record, here), _add_note(again(record, here), "once the cause is fixed")]
