"""Reference of all commands: the help of every entry point, as one page.

python -m checks.commands > docs/commands.md
"""

import copy
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click

# Command line of each entry point, and the module that has its `main`.
ENTRY_POINTS = {
    "python local_runner.py": "local_runner",
    "python vertex_runner.py": "vertex_runner",
    "python -m pipeline": "pipeline.__main__",
    "python -m oncall": "oncall.__main__",
    "python -m serving": "serving.__main__",
    "python -m serving.outcomes": "serving.outcomes.__main__",
    "python -m serving.registry": "serving.registry.__main__",
    "python -m serving.request_log": "serving.request_log.__main__",
    "python -m serving.replay": "serving.replay.__main__",
    "python -m serving.rollout": "serving.rollout.__main__",
    "python -m serving.batch": "serving.batch.__main__",
    "python -m emulators.vertex": "emulators.vertex.__main__",
    "python -m emulators.storage": "emulators.storage.__main__",
    "python -m emulators.bigquery": "emulators.bigquery.__main__",
}
_WIDTH_CHARS = 100
_HEAD = """# Commands

The `--help` of every command. `python -m checks.commands > docs/commands.md` writes this page, and a test compares it
with the programs.

An installed product, such as a wheel, has a console script for each of them:

| in a checkout | installed |
|---|---|
"""


def render_page() -> str:
    """Return the page as Markdown."""
    return (
        _HEAD
        + _render_scripts()
        + "".join(
            section
            for line, module in ENTRY_POINTS.items()
            for section in _render_sections(importlib.import_module(module).main, line, None)
        )
    )


def _render_scripts() -> str:
    """Return the rows of the table of console scripts."""
    project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())["project"]
    scripts = {target.partition(":")[0]: name for name, target in project["scripts"].items()}
    return "".join(f"| `{line}` | `{scripts[module]}` |\n" for line, module in ENTRY_POINTS.items())


def _render_sections(command: click.Command, line: str, parent: click.Context | None) -> Iterator[str]:
    """Yield the section of a command, then those of its subcommands."""
    name = line if parent is None else line.rpartition(" ")[2]
    # A command keeps its help option from the first context that asks for it, perhaps one without its group.
    command = copy.copy(command)
    command._help_option = None
    settings = {**command.context_settings, "terminal_width": _WIDTH_CHARS, "max_content_width": _WIDTH_CHARS}
    with click.Context(command, info_name=name, parent=parent, **settings) as context:
        help_text = command.get_help(context)
        level = "##" if parent is None else "###"
        yield f"\n{level} `{line}`\n\n```text\n{help_text}\n```\n"
        if isinstance(command, click.Group):
            for subcommand_name in command.list_commands(context):
                subcommand = command.get_command(context, subcommand_name)
                if subcommand is not None and not subcommand.hidden:
                    yield from _render_sections(subcommand, f"{line} {subcommand_name}", context)


if __name__ == "__main__":
    click.echo(render_page(), nl=False)
