"""Seconds and peak memory of each component, beside a stock TFX pipeline of the same shape on the same data.

    make bench

Each pipeline runs once in a process of its own, one after the other, from nothing, through the same runner. Memory is
the resident set of the process and its children, sampled every 50 ms while a component runs.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.table import Table

from pipeline.database.binding import SQLITE_FILE
from pipeline.database.sqlite import SQLiteFile

ROOT = Path(__file__).parent.parent
CENSUS_CONFIG = ROOT / "configs" / "census.yaml"
# Our names beside those of the stock pipeline's nodes.
STOCK_NAMES = {
    "ExampleGen": "CsvExampleGen",
    "StatisticsGen": "StatisticsGen",
    "Schema": "SchemaGen",
    "ExampleValidator": "ExampleValidator",
    "Gate": None,
    "Transform": "Transform",
    "Trainer": "Trainer",
    "Baseline": "latest_blessed_model_resolver",
    "Evaluator": "Evaluator",
    "InfraValidator": None,
    "Pusher": "Pusher",
}
_SAMPLE_SECONDS = 0.05


class Meter:
    """Observes a run: wall seconds, CPU seconds and peak resident bytes of each node."""

    def __init__(self) -> None:
        self.measured: dict[str, dict[str, float]] = {}
        self.split_rows: dict[str, int] = {}
        self._process = psutil.Process()
        self._cpu_before = 0.0
        self._peak = 0
        self._running = True
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _sample(self) -> None:
        while self._running:
            self._peak = max(self._peak, self._resident())
            time.sleep(_SAMPLE_SECONDS)

    def _resident(self) -> int:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    def node_started(self, node_id: str) -> None:
        """Starts the peak anew."""
        self._peak = self._resident()
        self._cpu_before = self._cpu_seconds()

    def node_finished(self, result: Any) -> None:
        """Keeps what was measured."""
        self.measured[result.node_id] = {
            "seconds": result.seconds,
            "cpu_seconds": self._cpu_seconds() - self._cpu_before,
            "peak_bytes": float(max(self._peak, self._resident())),
        }
        for artifact in result.outputs.get("examples", ()):
            # The stock component does not say.
            self.split_rows = json.loads(artifact.custom_properties["rows"].string_value or "{}")

    def stop(self) -> None:
        """Ends the sampling."""
        self._running = False
        self._sampler.join()


def measure(which: str, folder: Path, config_file: Path = CENSUS_CONFIG) -> dict[str, Any]:
    """Runs one pipeline in this process and measures it, imports included."""
    started = time.monotonic()
    from pipeline import runner

    pipeline = _ours(folder, config_file) if which == "ours" else _stock(folder)
    imported = time.monotonic() - started
    meter = Meter()
    runner.run(pipeline, SQLiteFile(folder / SQLITE_FILE), run_id="bench", observer=meter)
    meter.stop()
    total = time.monotonic() - started
    return {"start-up": imported, "total": total, "nodes": meter.measured, "split_rows": meter.split_rows}


def _ours(folder: Path, config_file: Path) -> Any:
    from pipeline import config
    from pipeline.dag import create_pipeline

    return create_pipeline(
        config.load(config_file),
        pipeline_root=str(folder / "artifacts"),
        registry=str(folder / "registry"),
        run_id="bench",
        enable_cache=False,
    )


def _stock(folder: Path) -> Any:
    from benchmarks.stock.pipeline import create_stock_pipeline
    from pipeline import config

    training = config.load(CENSUS_CONFIG).training
    return create_stock_pipeline(
        data_folder=str(ROOT / "data" / "census"),
        work_folder=str(folder),
        epochs=training.epochs,
        batch_size=training.batch_size,
    )


def _in_own_process(which: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        _run([sys.executable, "-m", "benchmarks.bench", "--one", which, "--folder", folder])
        measured: dict[str, Any] = json.loads((Path(folder) / "measured.json").read_text())
    return measured


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


@click.command()
@click.option("--one", type=click.Choice(["ours", "stock"]), hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(one: str | None, folder: Path | None) -> None:
    """Run both pipelines on the census data and print them side by side; about five minutes on two cores."""
    if one is not None and folder is not None:
        (folder / "measured.json").write_text(json.dumps(measure(one, folder)))
        return
    console = Console()
    console.print("reading what both import into the file cache ...")
    _run([sys.executable, "-c", "import tfx.v1, tensorflow_model_analysis"])
    console.print("running the stock pipeline ...")
    stock = _in_own_process("stock")
    console.print("running ours ...")
    console.print(_table(_in_own_process("ours"), stock))


def _table(ours: dict[str, Any], stock: dict[str, Any]) -> Table:
    table = Table(title="census, both pipelines from nothing", title_justify="left", box=None)
    for title in ("component", "stock s", "ours s", "ratio", "stock MB", "ours MB"):
        table.add_column(title, justify="left" if title == "component" else "right")
    table.add_row("start-up", *_seconds(stock["start-up"], ours["start-up"]), "", "")
    for node, stock_name in STOCK_NAMES.items():
        mine, theirs = ours["nodes"].get(node), stock["nodes"].get(stock_name)
        table.add_row(
            node,
            *_seconds(theirs and theirs["seconds"], mine and mine["seconds"]),
            *(f"{m['peak_bytes'] / 1e6:,.0f}" if m else "-" for m in (theirs, mine)),
        )
    table.add_row("whole run", *_seconds(stock["total"], ours["total"]), *map(_peak, (stock, ours)))
    return table


def _peak(measured: dict[str, Any]) -> str:
    return f"{max(node['peak_bytes'] for node in measured['nodes'].values()) / 1e6:,.0f}"


def _seconds(stock: float | None, ours: float | None) -> tuple[str, str, str]:
    ratio = f"{stock / ours:.1f}" if stock and ours and ours >= 0.1 else ""
    return (f"{stock:.1f}" if stock is not None else "-", f"{ours:.1f}" if ours is not None else "-", ratio)


if __name__ == "__main__":
    main()
