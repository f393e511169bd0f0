"""The printed view of a run: a live table of the DAG on a terminal, plain lines elsewhere, then a summary."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.run.summary import RunSummary
from schemas.metrics import EXAMPLE_COUNT, METRICS, find_metric

WAITING, LOADING, RUNNING = "waiting", "loading", "running"
_STYLES = {"complete": "green", "cached": "cyan", "failed": "bold red", "running": "yellow", "waiting": "dim"}

_MIN_SLICE_CHARS, _COLUMN_GAP = 16, 2

Mode = Literal["live", "plain", "silent"]


@dataclass
class Row:
    """One node in the view."""

    state: str = WAITING
    seconds: float = 0.0
    headline: str = ""
    started: float = 0.0


@dataclass
class RunView:
    """The nodes of a run and their states, drawn as they change.

    Attributes:
      console: Console to draw on.
      mode: `live` redraws a table, `plain` prints a line for each change, `silent` nothing.
      nodes: Names of the nodes, in the order of the table.
      log: File of all other output; None if it is printed here, too.
    """

    console: Console
    mode: Mode
    nodes: tuple[str, ...]
    log: Path | None = None
    _rows: dict[str, Row] = field(init=False)
    _live: Live | None = field(init=False, default=None)
    _started: float = field(init=False, default_factory=time.monotonic)
    _loading: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self._rows = {node: Row() for node in self.nodes}

    def __enter__(self) -> "RunView":
        if self.mode == "live":
            self._live = Live(
                self, console=self.console, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False
            )
            self._live.__enter__()
        self._print_line("loading TFX and TensorFlow" + (f"; log: {self.log}" if self.log else ""))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loading = False
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def on_node_start(self, node_id: str) -> None:
        """Show a node as running."""
        self._loading = False
        row = self._rows.setdefault(node_id, Row())
        row.state, row.started = RUNNING, time.monotonic()
        self._print_line(f"{node_id} started")

    def show_progress(self, text: str) -> None:
        """Show the progress of the running node."""
        for node_id, row in self._rows.items():
            if row.state == RUNNING:
                row.headline = text
                self._print_line(f"{node_id} {text}")

    def on_node_end(self, node_id: str, state: str, seconds: float, headline: str) -> None:
        """Show the end of a node."""
        row = self._rows[node_id]
        row.state, row.seconds, row.headline = state, seconds, headline
        self._print_line(f"{node_id} {state} in {seconds:.1f} s" + (f": {headline}" if headline else ""))

    def _print_line(self, text: str) -> None:
        if self.mode == "plain":
            self.console.print(
                f"[{time.monotonic() - self._started:6.1f} s] {text}", markup=False, highlight=False, soft_wrap=True
            )

    def __rich__(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title, justify in (
            ("", "left"),
            ("component", "left"),
            ("state", "left"),
            ("seconds", "right"),
            ("", "left"),
        ):
            table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for node, row in self._rows.items():
            style = _STYLES[row.state]
            seconds = time.monotonic() - row.started if row.state == RUNNING else row.seconds
            mark: RenderableType = Spinner("dots") if row.state == RUNNING else Text(_MARKS[row.state], style)
            seconds_text = f"{seconds:.1f}" if row.state != WAITING else ""
            table.add_row(mark, Text(node), Text(row.state, style), seconds_text, Text(row.headline))
        elapsed = time.monotonic() - self._started
        footer = "loading TFX and TensorFlow ..." if self._loading else f"log: {self.log}"
        return Group(table, Text(f"{elapsed:5.1f} s  {footer}", "dim"))


_MARKS = {"complete": "✔", "cached": "✔", "failed": "✘", "waiting": "·"}


def print_summary(console: Console, summary: RunSummary) -> None:
    """Print the end of a run on one screen: data, metrics, the verdict, the serving version, the next commands."""
    console.print()
    if summary.evaluator is not None:
        small = f"slices under {summary.min_rows_per_slice} rows are left out"
        weight = summary.evaluator.weight_column
        weighted = f", weighted by '{weight}'" if weight else ""
        console.print(f"metrics on {summary.evaluated_split}{weighted}; {small}", highlight=False, markup=False)
        for table in _build_metrics_tables(summary.evaluator.metrics, console.width, is_weighted=bool(weight)):
            console.print(table)
        console.print()
    for label, text in _format_lines(summary):
        console.print(Text.assemble((f"{label:<9}", "bold"), text), soft_wrap=True)


def _build_metrics_tables(
    metrics: Mapping[str, Mapping[str, float | None]], width: int, *, is_weighted: bool
) -> Iterator[Table]:
    """Yield the metrics by slice; in several tables, one below the other, if they do not fit beside each other.

    A slice's long name is shortened, a number never.
    """
    ordered = [EXAMPLE_COUNT, *(name for name in METRICS if name != EXAMPLE_COUNT)]
    measured = dict.fromkeys(name for values in metrics.values() for name in values)
    names = [*(name for name in ordered if name in measured), *(name for name in measured if name not in METRICS)]
    columns = []
    for name in names:
        title = "weight" if is_weighted and name == EXAMPLE_COUNT else find_metric(name).title.lower()
        columns.append([title, *(find_metric(name).format(values.get(name)) for values in metrics.values())])
    longest = max(map(cell_len, ("slice", *metrics)))
    while columns:
        room = width - min(longest, _MIN_SLICE_CHARS)
        # A terminal narrower than one number cannot be helped.
        count = max(sum(end <= room for end in accumulate(map(_measure_column, columns))), 1)
        used = sum(map(_measure_column, columns[:count]))
        yield _build_metrics_table(list(metrics), columns[:count], max(width - used, _MIN_SLICE_CHARS))
        columns = columns[count:]


def _measure_column(cells: Sequence[str]) -> int:
    return max(map(cell_len, cells)) + _COLUMN_GAP


def _build_metrics_table(slices: Sequence[str], columns: Sequence[Sequence[str]], slice_width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("slice", no_wrap=True)
    for title, *_ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row, name in enumerate(slices):
        # Slices of the same column differ in the end of their names.
        text = name if cell_len(name) <= slice_width else f"...{name[3 - slice_width :]}"
        table.add_row(Text(text), *(cells[row + 1] for cells in columns))
    return table


def _format_lines(summary: RunSummary) -> list[tuple[str, str]]:
    lines = []
    cached = [node for node in summary.nodes if node.state == "cached"]
    if cached:
        lines.append(("cache", f"{len(cached)} of {len(summary.nodes)} components reused from earlier runs"))
    for node in summary.nodes:
        if node.summary is not None and node.id == "SchemaGen":
            lines.append(("schema", f"{summary.schema}, {node.summary.headline}"))
        elif node.summary is not None:
            lines += node.summary.format_lines()
    lines += [("warning", text) for text in summary.worse]
    if summary.error:
        first, *others = summary.error.splitlines()
        lines += [("error", first), *(("", line) for line in others)]
    if summary.until and not summary.error:
        lines.append(("stopped", f"after {summary.until}, as asked"))
    lines.append(("pushed", str(summary.push)))
    lines.append(("serving", summary.serving))
    if summary.log:
        lines.append(("log", summary.log))
    lines += [("next" if number == 0 else "", text) for number, text in enumerate(summary.next)]
    return lines
