"""Text from metadata and logs, made safe to print: it can neither colour nor move what a terminal shows."""

import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serving.terminal import clean as clean
from serving.terminal import say

_WIDTH_OF_A_FILE = 160
_STYLES = {"SUCCEEDED": "green", "CACHED": "green", "RUNNING": "cyan", "INCOMPLETE": "yellow", "ok": "green"}
_BAD = "bold red"
_BAD_WORDS = ("FAILED", "CRASHED", "ABORTED", "UNKNOWN", "NOT ok")


@dataclass(frozen=True)
class Rows:
    """A table: its headings, and its cells as plain text."""

    headings: Sequence[str]
    cells: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Answer:
    """What a command says.

    Attributes:
      document: for `--json`.
      shown: lines and tables, for people.
      exit_code: of the process.
      error: what could not be looked at, though the rest is right.
    """

    document: dict[str, Any]
    shown: Sequence[str | Rows]
    exit_code: int = 0
    error: str = ""


def short(text: str, width: int = 80) -> str:
    """The first line, with the next if it is only a heading, cut at `width` characters."""
    first, *rest = [" ".join(line.split()) for line in text.splitlines() if line.strip()] or [""]
    line = f"{first} {rest[0]}" if rest and first.endswith(":") else first
    return line if len(line) <= width else f"{line[: width - 3]}..."


def seconds(value: float | None) -> str:
    """A duration as people say it."""
    if value is None or not math.isfinite(value):
        return ""
    if value < 60:
        return f"{value:.1f} s"
    minutes = int(value) // 60
    return f"{minutes} min" if minutes < 180 else f"{minutes // 60} h"


def moment(value: float | None) -> str:
    """Seconds since 1970 as local time, as run ids are."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value)) if value else ""
    except (OverflowError, ValueError, OSError):
        # A damaged record.
        return f"{value:g} seconds after 1970"


def volume(size: float) -> str:
    """Bytes as people say it."""
    return f"{size / 1e3:,.1f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def labelled(pairs: Iterable[tuple[str, object]]) -> list[str]:
    """Lines of a label and a text; those without a text are left out."""
    return [f"{label:<10} {text}" for label, text in pairs if text not in ("", None)]


def show(answer: Answer, *, as_json: bool) -> None:
    """Prints an answer."""
    if as_json:
        failed = {"error": answer.error} if answer.error else {}
        click.echo(json.dumps({**answer.document, **failed}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, emoji=False)
    for part in answer.shown:
        if isinstance(part, Rows):
            console.print(_table(part))
        else:
            console.print(Text(clean(part)), soft_wrap=True, highlight=False)
    if answer.error:
        say(f"error: {answer.error}")


def _table(rows: Rows) -> Table:
    table = Table()
    for heading in rows.headings:
        table.add_column(heading, overflow="fold")
    for cells in rows.cells:
        table.add_row(*(Text(clean(cell), style=_style(str(cell))) for cell in cells))
    return table


def _style(text: str) -> str:
    return _BAD if text in _BAD_WORDS else _STYLES.get(text, "")
