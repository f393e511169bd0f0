"""Text from metadata and logs, made safe to print: it can neither colour nor move what a terminal shows."""

import math
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.strict_json import to_json
from cli.terminal import clean as clean
from cli.terminal import say

# Of what is piped or kept, where nothing is folded or cut: no table is wider.
_WIDTH_OF_A_FILE = 1 << 20
# Of a column of sentences on a terminal: it is no narrower, and no sentence longer.
_NARROWEST, _LONGEST = 24, 120
_STYLES = {"SUCCEEDED": "green", "CACHED": "green", "RUNNING": "cyan", "INCOMPLETE": "yellow", "ok": "green"}
_BAD = "bold red"
_BAD_WORDS = ("FAILED", "CRASHED", "ABORTED", "UNKNOWN", "NOT ok")


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
      headings: headings of the columns.
      cells: plain text.
      sentences: the columns that may take several lines; what stands in others is never broken.
      least: the columns that are left out first where a terminal is too narrow.
    """

    headings: Sequence[str]
    cells: Sequence[Sequence[object]]
    sentences: Collection[str]
    least: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """What a command says.

    Attributes:
      document: for `--json`.
      shown: lines and tables, for people.
      exit_code: exit code of the process.
      error: what could not be looked at, though the rest is right.
    """

    document: dict[str, Any]
    shown: Sequence[str | Rows]
    exit_code: int = 0
    error: str = ""


def headline(text: str) -> str:
    """Return the first line, with the next if it is only a heading."""
    first, *rest = [" ".join(line.split()) for line in text.splitlines() if line.strip()] or [""]
    return f"{first} {rest[0]}" if rest and first.endswith(":") else first


def short(text: str, width: int = 80) -> str:
    """Return the headline, cut at `width` characters."""
    line = headline(text)
    return line if len(line) <= width else f"{line[: width - 3]}..."


def seconds(value: float | None) -> str:
    """Return a duration as people say it."""
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
    """Print an answer."""
    if as_json:
        failed = {"error": answer.error} if answer.error else {}
        click.echo(to_json({**answer.document, **failed}))
        return
    width = _terminal_width()
    console = Console(width=width or _WIDTH_OF_A_FILE, emoji=False)
    for part in answer.shown:
        lines = _table(part, width) if isinstance(part, Rows) else [Text(clean(part))]
        for line in lines:
            console.print(line, soft_wrap=isinstance(line, Text), highlight=False)
    if answer.error:
        say(f"error: {answer.error}")


def _terminal_width() -> int | None:
    """In characters; None where it is not a terminal that reads along."""
    return Console().width if sys.stdout.isatty() else None


def _table(rows: Rows, width: int | None) -> list[Table | Text]:
    """Return the rows as a table, without the columns that matter least if it is too wide, or each as a block of
    lines.
    """
    columns = _columns(rows, width)
    left_out: list[str] = []
    while width is not None and not _fits(columns, rows.sentences, width):
        if len(left_out) == len(rows.least):
            return _blocks(_columns(rows, None))
        left_out.append(rows.least[len(left_out)])
        del columns[left_out[-1]]
    table = Table()
    for heading in columns:
        table.add_column(heading, overflow="fold", no_wrap=width is None or heading not in rows.sentences)
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*(Text(cell, style=_style(cell)) for cell in cells))
    return [table, *([Text(f"not shown: {', '.join(left_out)}; a wider terminal has room")] if left_out else [])]


def _columns(rows: Rows, width: int | None) -> dict[str, list[str]]:
    """Return the cells by heading, as they are shown."""
    found: dict[str, list[str]] = {}
    for number, heading in enumerate(rows.headings):
        cells = [headline(str(row[number])) for row in rows.cells]
        found[heading] = [clean(cell if width is None else short(cell, _LONGEST)) for cell in cells]
    return found


def _fits(columns: Mapping[str, Sequence[str]], sentences: Collection[str], width: int) -> bool:
    needed = 1
    for heading, cells in columns.items():
        widest = max(map(cell_len, (heading, *cells)))
        needed += 3 + (min(widest, _NARROWEST) if heading in sentences else widest)
    return needed <= width


def _blocks(columns: Mapping[str, Sequence[str]]) -> list[Table | Text]:
    lines: list[Table | Text] = []
    indent = max(10, *map(len, columns))
    for cells in zip(*columns.values(), strict=True):
        shown = [(heading, cell) for heading, cell in zip(columns, cells, strict=True) if cell]
        lines += [Text.assemble(f"{heading:<{indent}} ", (cell, _style(cell))) for heading, cell in shown]
        lines.append(Text())
    return lines[:-1]


def _style(text: str) -> str:
    return _BAD if text in _BAD_WORDS else _STYLES.get(text, "")
