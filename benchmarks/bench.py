"""Seconds, CPU and peak memory of each component, beside a stock TFX pipeline of the same shape on the same data.

    make bench                                          # 50,000 rows, once each; about three minutes on two cores.
    make bench ARGS="--rows 50000 --rows 300000 --rows 1000000 --runs 2 --keep"     # docs/performance.md; 40 minutes.
    make bench ARGS="--show"                            # the tables of docs/performance.md, from measured.json.
    make bench ARGS="--wide"                            # tables of 250 and 2,000 columns; half an hour, with stock TFX.

The data is made from the census's rows (benchmarks/household.py). Each pipeline runs in a process of its own, one after
the other, from nothing, through the same runner. Memory is the resident set of the process and its children, sampled
every 50 ms while a component runs.
"""

import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import bench_wide
from benchmarks.measuring import ROOT, measure

MEASURED_FILE = Path(__file__).parent / "measured.json"
PLOT_FILE = ROOT / "docs" / "performance.svg"
# Our names beside those of the stock pipeline's nodes.
STOCK_NAMES = {
    "ExampleGen": "CsvExampleGen",
    "StatisticsGen": "StatisticsGen",
    "Transform": "Transform",
    "Trainer": "Trainer",
    "Evaluator": "Evaluator",
    "InfraValidator": None,
}

# Of one size: what each run of a pipeline measured.
Runs = dict[str, list[dict[str, Any]]]


def _one(which: str, config_file: Path, limit_seconds: float | None = None) -> dict[str, Any]:
    """Run once, in a process of its own.

    Raises:
      TimeoutExpired: it took longer than the limit.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run([sys.executable, "-m", "benchmarks.bench", "--one", which, folder, str(config_file)], limit_seconds)
        measured: dict[str, Any] = json.loads((Path(folder) / "measured.json").read_text())
    return measured


def _report(line: str) -> None:
    click.echo(line, err=True)


def _run(command: list[str], limit_seconds: float | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit_seconds)
    if done.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def _size(rows: int, runs: int, say: Callable[[str], None]) -> Runs:
    """Run both pipelines on so many rows, by turns."""
    from benchmarks.household import write_config, write_rows

    measured: Runs = {"stock": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_rows(data, rows)
        config_file = write_config(data)
        for number in range(1, runs + 1):
            for which in measured:
                say(f"{rows:,} rows, run {number} of {runs}: {which} ...")
                measured[which].append(_one(which, config_file))
    return measured


def total_seconds(run: dict[str, Any]) -> float:
    """Return the sum over all components that both pipelines have, without the start-up."""
    names = {*STOCK_NAMES, *filter(None, STOCK_NAMES.values())} - {"InfraValidator"}
    return float(sum(node["seconds"] for name, node in run["nodes"].items() if name in names))


def growth_exponent(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Return the power of the rows that a measure grows with, between two sizes."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])


def size_table(rows: int, runs: Runs) -> Table:
    """Return the table of one size: the medians of its runs, and how far the ratios of single runs are apart."""
    title = f"{rows:,} rows, {len(runs['ours'])} runs each"
    table = Table(title=title, title_justify="left", box=None, min_width=len(title))
    for name in (
        "component",
        "stock s",
        "ours s",
        "ratio",
        "from",
        "to",
        "stock CPU s",
        "ours CPU s",
        "rows/s",
        "stock MB",
        "ours MB",
    ):
        table.add_column(name, justify="left" if name == "component" else "right")
    for node, stock_name in STOCK_NAMES.items():
        read = _rows_read(runs["ours"][0], node)
        ours = [run["nodes"][node] for run in runs["ours"]]
        stock = [run["nodes"][stock_name] for run in runs["stock"]] if stock_name else []
        table.add_row(node, *_cells(stock, ours, read))
    sums = {which: [_sum(run) for run in runs_of] for which, runs_of in runs.items()}
    table.add_row("the first five", *_cells(sums["stock"], sums["ours"], rows))
    starts = {which: [{"seconds": run["start-up"]} for run in runs_of] for which, runs_of in runs.items()}
    table.add_row("start-up", *_cells(starts["stock"], starts["ours"], None))
    return table


def _rows_read(run: dict[str, Any], node: str) -> int | None:
    """Return how many rows a component of ours reads, each time it does."""
    rows = run["split_rows"]
    every = sum(rows.values())
    read = {"ExampleGen": every, "StatisticsGen": every, "Evaluator": rows["test"]}
    read |= {"Transform": rows["train"] + rows["eval"], "Trainer": rows["train"] * run["epochs"]}
    return read.get(node)


def _sum(run: dict[str, Any]) -> dict[str, float]:
    shared = {*STOCK_NAMES, *filter(None, STOCK_NAMES.values())} - {"InfraValidator"}
    nodes = [node for name, node in run["nodes"].items() if name in shared]
    return {
        "seconds": total_seconds(run),
        "cpu_seconds": sum(node["cpu_seconds"] for node in nodes),
        "peak_bytes": max(node["peak_bytes"] for node in nodes),
    }


def _cells(stock: Sequence[dict[str, float]], ours: Sequence[dict[str, float]], read: int | None) -> list[str]:
    ratios = sorted(s["seconds"] / o["seconds"] for s, o in zip(stock, ours, strict=False))

    def middle(runs: Sequence[dict[str, float]], key: str, unit: float, form: str) -> str:
        values = [run[key] for run in runs if key in run]
        return format(statistics.median(values) / unit, form) if values else ""

    seconds = statistics.median(run["seconds"] for run in ours)
    return [
        middle(stock, "seconds", 1, ".1f"),
        middle(ours, "seconds", 1, ".1f"),
        *(f"{ratio:.1f}" for ratio in ((statistics.median(ratios), ratios[0], ratios[-1]) if ratios else ())),
        *([""] * (0 if ratios else 3)),
        middle(stock, "cpu_seconds", 1, ".1f"),
        middle(ours, "cpu_seconds", 1, ".1f"),
        f"{read / seconds:,.0f}" if read else "",
        middle(stock, "peak_bytes", 1e6, ",.0f"),
        middle(ours, "peak_bytes", 1e6, ",.0f"),
    ]


def growth_table(sizes: dict[int, Runs]) -> Table:
    """Return how seconds and memory grow from the smallest size to the largest."""
    low, high = min(sizes), max(sizes)
    title = f"the power of the rows that each grows with, {low:,} to {high:,} rows"
    table = Table(title=title, title_justify="left", box=None, min_width=len(title))
    for name in ("of the first five", "stock", "ours"):
        table.add_column(name, justify="left" if name == "of the first five" else "right")
    for key in ("seconds", "cpu_seconds", "peak_bytes"):
        grown = []
        for which in ("stock", "ours"):
            ends = [(n, statistics.median(_sum(run)[key] for run in sizes[n][which])) for n in (low, high)]
            grown.append(f"{growth_exponent(*ends):.2f}")
        table.add_row(key.replace("_", " ").replace("peak bytes", "peak memory"), *grown)
    return table


def text(measured: dict[str, Any]) -> str:
    """Return all tables, as they stand in docs/performance.md."""
    sizes = {int(rows): runs for rows, runs in measured.items()}
    out = io.StringIO()
    console = Console(file=out, width=130)
    for rows, runs in sorted(sizes.items()):
        console.print(size_table(rows, runs))
        console.print()
    if len(sizes) > 1:
        console.print(growth_table(sizes))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def plot(measured: dict[str, Any], file: Path) -> None:
    """Draw rows against seconds, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "performance"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for which, marker in (("stock", "s"), ("ours", "o")):
        rows = sorted(map(int, measured))
        seconds = [statistics.median(map(total_seconds, measured[str(n)][which])) for n in rows]
        axes.plot(rows, seconds, marker=marker, label=which)
        for n, value in zip(rows, seconds, strict=True):
            axes.annotate(f"{value:.0f} s", (n, value), textcoords="offset points", xytext=(0, 8), ha="center")
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds, start-up left out")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


@click.command()
@click.option(
    "--rows",
    type=click.IntRange(1_000),
    multiple=True,
    default=(50_000,),
    show_default=True,
    help="A size; may be repeated.",
)
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="Of each pipeline and size.")
@click.option(
    "--keep", is_flag=True, help="Keep what is measured in benchmarks/measured.json, and draw docs/performance.svg."
)
@click.option(
    "--wide",
    is_flag=True,
    help="Tables of 250 and 2,000 columns instead, of 10,000 rows; --keep keeps them in benchmarks/measured_wide.json.",
)
@click.option("--show", is_flag=True, help="Measure nothing; print what was kept.")
@click.option("--one", "single_run", nargs=3, hidden=True)
def main(
    rows: tuple[int, ...], runs: int, keep: bool, wide: bool, show: bool, single_run: tuple[str, str, str] | None
) -> None:
    """Run the stock pipeline and ours on data of one or several sizes, and print them side by side."""
    if single_run is not None:
        which, folder, config_file = single_run
        _measure_one(which, Path(folder), Path(config_file))
        return
    if wide:
        tables = bench_wide.read_measured() if show else bench_wide.measure_tables(_one, _report)
        if keep and not show:
            bench_wide.keep(tables)
        click.echo(bench_wide.text(tables))
        return
    if show:
        click.echo(text(json.loads(MEASURED_FILE.read_text())))
        return
    _run([sys.executable, "-c", "import tfx.v1, tensorflow_model_analysis"])
    measured = {str(n): _size(n, runs, _report) for n in sorted(rows)}
    if keep:
        MEASURED_FILE.write_text(json.dumps(measured, indent=1) + "\n")
        plot(measured, PLOT_FILE)
    click.echo(text(measured))


def _measure_one(which: str, folder: Path, config_file: Path) -> None:
    from pipeline.config import pipeline_config

    measured = {**measure(which, folder, config_file), "epochs": pipeline_config.load(config_file).training.epochs}
    (folder / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
