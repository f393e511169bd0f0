"""The next commands after a run, chosen by its state and its error."""

import re
from pathlib import Path

from cli.errors import PushError, RunRootError
from cli.terminal import RUNNER_SCRIPTS, format_command, get_runner
from pipeline.run.causes import find_failed_node
from pipeline.run.records import DEFAULT_CONFIG, Kind, RunRecord, RunState, format_command_line
from pipeline.run.rejections import Rejection
from serving.registry.local.errors import RegistryFileError

_NO_SPACE = re.compile(r"no space left|disk quota|ENOSPC", re.IGNORECASE)
_NO_MEMORY = re.compile(r"MemoryError|ResourceExhausted|OOM|out of memory|Cannot allocate memory", re.IGNORECASE)
_NO_IMAGE = re.compile(r"pull(ing)? (the )?image|ImagePull|image .*not found|manifest unknown", re.IGNORECASE)
_IMAGE = re.compile(r"[a-z0-9.-]+\.(?:pkg\.dev|io)/[\w./-]+(?:[:@][\w.:-]*\w)?")
_ONCALL = ("python", "-m", "oncall")
_LOCKED = re.compile(r"database is locked|subset of tables in MLMD", re.IGNORECASE)


def suggest_oncall(name: str, *arguments: object, here: str, note: str = "") -> str:
    """Return a command of `python -m oncall`, complete and quoted for the shell.

    Args:
      name: Name of the command.
      arguments: Its arguments.
      here: Flags that name the run root, or the project on Vertex AI, quoted, with a space before each.
      note: Comment behind it.
    """
    line = format_command(*_ONCALL, name, *arguments) + here
    return f"{line}    # {note}" if note else line


def suggest_commands(
    record: RunRecord, state: RunState, here: str, error: str, last_good: str | None, run_root: Path
) -> list[str]:
    """Return the next commands, each with its reason.

    Args:
      record: Record of the run.
      state: State of the run.
      here: Flags that name the run root, or the project on Vertex AI, with a space before each.
      error: Error of the run and lines of its log.
      last_good: Last run before it that succeeded.
      run_root: Folder of the run; not used for Vertex AI.
    """
    resume = _add_note(suggest_resume(record, here), "finished nodes are reused from the cache")
    match state:
        case RunState.RUNNING if record.kind is Kind.VERTEX:
            return [
                format_command(*get_runner("vertex_runner.py"), "status", record.run_id) + _select_project_flags(here)
            ]
        case RunState.RUNNING:
            return [_suggest_follow(record, here)]
        case RunState.SUCCEEDED | RunState.CACHED if record.kind is Kind.REHEARSAL:
            flags = record.config_flags
            note = "what a push would do on Vertex AI"
            return [format_command(*get_runner("vertex_runner.py"), "submit", "--dry-run", *flags, note=note)]
        case RunState.SUCCEEDED | RunState.CACHED:
            return [suggest_oncall("check", here=here, note="whether what it pushed serves")]
        case RunState.ABORTED | RunState.INCOMPLETE:
            return [resume]
        case RunState.CRASHED:
            return [resume, "journalctl -k --since '2 hours ago' | grep -i 'out of memory'    # the kernel killed it?"]
        case _ if record.kind is Kind.REHEARSAL:
            return [*_suggest_log(record, here), _add_note(suggest_resume(record, here), "once the cause is fixed")]
        case _:
            is_local, fixed = (
                record.kind is Kind.LOCAL,
                _add_note(suggest_resume(record, here), "once the cause is fixed"),
            )
            by_error = _suggest_by_error(error, here, resume) if is_local else _suggest_by_image(error, fixed)
            lines = [*by_error, *_suggest_by_exit_code(record, here, last_good, run_root)]
            return list(dict.fromkeys(lines))[:3]


def suggest_after_rejection(rejection: Rejection, here: str) -> list[str]:
    """Return the commands for a run that was not started, by its exit code; none if the error is enough."""
    match rejection.exit_code:
        case PushError.exit_code if rejection.error == RegistryFileError.__name__:
            return [suggest_doctor(here)]
        case PushError.exit_code:
            return [suggest_oncall("serving", here=here, note="which versions are taken")]
        case RunRootError.exit_code:
            return [suggest_doctor(here)]
        case _ if Path(rejection.command[0]).name in ("local_runner.py", RUNNER_SCRIPTS["local_runner.py"]):
            typed = [part for part in rejection.command if part != "--quiet"]
            line = format_command_line([*typed, "--dry-run"], rejection.folder)
            return [f"{line}    # once it is fixed: checks it, and starts nothing"]
        case _:
            return []


def suggest_doctor(here: str) -> str:
    """Return the command for a run root that cannot be used."""
    return suggest_oncall("doctor", here=here, note="what is wrong with it, and what to do")


def suggest_resume(record: RunRecord, here: str) -> str:
    """Return the command that continues with a run."""
    match record.kind:
        case Kind.LOCAL:
            return suggest_oncall("resume", record.run_id, here=here)
        case Kind.REHEARSAL:
            return record.command_line
        case Kind.VERTEX:
            # A job does not have the file of its config.
            line = format_command(*get_runner("vertex_runner.py"), "submit", "--wait") + _select_project_flags(here)
            return f"{line}    # add its --config unless that is {DEFAULT_CONFIG}"


def _add_note(line: str, note: str) -> str:
    return f"{line}; {note}" if "    # " in line else f"{line}    # {note}"


def _select_project_flags(here: str) -> str:
    """Return the flags that vertex_runner.py has too: its config names the pipeline."""
    return here.partition(" --pipeline ")[0]


def _suggest_follow(record: RunRecord, here: str) -> str:
    """Return the command that shows how a run continues."""
    log = record.find_log(record.running_node)
    if record.kind is Kind.REHEARSAL and log:
        return format_command("tail", "-f", log)
    return (
        suggest_oncall("log", record.run_id, "--follow", here=here) if log else format_command("ps", "-p", record.pid)
    )


def _suggest_log(record: RunRecord, here: str) -> list[str]:
    """Return the command that shows all that the failed node wrote."""
    log = record.find_log(find_failed_node(record))
    if log is None:
        return []
    commands = {
        Kind.LOCAL: suggest_oncall("log", record.run_id, here=here),
        Kind.REHEARSAL: format_command("less", "+G", log),
    }
    return [f"{commands.get(record.kind, log)}    # the whole story"]


def _suggest_by_error(error: str, here: str, resume: str) -> list[str]:
    if _NO_SPACE.search(error):
        return [suggest_oncall("doctor", here=here, note="what fills the disk, and what frees most"), resume]
    if _NO_MEMORY.search(error):
        return ["free -h    # too little memory; give the machine more, or lower training.batch_size", resume]
    if _LOCKED.search(error):
        return [suggest_oncall("doctor", here=here, note="who holds the database"), resume]
    return []


def _suggest_by_image(error: str, fixed: str) -> list[str]:
    """Return the command that shows whether an image exists that Vertex AI could not pull, and `fixed`."""
    image = _IMAGE.search(error)
    if not _NO_IMAGE.search(error) or image is None:
        return []
    note = "whether it exists; the service agent of Vertex AI needs roles/artifactregistry.reader"
    return [format_command("gcloud", "artifacts", "docker", "images", "describe", image.group(0), note=note), fixed]


def suggest_schema_diff(record: RunRecord, run_root: Path) -> str:
    """Return the command that shows what the schema would be for a run's data."""
    place = [*record.config_flags, "--run-root", run_root]
    note = "if the data is right and the schema is old"
    return format_command("python", "-m", "pipeline", "schema", "diff", "--run", record.run_id, *place, note=note)


def _suggest_by_exit_code(record: RunRecord, here: str, last_good: str | None, run_root: Path) -> list[str]:
    run = record.run_id
    compared = [suggest_oncall("diff", last_good, run, here=here, note="since the last good run")] if last_good else []
    match record.exit_code:
        case 3:
            accepting = [suggest_schema_diff(record, run_root)] if record.kind is Kind.LOCAL else []
            return [suggest_oncall("anomalies", run, here=here, note="what does not fit"), *accepting, *compared]
        case 4:
            return [*compared, suggest_oncall("serving", here=here, note="the serving version is unchanged")]
        case 5:
            return [suggest_oncall("serving", here=here, note="which versions are taken"), *compared]
        case 6:
            return [suggest_doctor(here)]
        case _:
            return [
                *compared,
                *_suggest_log(record, here),
                _add_note(suggest_resume(record, here), "once the cause is fixed"),
            ]
