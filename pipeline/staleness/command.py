"""`python -m pipeline staleness`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.errors import ConfigError
from cli.strict_json import to_json
from cli.terminal import clean, exit_on_error, print_message
from schemas.declaration import suggest_name

if TYPE_CHECKING:
    from pipeline.config.pipeline_config import PipelineConfig
    from pipeline.staleness.configs import StalenessPlan
    from pipeline.staleness.decay import Measurement
    from schemas.bootstrap import Ends

_FILE_WIDTH = 200


@click.command()
@click.option("--config", "config_file", default="configs/census.yaml", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option("--span", type=int, help="Span to train on.  [default: the one that leaves --ahead later spans]")
@click.option("--ahead", type=click.IntRange(min=1), default=4, show_default=True, help="Later spans to test on.")
@click.option("--metric", "metrics", multiple=True, help="Metric to print. May be repeated.  [default: the main ones]")
@click.option(
    "--run-root",
    type=click.Path(path_type=Path),
    help="Folder of the test's own runs, whose results are reused.  [default: runs/NAME-staleness]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def staleness(
    config_file: str,
    settings: tuple[str, ...],
    span: int | None,
    ahead: int,
    metrics: tuple[str, ...],
    run_root: Path | None,
    as_json: bool,
) -> None:
    """Train on one span, test the model on the spans after it, and print how its metrics decay, with 95 % intervals.

    Nothing is pushed. The gate only warns: a shift of later spans is what is measured.
    """
    # As local_runner.py does: it is read when Arrow is loaded.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from pipeline.config import pipeline_config
    from pipeline.staleness.configs import describe_training, get_staleness_root, plan_staleness

    with exit_on_error(as_json=as_json, interrupted="interrupted; the same command continues from the cache"):
        config = pipeline_config.load(config_file, settings)
        with config.name_file_in_errors():
            plan = plan_staleness(config, span, ahead)
        _check_metrics(config, metrics)
        root = (run_root or get_staleness_root(config.name)).absolute()
        _check_root(root)
        later = ", ".join(map(plan.name_span, plan.later))
        training = describe_training(config, plan)
        print_message(f"trains on {training}, tests on {later}; runs and logs are in {root}", "notice")
        for note in plan.notes:
            print_message(f"note: {note}", "notice")
        _run(plan, metrics, root, as_json=as_json)


def _check_metrics(config: "PipelineConfig", names: Sequence[str]) -> None:
    """Reject the name of a metric that no run of the config measures, before anything is trained."""
    evaluation = config.evaluation
    measured = [*evaluation.select_metrics(config.label.kind, has_costs=config.decision is not None)]
    measured += [metric.name for metric in evaluation.tfma_metrics]
    for name in names:
        if name not in measured:
            raise ConfigError(f"--metric: '{name}' is not measured; {suggest_name(name, measured)}")


def _check_root(root: Path) -> None:
    """Reject a run root that has runs with pushes: a test would mix its models with them."""
    if (root / "registry").exists():
        raise ConfigError(f"--run-root: {root} has a registry, so it is a pipeline's own; give a folder for the test")


def _run(plan: "StalenessPlan", metrics: Sequence[str], root: Path, *, as_json: bool) -> None:
    from pipeline.staleness.decay import build_decay_document, select_metrics, summarize_decay
    from pipeline.staleness.runs import measure_spans

    started = time.monotonic()
    # While a run lasts, the standard error of this process is its log.
    with open(os.dup(sys.stderr.fileno()), "w", buffering=1) as terminal:
        measurements, warnings = measure_spans(
            plan, root, lambda line: terminal.write(f"[{time.monotonic() - started:6.1f} s] {clean(line)}\n")
        )
    chosen = select_metrics(measurements[0], metrics)
    conclusions = summarize_decay(measurements, chosen)
    if as_json:
        document = {
            "span": plan.span,
            "later": list(plan.later),
            "notes": list(plan.notes),
            "warnings": warnings,
            "spans": build_decay_document(measurements),
            "conclusions": conclusions,
            "run_root": str(root),
        }
        click.echo(to_json(document))
        return
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, emoji=False)
    console.print(_build_table(measurements, chosen, weight=plan.configs[0].data.weight_column))
    for line in [*conclusions, *(f"warning   {text}" for text in warnings)]:
        console.print(Text(line), soft_wrap=True, highlight=False)


def _build_table(measurements: "Sequence[Measurement]", metrics: Sequence[str], *, weight: str | None) -> Table:
    from pipeline.staleness.decay import compare_spans
    from schemas.metrics import find_metric

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("span", no_wrap=True)
    table.add_column("ahead", justify="right")
    # As Evaluator's table has it.
    table.add_column("rows" if weight is None else "weight", justify="right")
    for name in metrics:
        table.add_column(find_metric(name).title, no_wrap=True)
        table.add_column("change", no_wrap=True)
    for ahead, measurement in enumerate(measurements):
        cells = [measurement.name, str(ahead), f"{measurement.rows:,.0f}"]
        for name in metrics:
            cells.append(_format_value(measurement.metrics.get(name), measurement.intervals.get(name)))
            change = compare_spans(measurements[0], measurement, name)
            mark = "  worse" if change.is_worse else ""
            cells.append(_format_value(change.value, change.interval, sign="+") + mark if ahead else "")
        table.add_row(*map(Text, cells))
    return table


def _format_value(value: float | None, interval: "Ends | None", sign: str = "") -> str:
    if value is None:
        return "undefined"
    ends = f" [{interval[0]:{sign}.4f}, {interval[1]:{sign}.4f}]" if interval is not None else ""
    return f"{value:{sign}.4f}{ends}"
