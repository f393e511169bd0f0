"""What all commands share: the run root, `--json`, one line for an error, an exit code."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from oncall.evidence import Evidence
from oncall.terminal import Answer, show
from schemas.errors import RunRootError
from serving.terminal import refusals


def answers(command: Callable[..., Answer | int]) -> Callable[..., None]:
    """Gives a command its common options, and prints what it answers or why it cannot."""

    @functools.wraps(command)
    def run(run_root: Path | None, as_json: bool, **options: Any) -> None:
        with refusals(as_json=as_json):
            code = _answered(lambda: command(Evidence(run_root), **options), as_json)
        sys.exit(code)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option(
            "--run-root",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="The folder of the runs.  [default: the only runs/* below the current folder with a metadata.sqlite]",
        ),
    ):
        run = option(run)
    return run


def _answered(question: Callable[[], Answer | int], as_json: bool) -> int:
    """Prints the answer; returns the exit code."""
    try:
        answer = question()
    except BrokenPipeError:
        # Whoever read along has seen enough, as `head` does; click ends quietly then.
        raise
    except OSError as error:
        place = error.filename or "the run root"
        raise RunRootError(f"{place}: cannot be read: {error.strerror or error}") from error
    if isinstance(answer, int):
        # It has printed all there is to say.
        return answer
    show(answer, as_json=as_json)
    return answer.exit_code
