"""Costs of the pipeline on large data: measured CPU seconds a row, times rows, times prices.

    python -m benchmarks.scale               # the tables of docs/scale.md and docs/vertex.md, from rates.json.
    python -m benchmarks.scale --measure     # measures rates.json again; about five minutes on two cores.

A rate is the slope between two runs, on census once and repeated several times, so that start-up is left out. Numbers
of rows are each component's own: Transform reads `train` and `eval`, Trainer `train` once an epoch, Evaluator `test`.
"""

import csv
import gzip
import io
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import CENSUS_CONFIG, ROOT, measure
from pipeline.config import pipeline_config
from serving.model.network_inputs import count_places

RATES_FILE = Path(__file__).parent / "rates.json"
_REPEATS = (1, 10)
# Census's official test file is a third of all rows.
_TEST_SHARE = 1 / 3
_ON_BEAM = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")

# US dollars, us-central1, list prices; look them up before relying on them: https://cloud.google.com/dataflow/pricing,
# https://cloud.google.com/vertex-ai/pricing, https://cloud.google.com/storage/pricing
PRICES = {
    "Dataflow batch, vCPU hour": 0.056,
    "Dataflow batch, GB of memory hour": 0.003557,
    "Dataflow disk, GB hour": 0.000054,
    "Cloud Storage, GB month": 0.020,
    "Vertex Pipelines, run": 0.03,
    "task on e2-standard-4, hour": 0.1541,
    "training on n1-highmem-16, hour": 1.0884,
    "endpoint on n1-standard-2, hour": 0.1093,
}
_WORKER_MEMORY_GB = 3.75  # for each vCPU, of n1-standard
_WORKER_DISK_GB = 25.0  # for each worker of 4 vCPU, with the shuffle service
_TRAINING_VCPUS = 16
_HOURS_A_MONTH = 730
_SPLITS = {"train": 0.9, "eval": 0.05, "test": 0.05}


@dataclass(frozen=True)
class Scenario:
    """A size of data, and what is set for it.

    Attributes:
      name: name of the size.
      gigabytes: gigabytes of CSV, unpacked.
      vcpus: number of virtual CPUs of Beam's workers together.
      epochs: over what Trainer reads.
      trained_rows: at most so many; the rest goes into a split that only ExampleGen and StatisticsGen read.
    """

    name: str
    gigabytes: float
    vcpus: int
    epochs: int
    trained_rows: float


SCENARIOS = (
    Scenario("10 GB", 10, 32, 3, 1e8),
    Scenario("1 TB", 1_000, 800, 3, 1e8),
    Scenario("100 TB", 100_000, 16_000, 3, 1e8),
)


@dataclass(frozen=True)
class Cost:
    """One component on one size of data: rows that it reads, vCPU hours, hours of wall time, dollars."""

    component: str
    rows: float
    vcpu_hours: float
    hours: float
    dollars: float


def costs(scenario: Scenario, rates: dict[str, Any]) -> list[Cost]:
    """Return the arithmetic of docs/scale.md."""
    rows = scenario.gigabytes * 1e9 / rates["csv_bytes_per_row"]
    trained = min(rows * _SPLITS["train"], scenario.trained_rows)
    read = {
        "ExampleGen": rows,
        "StatisticsGen": rows,
        "Transform": trained * (1 + _SPLITS["eval"] / _SPLITS["train"]),
        "Evaluator": trained * _SPLITS["test"] / _SPLITS["train"],
    }
    # Beam's shuffle moves names of files and what was counted of them, no rows.
    files = []
    for component in _ON_BEAM:
        vcpu_hours = read[component] * rates["cpu_seconds_per_million_rows"][component] / 1e6 / 3600
        # A job has no use for more workers than it has work; ten minutes of it each, and one machine at least.
        vcpus = max(4.0, min(float(scenario.vcpus), vcpu_hours * 6))
        dollars = vcpu_hours * _dataflow_vcpu_hour()
        files.append(Cost(component, read[component], vcpu_hours, vcpu_hours / vcpus, dollars))
    vcpu_hours = trained * scenario.epochs * rates["cpu_seconds_per_million_rows"]["Trainer"] / 1e6 / 3600
    hours = vcpu_hours / _TRAINING_VCPUS
    dollars = hours * PRICES["training on n1-highmem-16, hour"]
    return [*files[:3], Cost("Trainer", trained * scenario.epochs, vcpu_hours, hours, dollars), files[3]]


def _dataflow_vcpu_hour() -> float:
    return (
        PRICES["Dataflow batch, vCPU hour"]
        + _WORKER_MEMORY_GB * PRICES["Dataflow batch, GB of memory hour"]
        + _WORKER_DISK_GB / 4 * PRICES["Dataflow disk, GB hour"]
    )


def million_table(rates: dict[str, Any]) -> Table:
    """Return a million rows of input in census's shares and epochs: CPU seconds, and dollars where they are paid
    for.
    """
    loaded = pipeline_config.load(CENSUS_CONFIG)
    train = 1 - _TEST_SHARE
    reads = {"ExampleGen": 1, "StatisticsGen": 1, "Transform": train, "Evaluator": _TEST_SHARE}
    reads["Trainer"] = train * loaded.training.epochs
    table = _table("a million rows of input", ("component", "rows read", "CPU s", "$ on a machine", "$ on Dataflow"))
    total = {"seconds": 0.0, "machine": 0.0, "dataflow": 0.0}
    for component in (*_ON_BEAM[:3], "Trainer", "Evaluator"):
        seconds = reads[component] * rates["cpu_seconds_per_million_rows"][component]
        machine = seconds / 3600 * PRICES["task on e2-standard-4, hour"] / 4
        on_beam = component in _ON_BEAM
        dataflow = seconds / 3600 * _dataflow_vcpu_hour() if on_beam else machine
        cells = (f"{reads[component]:,.2f} M", f"{seconds:.1f}", f"{machine:.2g}", f"{dataflow:.2g}" if on_beam else "")
        table.add_row(component, *cells)
        for name, value in (("seconds", seconds), ("machine", machine), ("dataflow", dataflow)):
            total[name] += value
    table.add_row("all", "", f"{total['seconds']:.1f}", f"{total['machine']:.2g}", f"{total['dataflow']:.2g}")
    return table


def disk_table(rates: dict[str, Any]) -> Table:
    """Return what a run leaves on the disk for a million rows, and Trainer's rows, which go at its end."""
    table = _table("on the disk, for a million rows of input", ("what", "MB"))
    parts = {
        "the CSV": rates["csv_bytes_per_row"],
        "ExampleGen's examples": rates["example_bytes_per_row"],
        "Transform's examples": (1 - _TEST_SHARE) * rates["transformed_bytes_per_row"],
        "Trainer's rows, while it runs": (1 - _TEST_SHARE) * trainer_bytes_per_row(),
    }
    for name, size in parts.items():
        table.add_row(name, f"{size:,.0f}")
    table.add_row("all", f"{sum(parts.values()):,.0f}")
    return table


def scenario_table(scenario: Scenario, rates: dict[str, Any]) -> Table:
    """Return the table of one size of data, component by component."""
    costs_of_steps = costs(scenario, rates)
    stored = costs_of_steps[0].rows * rates["example_bytes_per_row"] / 1e9
    disk_gigabytes = costs_of_steps[3].rows / scenario.epochs * trainer_bytes_per_row() / 1e9
    table = _table(
        f"{scenario.name}: {costs_of_steps[0].rows:.2g} rows, {stored:,.0f} GB of examples; Dataflow with up to "
        f"{scenario.vcpus:,} vCPU; n1-highmem-16 trains, with {disk_gigabytes:.0f} GB on its disk",
        ("component", "rows read", "s/M rows", "vCPU hours", "hours", "dollars"),
    )
    for cost in costs_of_steps:
        rate = rates["cpu_seconds_per_million_rows"][cost.component]
        numbers = (f"{cost.rows:.2g}", f"{rate:.1f}", f"{cost.vcpu_hours:,.1f}", f"{cost.hours:,.2f}")
        table.add_row(cost.component, *numbers, f"{cost.dollars:,.2f}")
    month = stored * PRICES["Cloud Storage, GB month"]
    table.add_row("examples, a month", "", "", "", "", f"{month:,.2f}")
    hours, dollars = sum(cost.hours for cost in costs_of_steps), sum(cost.dollars for cost in costs_of_steps)
    vcpu_hours = sum(cost.vcpu_hours for cost in costs_of_steps)
    table.add_row("a run", "", "", f"{vcpu_hours:,.1f}", f"{hours:,.2f}", f"{dollars:,.2f}")
    return table


def small_table(task_minutes: float) -> Table:
    """Return what census costs on Vertex: a run a day and its endpoint."""
    table = _table("census on Vertex AI, a month", ("what", "arithmetic", "dollars"))
    run, task, node = (
        PRICES["Vertex Pipelines, run"],
        PRICES["task on e2-standard-4, hour"],
        PRICES["endpoint on n1-standard-2, hour"],
    )
    table.add_row("30 runs", f"30 x {run}", f"{30 * run:,.2f}")
    table.add_row(
        "their tasks",
        f"30 x {task_minutes:g} min / 60 x {task} (e2-standard-4)",
        f"{30 * task_minutes / 60 * task:,.2f}",
    )
    table.add_row(
        "two versions on the endpoint",
        f"2 x {_HOURS_A_MONTH} h x {node} (n1-standard-2)",
        f"{2 * _HOURS_A_MONTH * node:,.2f}",
    )
    return table


def price_table() -> Table:
    """Return the prices that the sums are made of."""
    table = _table("prices, us-central1, US dollars", ("what", "price"))
    for name, price in PRICES.items():
        table.add_row(name, f"{price:g}")
    return table


def _table(title: str, headings: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, min_width=len(title))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 or heading == "arithmetic" else "right")
    return table


def text(rates: dict[str, Any]) -> str:
    """Return all tables, as they stand in the documentation."""
    out = io.StringIO()
    console = Console(file=out, width=130)
    for table in (
        million_table(rates),
        disk_table(rates),
        *(scenario_table(scenario, rates) for scenario in SCENARIOS),
        small_table(rates["census_task_minutes"]),
        price_table(),
    ):
        console.print(table)
        console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _measure_rates() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        runs = [_one(Path(temporary) / str(repeats), repeats) for repeats in _REPEATS]
    small, large = runs
    # On Vertex every task starts a process of its own.
    task_seconds = sum(node["seconds"] + small["start-up"] for node in small["nodes"].values())
    rates = {}
    for node in (*_ON_BEAM, "Trainer"):
        more = large["nodes"][node]["cpu_seconds"] - small["nodes"][node]["cpu_seconds"]
        rates[node] = round(more / (large["rows"][node] - small["rows"][node]) * 1e6, 1)
    return {
        "cpu_seconds_per_million_rows": rates,
        "csv_bytes_per_row": round(large["csv_bytes"] / large["rows"]["ExampleGen"], 1),
        "example_bytes_per_row": round(large["example_bytes"] / large["rows"]["ExampleGen"], 1),
        "transformed_bytes_per_row": round(large["transformed_bytes"] / large["rows"]["Transform"], 1),
        "census_task_minutes": round(task_seconds / 60, 1),
    }


def trainer_bytes_per_row() -> int:
    """Return what Trainer keeps of a row on its disk: census's ids and numbers of 4 bytes each, and the label of 8."""
    features = pipeline_config.load(CENSUS_CONFIG).feature_set
    return 4 * (count_places(features.id_columns) + count_places(features.number_columns)) + 8


def _one(folder: Path, repeats: int) -> dict[str, Any]:
    """Run census repeatedly, in a process of its own."""
    folder.mkdir()
    values = yaml.safe_load(CENSUS_CONFIG.read_text())
    values["data"] |= {"base": str(folder / "data"), "schema_file": str(ROOT / "schemas" / "census.pbtxt")}
    for split in ("train", "test"):
        values["data"]["splits"][split]["files"] = f"{split}.csv"
    # Repeated rows are learnt by heart; what they cost is the same.
    values["evaluation"] |= {"thresholds": [{"metric": "auc", "lower_bound": 0.5}]}
    csv_bytes = _repeat(folder / "data", repeats)
    config_file = folder / "config.yaml"
    config_file.write_text(yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, "-m", "benchmarks.scale", "--one", str(config_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    rows = measured.pop("split_rows")
    epochs = values["training"]["epochs"]
    every = sum(rows.values())
    return {
        **measured,
        "csv_bytes": csv_bytes,
        "rows": {
            "ExampleGen": every,
            "StatisticsGen": every,
            "Transform": rows["train"] + rows["eval"],
            "Trainer": rows["train"] * epochs,
            "Evaluator": rows["test"],
        },
    }


def _repeat(folder: Path, repeats: int) -> int:
    folder.mkdir()
    written = 0
    for split in ("train", "test"):
        with gzip.open(ROOT / "data" / "census" / f"{split}.csv.gz", "rt", newline="") as file:
            header, *rows = csv.reader(file)
        with (folder / f"{split}.csv").open("w", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(header)
            for _ in range(repeats):
                writer.writerows(rows)
        written += (folder / f"{split}.csv").stat().st_size
    return written


def _run_one(config_file: Path) -> None:
    folder = config_file.parent
    measured = measure("ours", folder, config_file)
    for name, output in (("example", "ExampleGen/examples"), ("transformed", "Transform/transformed_examples")):
        files = (folder / "artifacts" / output).rglob("*.gz")
        measured[f"{name}_bytes"] = sum(file.stat().st_size for file in files)
    (folder / "measured.json").write_text(json.dumps(measured))


@click.command()
@click.option("--measure", "is_measuring", is_flag=True, help="Measure the rates of this machine first, and keep them.")
@click.option("--one", "config_file", type=click.Path(path_type=Path), hidden=True)
def main(is_measuring: bool, config_file: Path | None) -> None:
    """Print what the pipeline costs on 10 GB, 1 TB and 100 TB, and on census."""
    if config_file is not None:
        _run_one(config_file)
        return
    if is_measuring:
        click.echo("measuring on census once and repeated ...", err=True)
        RATES_FILE.write_text(json.dumps(_measure_rates(), indent=2) + "\n")
    click.echo(text(json.loads(RATES_FILE.read_text())))


if __name__ == "__main__":
    main()
