"""What all commands share: the run root, `--json`, one line for an error, an exit code."""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from oncall.evidence import Evidence
from oncall.terminal import Answer, clean, show
from schemas.errors import PipelineError, RunRootError

INTERRUPTED = 130


def answers(command: Callable[..., Answer | int]) -> Callable[..., None]:
    """Gives a command its common options, and prints what it answers or why it cannot."""

    @functools.wraps(command)
    def run(run_root: Path | None, as_json: bool, **options: Any) -> None:
        try:
            code = _answered(lambda: command(Evidence(run_root), **options), as_json)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            code = INTERRUPTED
        sys.exit(code)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option(
            "--run-root",
            type=click.Path(path_type=Path),
            metavar="FOLDER",
            help="The folder of the runs.  [default: the only runs/* below the current folder that holds runs]",
        ),
    ):
        run = option(run)
    return run


def _answered(question: Callable[[], Answer | int], as_json: bool) -> int:
    """Prints the answer, or why there is none; returns the exit code."""
    try:
        answer = question()
    except PipelineError as error:
        return _refused(error, as_json)
    except OSError as error:
        place = error.filename or "the run root"
        return _refused(RunRootError(f"{place}: cannot be read: {error.strerror or error}"), as_json)
    if isinstance(answer, int):
        # It has printed all there is to say.
        return answer
    show(answer, as_json=as_json)
    return answer.exit_code


def _refused(error: PipelineError, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": str(error), "exit_code": error.exit_code}))
    else:
        click.echo(f"error: {clean(error)}", err=True)
    return error.exit_code
