"""Prints the result of a command; no text of metadata or logs can colour or move what a terminal shows."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.strict_json import to_json
from cli.terminal import clean, print_message
from oncall.results import CommandResult, ResultTable
from oncall.text_format import join_heading, shorten

# Wider than any table: output to a file or a pipe is neither folded nor cut.
_FILE_WIDTH = 1 << 20
# A column of sentences on a terminal is at least this wide, and its sentences are cut at this length.
_MIN_SENTENCE_WIDTH, _MAX_SENTENCE_CHARS = 24, 120
_MAX_LINES = 25
# Lines of a table beside its rows, and rows that it keeps.
_TABLE_LINES, _MIN_ROWS = 4, 5
_COMMAND_LABELS = ("try ", "undo ", f"{'':<10} do: ")
_STYLES = {"SUCCEEDED": "green", "CACHED": "green", "RUNNING": "cyan", "INCOMPLETE": "yellow", "ok": "green"}
_BAD_STYLE = "bold red"
_BAD_WORDS = ("FAILED", "CRASHED", "ABORTED", "UNKNOWN", "NOT ok")


def print_result(result: CommandResult, *, as_json: bool, show_all: bool = True) -> None:
    """Print the result of a command.

    Args:
      result: result of the command.
      as_json: whether its document is printed.
      show_all: whether all lines are printed, and not only the first ones.
    """
    if as_json:
        error = {"error": result.error} if result.error else {}
        click.echo(to_json({**result.document, **error}))
        return
    width = _measure_terminal()
    console = Console(width=width or _FILE_WIDTH, emoji=False)
    room = _MAX_LINES if not show_all else 1 << 30
    hidden = 0
    for part in result.parts:
        if isinstance(part, ResultTable):
            rows = max(min(len(part.cells), room - _TABLE_LINES), _MIN_ROWS)
            hidden += len(part.cells[rows:])
            room -= min(len(part.cells), rows) + _TABLE_LINES
            for line in _render_table(replace(part, cells=part.cells[:rows]), width):
                console.print(line, soft_wrap=isinstance(line, Text), highlight=False)
            continue
        room -= 1
        # The next command is never left out.
        if room < 0 and not part.startswith(_COMMAND_LABELS):
            hidden += 1
            continue
        console.print(Text(clean(part)), soft_wrap=True, highlight=False)
    if hidden:
        console.print(Text(f"{hidden} more lines; --all prints them"), soft_wrap=True, highlight=False)
    if result.error:
        print_message(f"error: {result.error}")


def _measure_terminal() -> int | None:
    """Return the width in characters; None if the output is not a terminal."""
    return Console().width if sys.stdout.isatty() else None


def _render_table(table: ResultTable, width: int | None) -> list[Table | Text]:
    """Return the rows as a table without its least columns if they do not fit, or each row as a block of lines."""
    columns = _collect_columns(table, width)
    omitted: list[str] = []
    while width is not None and not _has_room(columns, table.sentences, width):
        if len(omitted) == len(table.least):
            return _render_blocks(_collect_columns(table, None))
        omitted.append(table.least[len(omitted)])
        del columns[omitted[-1]]
    rendered = Table()
    for heading in columns:
        rendered.add_column(heading, overflow="fold", no_wrap=width is None or heading not in table.sentences)
    for cells in zip(*columns.values(), strict=True):
        rendered.add_row(*(Text(cell, style=_choose_style(cell)) for cell in cells))
    return [rendered, *([Text(f"not shown: {', '.join(omitted)}; a wider terminal has room")] if omitted else [])]


def _collect_columns(table: ResultTable, width: int | None) -> dict[str, list[str]]:
    """Return the cells by heading, cleaned and cut."""
    columns: dict[str, list[str]] = {}
    for number, heading in enumerate(table.headings):
        cells = [join_heading(str(row[number])) for row in table.cells]
        columns[heading] = [clean(cell if width is None else shorten(cell, _MAX_SENTENCE_CHARS)) for cell in cells]
    return columns


def _has_room(columns: Mapping[str, Sequence[str]], sentences: Collection[str], width: int) -> bool:
    needed = 1
    for heading, cells in columns.items():
        widest = max(map(cell_len, (heading, *cells)))
        needed += 3 + (min(widest, _MIN_SENTENCE_WIDTH) if heading in sentences else widest)
    return needed <= width


def _render_blocks(columns: Mapping[str, Sequence[str]]) -> list[Table | Text]:
    lines: list[Table | Text] = []
    indent = max(10, *map(len, columns))
    for cells in zip(*columns.values(), strict=True):
        filled = [(heading, cell) for heading, cell in zip(columns, cells, strict=True) if cell]
        lines += [Text.assemble(f"{heading:<{indent}} ", (cell, _choose_style(cell))) for heading, cell in filled]
        lines.append(Text())
    return lines[:-1]


def _choose_style(text: str) -> str:
    return _BAD_STYLE if text in _BAD_WORDS else _STYLES.get(text, "")
