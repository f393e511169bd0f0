"""Keeps the terminal for what a person is to read."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

import click

from schemas.errors import PipelineError


def say_refusal(error: PipelineError, *, as_json: bool) -> None:
    """Says why a command did not do what was asked: one line, or one JSON document with its exit code."""
    if as_json:
        click.echo(json.dumps({"error": str(error), "exit_code": error.exit_code}))
    else:
        click.echo(f"error: {error}", err=True)


@contextmanager
def own_terminal(log: Path | None, shown_on: Literal["stdout", "stderr"] = "stdout") -> Iterator[TextIO]:
    """What TFX, Beam and TensorFlow print, from C++ too, goes to the log; the terminal is what was standard output.

    Args:
      log: the file to append to; None leaves all of it on the terminal.
      shown_on: which of the two streams the terminal is.
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
