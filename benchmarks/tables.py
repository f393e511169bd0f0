"""Real data sets beside gradient-boosted trees: `init` with nothing but the label, and an unchanged run.

    python -m benchmarks.tables

Each table of benchmarks/public_tables.py is written as a file, `python -m pipeline init` writes its config, and
local_runner.py runs that config as it is. Then scikit-learn's HistGradientBoosting, with its defaults, is fitted on the
same rows and the same columns.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import peers, public_tables
from benchmarks.peers import SCIKIT_LEARN
from benchmarks.public_tables import TABLES
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.run_root import RunRoot
from schemas.metrics import choose_bound, list_watchable

ROOT = Path(__file__).parent.parent
BOUNDS = {"auc": 0.01, "accuracy": 0.02, "r2": 0.02}


@dataclass
class TableComparison:
    """One row of the table.

    Attributes:
      name: Name of the data set.
      format: Format of its file.
      rows: Number of rows that `init` read, those without a label included.
      used: Number of columns that are features.
      columns: Number of columns beside the label.
      kind: Kind of label.
      metric: Name of the metric: auc, accuracy or r2.
      test_rows: Number of rows that both are judged on.
      product: Metric of the pipeline's model.
      trees: Metric of HistGradientBoosting.
      error: Standard error of `trees`, from resampled rows.
      loss: Log loss, or root mean squared error of a regression, of the pipeline's model and of HistGradientBoosting.
      outcome: "pushed", or the reason why nothing was.
    """

    name: str
    format: str
    rows: int = 0
    used: int = 0
    columns: int = 0
    kind: str = ""
    metric: str = ""
    test_rows: int = 0
    product: float | None = None
    trees: float | None = None
    error: float | None = None
    loss: tuple[float, float] | None = None
    outcome: str = "pushed"

    @property
    def difference(self) -> float | None:
        """Metric of the pipeline less that of the trees."""
        return None if self.product is None or self.trees is None else self.product - self.trees

    @property
    def verdict(self) -> str:
        if self.difference is None or self.outcome != "pushed":
            return "not pushed"
        return "behind" if self.difference < -BOUNDS[self.metric] else "as good"


class StoppedError(Exception):
    """A command that ended without success; the text is its message."""


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", "names", multiple=True, type=click.Choice(list(TABLES)), metavar="NAME", help="Some of them.")
@click.option("--list", "is_list", is_flag=True, help="Print the names and the labels, and end.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object for each data set.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep configs and runs in FOLDER.  [default: a temporary folder]",
)
def main(names: Sequence[str], is_list: bool, settings: Sequence[str], is_json: bool, keep: Path | None) -> None:
    """Print the table; the progress goes to standard error."""
    if is_list:
        for name, table in TABLES.items():
            click.echo(f"{name:14} {table.ending:9} {table.label}")
        return
    comparisons = []
    with kept_folder(keep) as folder:
        for number, name in enumerate(names or TABLES, start=1):
            click.echo(f"[{number}/{len(names or TABLES)}] {name} ...", err=True)
            comparison = compare(name, folder, settings)
            click.echo(f"    {_line(comparison)}", err=True)
            if is_json:
                click.echo(json.dumps({**asdict(comparison), "verdict": comparison.verdict}))
            comparisons.append(comparison)
    if not is_json:
        _print(comparisons)


@contextmanager
def kept_folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def compare(name: str, folder: Path, settings: Sequence[str] = ()) -> TableComparison:
    """Run `init` and the pipeline on a table and fit the trees beside it.

    Args:
      name: Key of `public_tables.TABLES`.
      folder: Folder of the config, the schema and the run.
      settings: Overrides of keys of the config, as KEY=VALUE.
    """
    comparison = TableComparison(name, TABLES[name].ending)
    try:
        config_file = init(name, folder)
        config = pipeline_config.load(config_file, tuple(settings))
        summary = run(config_file, folder / "runs" / name, settings)
    except StoppedError as stopped:
        comparison.outcome = str(stopped)
        return comparison
    _add(comparison, config, summary)
    if comparison.product is not None:
        _add_trees(comparison, config, RunRoot(folder / "runs" / name), summary)
    return comparison


def init(name: str, folder: Path, *flags: str) -> Path:
    """Write the config of a table as `python -m pipeline init` does and return it.

    Args:
      name: Name of the table.
      folder: Folder of the config and the schema.
      flags: Flags beside the label.

    Raises:
      StoppedError: If there is no table, or `init` ended without success.
    """
    config_file = folder / f"{name}.yaml"
    label = public_tables.find(name).label
    try:
        table = public_tables.write(name)
    except public_tables.MissingDataError as error:
        raise StoppedError(str(error)) from error
    init_file(table, config_file, "--label", label, "--name", name.replace("_", "-"), *flags)
    return config_file


def init_file(data: Path, config_file: Path, *flags: str) -> None:
    """Write the config of a file, and its schema beside it, as `python -m pipeline init` does.

    Args:
      data: File of the table.
      config_file: File of the config.
      flags: Flags, with those of the label and the name.

    Raises:
      StoppedError: If `init` ended without success.
    """
    paths = ["--output", str(config_file), "--schema", str(config_file.with_suffix(".pbtxt")), "--force"]
    command = [sys.executable, "-m", "pipeline", "init", str(data), *paths, *flags]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise StoppedError(done.stderr.strip().splitlines()[0])


def run(config_file: Path, root: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Run the pipeline and return the summary of the run.

    Args:
      config_file: File of the config.
      root: Run root.
      settings: Overrides of keys of the config, as KEY=VALUE.

    Raises:
      StoppedError: If the run ended without a summary.
    """
    command = [sys.executable, str(ROOT / "local_runner.py"), "--config", str(config_file), "--run-root", str(root)]
    command += ["--json", *(word for setting in settings for word in ("--set", setting))]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise StoppedError(done.stderr.strip().splitlines()[0])
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _add(comparison: TableComparison, config: PipelineConfig, summary: dict[str, Any]) -> None:
    """Add what the run reports."""
    facts = summary["facts"]
    if summary["error"]:
        comparison.outcome = summary["error"].splitlines()[0]
    if rows := facts.get("ExampleGen"):
        comparison.rows = sum(rows["rows"].values()) + rows["rejected"] + rows["unlabelled"]
    comparison.used = len(config.features)
    comparison.columns = len(config.features) + len(config.data.ignored_columns)
    comparison.kind = config.label.kind
    comparison.metric = choose_bound(config.label.kind)
    if evaluated := facts.get("Evaluator"):
        comparison.product = evaluated["metrics"]["overall"][comparison.metric]


def _add_trees(comparison: TableComparison, config: PipelineConfig, root: RunRoot, summary: dict[str, Any]) -> None:
    rows = peers.rows_of(config, root)
    with tempfile.TemporaryDirectory() as folder:
        peers.write_rows(config, rows, Path(folder))
        predictions = peers.fit(SCIKIT_LEARN, peers.install(SCIKIT_LEARN), Path(folder), config.label)
    trees = peers.judge(config.label, rows.test, predictions)
    comparison.trees, comparison.test_rows = trees.value, trees.rows
    comparison.error = peers.standard_error(config.label, rows.test, predictions)
    overall = summary["facts"]["Evaluator"]["metrics"]["overall"]
    comparison.loss = (overall[list_watchable(config.label.kind)[0]], trees.loss)


def _line(comparison: TableComparison) -> str:
    if comparison.difference is None:
        return comparison.outcome
    return f"{comparison.metric} {comparison.product:.4f} against {comparison.trees:.4f}: {comparison.verdict}" + (
        f"; {comparison.outcome}" if comparison.outcome != "pushed" else ""
    )


def _print(comparisons: Sequence[TableComparison]) -> None:
    table = Table(title="metrics on test", title_justify="left", box=None)
    for name in ("data set", "format", "kind"):
        table.add_column(name)
    for name in ("rows", "test", "columns", "metric", "pipeline", "trees", "difference", "+-"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    table.add_column("verdict")
    for comparison in comparisons:
        table.add_row(
            comparison.name,
            comparison.format,
            comparison.kind,
            f"{comparison.rows:,}",
            f"{comparison.test_rows:,}",
            f"{comparison.used}/{comparison.columns}",
            comparison.metric,
            _format_number(comparison.product),
            _format_number(comparison.trees),
            _format_number(comparison.difference, sign="+"),
            *(_format_number(comparison.error), comparison.verdict),
        )
    console = Console(width=140, highlight=False)
    console.print(table)
    for comparison in comparisons:
        if comparison.verdict == "not pushed":
            console.print(f"{comparison.name}: {comparison.outcome}", soft_wrap=True)


def _format_number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"


if __name__ == "__main__":
    main()
