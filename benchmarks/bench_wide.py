"""The wide case of `make bench`: tables of 250 and of 2,000 columns, with the config that `init` writes for them."""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import ROOT
from benchmarks.wide import LABEL, write_table

MEASURED_FILE = Path(__file__).parent / "measured_wide.json"
COLUMNS, ROWS = (250, 2_000), 10_000
# The run of stock TFX up to Transform is ended then.
STOCK_LIMIT_SECONDS = 600
_NODES = {
    "ExampleGen": "CsvExampleGen",
    "StatisticsGen": "StatisticsGen",
    "ExampleValidator": None,
    "Gate": None,
    "Transform": "Transform",
    "Trainer": None,
    "Evaluator": None,
    "InfraValidator": None,
    "Pusher": None,
}

# By pipeline; None is one that did not finish.
Measured = dict[str, dict[str, Any] | None]


def measure_tables(run_pipeline: Callable[..., dict[str, Any]], say: Callable[[str], None]) -> dict[str, Measured]:
    """Run both pipelines on each table.

    Args:
      run_pipeline: function that runs a pipeline in a process of its own. Its arguments are the pipeline's name, the
        config, and after how many seconds to give up.
      say: reports progress.

    Returns:
      What was measured, by the number of columns.
    """
    result: dict[str, Measured] = {}
    for columns in COLUMNS:
        with tempfile.TemporaryDirectory() as folder:
            write_table(Path(folder) / "data" / "wide.csv", columns=columns, rows=ROWS)
            say(f"{columns:,} columns: init ...")
            config = _init(Path(folder))
            say(f"{columns:,} columns: ours ...")
            ours = run_pipeline("ours", config)
            say(f"{columns:,} columns: stock up to Transform, {STOCK_LIMIT_SECONDS} s at most ...")
            try:
                stock: dict[str, Any] | None = run_pipeline("stock-wide", config, STOCK_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                stock = None
            result[str(columns)] = {"ours": ours, "stock": stock}
    return result


def _init(folder: Path) -> Path:
    config = folder / "wide.yaml"
    command = [sys.executable, "-m", "pipeline", "init", str(folder / "data" / "wide.csv"), "--label", LABEL]
    command += ["--name", "wide", "--output", str(config), "--schema", str(folder / "wide.pbtxt")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    # A busy machine answers late, and what is measured here are seconds of components.
    with config.open("a") as file:
        file.write("infra_validation: {max_latency_ms: 10000, max_memory_mb: 20000}\n")
    return config


def text(measured: dict[str, Measured]) -> str:
    """Return the table, as docs/performance.md has it."""
    out = io.StringIO()
    console = Console(file=out, width=130)
    low, high = (str(columns) for columns in COLUMNS)
    title = f"{ROWS:,} rows of {COLUMNS[0]:,} and {COLUMNS[1]:,} columns, 1 run each"
    table = Table(title=title, title_justify="left", box=None, min_width=len(title))
    for name in ("component", *_headings(low), *_headings(high), "ratio"):
        table.add_column(name, justify="left" if name == "component" else "right")
    for node, stock_node in _NODES.items():
        seconds = [_seconds(measured[columns]["ours"], node) for columns in (low, high)]
        cells = [cell for columns in (low, high) for cell in _cells(measured[columns], node, stock_node)]
        table.add_row(node, *cells, f"{seconds[1] / seconds[0]:.1f}" if seconds[0] >= 1 else "")
    totals = [_total(measured[columns]["ours"]) for columns in (low, high)]
    cells = [c for total, n in zip(totals, (low, high), strict=True) for c in ("", f"{total:.1f}", "", "")]
    table.add_row("whole run", *cells, f"{totals[1] / totals[0]:.1f}")
    console.print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    lines += [
        f"stock TFX did not finish Transform of {columns:,} columns within {STOCK_LIMIT_SECONDS} s"
        for columns in COLUMNS
        if measured[str(columns)]["stock"] is None
    ]
    return "\n".join(lines)


def _headings(columns: str) -> tuple[str, ...]:
    return f"stock s {columns}", f"ours s {columns}", f"CPU s {columns}", f"MB {columns}"


def _cells(measured: Measured, node: str, stock_node: str | None) -> tuple[str, ...]:
    stock, ours = measured["stock"], (measured["ours"] or {})["nodes"][node]
    other = "" if stock_node is None else "-" if stock is None else f"{stock['nodes'][stock_node]['seconds']:.1f}"
    return other, f"{ours['seconds']:.1f}", f"{ours['cpu_seconds']:.1f}", f"{ours['peak_bytes'] / 1e6:,.0f}"


def _seconds(run: dict[str, Any] | None, node: str) -> float:
    return float((run or {})["nodes"][node]["seconds"])


def _total(run: dict[str, Any] | None) -> float:
    return float((run or {})["total"])


def read_measured() -> dict[str, Measured]:
    """Return the recorded measurements."""
    measured: dict[str, Measured] = json.loads(MEASURED_FILE.read_text())
    return measured


def keep(measured: dict[str, Measured]) -> None:
    """Keep what was measured."""
    MEASURED_FILE.write_text(json.dumps(measured, indent=1) + "\n")
