"""Output on the terminal: errors and next commands in one form, and all other output in a log."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import click

from cli.errors import PipelineError

INTERRUPTED_EXIT_CODE = 130
# Console scripts, which pyproject.toml declares, have this prefix; those of the runners by the name of their file.
SCRIPT_PREFIX = "refpipe"
RUNNER_SCRIPTS = {"local_runner.py": "refpipe-run", "vertex_runner.py": "refpipe-vertex"}
_FOLDER = Path(__file__).resolve().parents[1]
# A wheel has the packages and not the file of the project.
_IS_CHECKOUT = (_FOLDER / "pyproject.toml").is_file()
_RUNNER = re.compile(rf"(?:python\s+)?\b({'|'.join(map(re.escape, RUNNER_SCRIPTS))})")

# sd-daemon(3): what the journal takes from the start of a line.
Level = Literal["error", "warning", "notice"]
_LEVELS: dict[Level, str] = {"error": "<3>", "warning": "<4>", "notice": "<5>"}


def clean(text: object) -> str:
    """Return text as one line with control characters escaped: `\\x1b` can recolour or move a terminal's text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def show_rights(path: Path) -> str:
    """Return the command that shows which permission is missing on the way to a file."""
    note = "the user and the mode of each folder; correct it with chmod or chown. Nothing is damaged"
    return format_command("namei", "-l", path, note=note)


def format_command(*arguments: object, note: str = "") -> str:
    """Return a command for a person to paste, its arguments quoted for the shell.

    Args:
      arguments: Program and arguments.
      note: Comment behind it.
    """
    line = shlex.join(map(str, arguments))
    return f"{line}    # {note}" if note else line


def get_runner(name: str) -> list[str]:
    """Return a runner as a user types it: the file in a checkout, the console script of an installed product.

    Args:
      name: Name of the file, such as `local_runner.py`.
    """
    if not _IS_CHECKOUT:
        return [RUNNER_SCRIPTS[name]]
    return ["python", name if Path(name).resolve() == _FOLDER / name else str(_FOLDER / name)]


def name_scripts(text: str) -> str:
    """Return a text in which an installed product names its console scripts instead of the runners' files."""
    return text if _IS_CHECKOUT else _RUNNER.sub(lambda match: RUNNER_SCRIPTS[match[1]], text)


class _HelpFormatter(click.HelpFormatter):
    """Help with the scripts that exist."""

    def getvalue(self) -> str:
        return name_scripts(super().getvalue())


# Every command imports this module, and click makes the formatter of each from this class.
click.Context.formatter_class = _HelpFormatter


def format_flags(**values: object) -> str:
    """Return flags for the end of a command, quoted for the shell, with a space before each.

    Args:
      values: Values by name, `run_root` for --run-root; None and the empty string are skipped.
    """
    flags_by_name = {name.replace("_", "-"): value for name, value in values.items() if value not in (None, "")}
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in flags_by_name.items())


def print_message(text: str, level: Level = "error") -> None:
    """Print lines to standard error; in systemd's journal with their level, so that `journalctl -p err` finds them."""
    prefix = _LEVELS[level] if is_journal(sys.stderr) else ""
    click.echo("\n".join(f"{prefix}{clean(line)}" for line in text.splitlines()), err=True)


def is_journal(stream: TextIO) -> bool:
    """Return whether a stream is the one that JOURNAL_STREAM names by its device and inode: systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def print_error(error: PipelineError, *, as_json: bool) -> None:
    """Print the error of a command: one line, or one JSON document with its exit code."""
    _print_end(f"error: {error}", str(error), error.exit_code, as_json)


def _print_end(line: str, text: str, exit_code: int, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": text, "exit_code": exit_code}))
    else:
        print_message(line)


def print_interruption(text: str, *, as_json: bool) -> None:
    """Print that a command was interrupted, in the form of `print_error`."""
    _print_end(text, text, INTERRUPTED_EXIT_CODE, as_json)


@contextmanager
def exit_on_error(*, as_json: bool = False, interrupted: str = "interrupted") -> Iterator[None]:
    """End the process of a command that fails, or is interrupted, with one line and its exit code.

    Args:
      as_json: Whether a JSON document is printed instead.
      interrupted: Text that is printed after Ctrl-C or SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except PipelineError as error:
        print_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_interruption(interrupted, as_json=as_json)
        sys.exit(INTERRUPTED_EXIT_CODE)
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(signal_number: int, frame: object) -> None:
    """Make SIGTERM end a command as Ctrl-C does."""
    raise KeyboardInterrupt(signal.Signals(signal_number).name)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep TensorFlow's start-up messages, which C++ writes past Python, off the terminal."""
    sys.stderr.flush()
    stderr_copy = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)


@contextmanager
def redirect_output(log: Path | None, shown_on: Literal["stdout", "stderr"] = "stdout") -> Iterator[TextIO]:
    """Redirect the output of TFX, Beam and TensorFlow to the log, from C++ too; yield the terminal.

    Args:
      log: File to append to; None leaves all output on the terminal.
      shown_on: Stream of the terminal.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(stream.fileno(), os.dup(stream.fileno())) for stream in (sys.stdout, sys.stderr)]
    if log is not None:
        with open(log, "ab") as file:
            for number, _ in saved:
                os.dup2(file.fileno(), number)
    try:
        with open(os.dup(saved[shown_on == "stderr"][1]), "w", buffering=1) as terminal:
            yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)
