"""The quality of the model: trained on `train` with several seeds, reported once on the official test file.

    make quality
    make quality ARGS=--all

With --all it compares the pipeline with gradient-boosted trees on public tables (benchmarks/head_to_head.py).

Transform runs once; each seed then trains as the pipeline's Trainer does. Nothing is chosen here: hyper-parameters were
chosen on `eval`, which is what the option --split eval prints. TensorFlow is imported in functions, so that what it
prints goes to a log.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from cli.counts import format_count
from cli.errors import ConfigError, PipelineError
from cli.terminal import INTERRUPTED_EXIT_CODE, print_error, print_message, redirect_output
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.database.binding import SQLITE_FILE
from pipeline.database.sqlite import SQLiteFile
from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.metrics import EXAMPLE_COUNT, METRICS, list_metrics
from serving.model.literal_paths import make_literal_path

if TYPE_CHECKING:
    from trainer.input import Source
    from trainer.model import WideAndDeep


@click.command()
@click.option("--config", "config_file", default="configs/census.yaml", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="How many seeds: 0, 1, 2 and so on."
)
@click.option("--split", default="test", show_default=True, help="The split that is reported; choose on eval.")
@click.option("--all", "is_all", is_flag=True, help="Compare with trees on public tables, as `init` declares them.")
@click.option("--only", "names", multiple=True, metavar="TABLE", help="With --all: some of the tables.")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="With --all: some of the models.")
@click.option("--json", "is_json", is_flag=True, help="With --all: print a JSON object for each table and model.")
@click.option("--show", is_flag=True, help="With --all: print the cells in FOLDER, and train nothing.")
@click.option(
    "--cells",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With --all: folder of tables and cells.  [default: data/tables/cells]",
)
@click.pass_context
def main(
    context: click.Context,
    config_file: str,
    settings: tuple[str, ...],
    seeds: int,
    split: str,
    is_all: bool,
    names: tuple[str, ...],
    models: tuple[str, ...],
    is_json: bool,
    show: bool,
    folder: Path | None,
) -> None:
    """Print each seed's metrics, their mean and their standard deviation.

    With --all, exit code 1 means that cells of the table are missing; a line says which and why.
    """
    _check_flags(context, is_all)
    if is_all:
        context.exit(_compare(names, models, seeds, folder, is_json, show))
    try:
        _measure_one(pipeline_config.load(config_file, settings), seeds, split)
    except PipelineError as error:
        print_error(error, as_json=False)
        context.exit(error.exit_code)


def _measure_one(config: PipelineConfig, seeds: int, split: str) -> None:
    """Print the metrics of one config with each seed."""
    if split not in config.data.splits:
        raise ConfigError(f"--split: expected one of {', '.join(config.data.splits)}, found '{split}'")
    with tempfile.TemporaryDirectory() as temporary, redirect_output(Path(temporary) / "log") as terminal:
        console = Console(file=terminal, width=120)
        console.print("transforming ...")
        sources = transform_splits(config, Path(temporary), split)
        results = []
        for seed in range(seeds):
            console.print(f"training with seed {seed} ...")
            results.append(_train_and_measure(config, sources, split, seed))
        console.print(_table(results, split))


# Options that the other mode does not have.
_OF_ONE_CONFIG = {"config_file", "settings", "split"}
_OF_ALL = {"names", "models", "is_json", "show", "folder"}


def _check_flags(context: click.Context, is_all: bool) -> None:
    for parameter in context.command.params:
        is_wrong = parameter.name in (_OF_ONE_CONFIG if is_all else _OF_ALL)
        if is_wrong and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE:
            reason = "is for one config; remove it, or --all" if is_all else "needs --all"
            raise click.UsageError(f"{parameter.opts[0]} {reason}")


def _compare(
    names: Sequence[str], models: Sequence[str], seeds: int, folder: Path | None, is_json: bool, show: bool
) -> int:
    """Measure the missing cells and print the table; return the exit code."""
    from benchmarks import head_to_head, public_tables

    for values, choices in ((names, head_to_head.CHOICES), (models, tuple(head_to_head.MODELS))):
        if unknown := [value for value in values if value not in choices]:
            raise click.UsageError(f"expected one of {', '.join(choices)}, found {unknown[0]}")
    names, models = names or head_to_head.NAMES, models or tuple(head_to_head.MODELS)
    folder = (folder or public_tables.FOLDER / "cells").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--cells: {folder} cannot be made a folder: {error.strerror}") from error
    with redirect_output(folder / "log", "stderr") as terminal:
        comparison = head_to_head.HeadToHead(names, models, seeds, folder, lambda line: print(line, file=terminal))
        try:
            if not show:
                comparison.measure()
        except KeyboardInterrupt:
            print(f"interrupted; whole cells are kept in {folder}: run it again to continue", file=terminal)
            return INTERRUPTED_EXIT_CODE
    lines = head_to_head.summarize(list(comparison.current()), names, models)
    if is_json:
        for line in lines:
            click.echo(json.dumps(asdict(line)))
    else:
        head_to_head.print_lines(lines, Console(width=140, highlight=False))
    for problem in comparison.problems:
        print_message(problem)
    unfinished = [line for line in lines if line.seeds < seeds and not line.is_seedless]
    if show and unfinished:
        print_message(
            f"cells are missing ({', '.join(dict.fromkeys(line.table for line in unfinished))}): measure without --show"
        )
    return int(bool(unfinished))


def transform_splits(config: PipelineConfig, folder: Path, split: str) -> dict[str, "Source"]:
    """Run the pipeline up to Transform and return the transformed splits.

    Args:
      config: Config of the pipeline.
      folder: Folder of the artifacts.
      split: Name of the split that is reported.
    """
    splits = ("train", "eval", split)
    return sources(config, transform(config, folder, splits), splits)


def transform(config: PipelineConfig, folder: Path, splits: tuple[str, ...]) -> tuple[str, str]:
    """Run the pipeline up to Transform and return the URIs of its graph and of its examples.

    Args:
      config: Config of the pipeline.
      folder: Folder of the artifacts.
      splits: Names of the splits to transform.
    """
    from pipeline.create_pipeline import create_pipeline
    from pipeline.run import dag_runner

    pipeline = create_pipeline(
        config,
        pipeline_root=str(folder / "artifacts"),
        registry=config.build_registry_settings(folder / "registry"),
        run_id="quality",
        enable_cache=False,
        transformed_splits=splits,
    )
    try:
        dag_runner.run(pipeline, SQLiteFile(folder / SQLITE_FILE), run_id="quality", observer=_StopAfterTransform())
    except _TransformedError as done:
        return done.graph, done.examples
    raise RuntimeError("the run ended before Transform")


def sources(config: PipelineConfig, uris: tuple[str, str], splits: tuple[str, ...]) -> dict[str, "Source"]:
    """Return the transformed splits by name.

    Args:
      config: Config of the pipeline.
      uris: URIs of the graph and of the examples.
      splits: Names of the splits.
    """
    import tensorflow_transform as tft

    from components.artifact_files import list_files
    from trainer.input import Source

    graph, examples = uris
    output = tft.TFTransformOutput(make_literal_path(graph))
    return {
        name: Source(list_files(f"{examples}/Split-{name}"), config.feature_set, output.transformed_feature_spec())
        for name in set(splits)
    }


class _TransformedError(Exception):
    """Carries the URIs of Transform's outputs out of a run that needs no more."""

    def __init__(self, graph: str, examples: str) -> None:
        super().__init__(graph, examples)
        self.graph = graph
        self.examples = examples


class _StopAfterTransform:
    def on_node_start(self, node_id: str) -> None:
        """Do nothing."""

    def on_node_end(self, result: object) -> None:
        outputs = result.outputs  # type: ignore[attr-defined]
        if "transform_graph" in outputs:
            raise _TransformedError(outputs["transform_graph"][0].uri, outputs["transformed_examples"][0].uri)


def _train_and_measure(config: PipelineConfig, sources: dict[str, "Source"], split: str, seed: int) -> dict[str, float]:
    from trainer.decision import fit_threshold
    from trainer.run import fit

    started = time.monotonic()
    network, history = fit(
        train=sources["train"],
        evaluation=sources["eval"],
        model=config.model,
        training=config.training,
        seed=seed,
        log_folder=None,
    )
    seconds = time.monotonic() - started
    costs = config.decision
    decision = fit_threshold(network, sources["eval"], costs, config.training)
    measured = measure(network, sources[split], decision.threshold, costs)
    return measured | {"epochs": float(len(history.metrics["loss"])), "seconds": seconds}


def measure(
    network: "WideAndDeep", source: "Source", threshold: float = DEFAULT_THRESHOLD, costs: DecisionCosts | None = None
) -> dict[str, float]:
    """Return the Evaluator's metrics of a network on a split.

    Args:
      network: Network that `trainer.run.fit` returned.
      source: Transformed split.
      threshold: Threshold of a binary label.
      costs: Costs of its errors; None if none are declared.
    """
    import tensorflow as tf

    from schemas.metric_counts import create_empty_counts

    kind = source.features.label.kind
    counts = create_empty_counts(kind, threshold, costs)
    for ids, numbers, label in source.read_blocks():
        output = network(source.unpack(ids, numbers), training=False)
        match kind:
            case "binary":
                predictions = tf.sigmoid(output[:, 0])
            case "multiclass":
                predictions = tf.nn.softmax(output)
            case "regression":
                predictions = output[:, 0]
        counts.add(label.numpy(), predictions.numpy())
    names = [name for name in list_metrics(kind, has_costs=costs is not None) if name != EXAMPLE_COUNT]
    return {name: METRICS[name].compute(counts) for name in names}


def _table(results: list[dict[str, float]], split: str) -> Table:
    table = Table(title=f"metrics on {split}, {format_count(len(results), 'seed')}", title_justify="left", box=None)
    columns = list(results[0])
    for name in ("seed", *columns):
        table.add_column(name, justify="right")
    for seed, result in enumerate(results):
        table.add_row(str(seed), *(_format_metric(name, result[name]) for name in columns))
    table.add_row("mean", *(_format_metric(name, float(np.mean([r[name] for r in results]))) for name in columns))
    if len(results) > 1:
        table.add_row(
            "std", *(_format_metric(name, float(np.std([r[name] for r in results], ddof=1))) for name in columns)
        )
    return table


def _format_metric(name: str, value: float) -> str:
    if np.isnan(value):
        return "undefined"
    return f"{value:.1f}" if name in ("epochs", "seconds") else f"{value:.4f}"


if __name__ == "__main__":
    main()
