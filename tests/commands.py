"""Parser of printed commands: as the shell and the program would parse them, without running them."""

import importlib
import shlex
from typing import Any

import click

import local_runner
import vertex_runner

_SCRIPTS = {"local_runner.py": local_runner.main, "vertex_runner.py": vertex_runner.main}


def parse_command(line: str) -> dict[str, Any]:
    """Return the parameters that a printed command gives to a program of this repository.

    Args:
      line: Command, perhaps with `cd FOLDER &&` before it and a comment behind it.
    """
    words = shlex.split(line, comments=True)
    if words[0] == "cd":
        assert words[2] == "&&"
        words = words[3:]
    assert words[0].rpartition("/")[2] == "python", line
    if words[1] == "-m":
        command, arguments = importlib.import_module(f"{words[2]}.__main__").main, words[3:]
    else:
        command, arguments = _SCRIPTS[words[1].rpartition("/")[2]], words[2:]
    parameters: dict[str, Any] = {"program": words[1] if words[1] != "-m" else words[2]}
    context = command.make_context(words[1], arguments)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None, line
        parameters["command"] = f"{parameters.get('command', '')} {name}".strip()
        context = command.make_context(name, rest, parent=context)
    return parameters | context.params
