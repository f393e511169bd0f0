"""The quality of the model: trained on `train` with several seeds, reported once on the official test file.

    make quality

Transform runs once; each seed then trains as the pipeline's Trainer does. Nothing is chosen here: hyper-parameters were
chosen on `eval`, which is what the option --split eval prints. TensorFlow is imported in functions, so that what it
prints goes to a log.
"""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from cli.terminal import own_terminal
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.database.binding import SQLITE_FILE
from pipeline.database.sqlite import SQLiteFile
from schemas.decision import DEFAULT_THRESHOLD, DecisionCosts
from schemas.metrics import EXAMPLE_COUNT, METRICS, metrics_of
from serving.model.literal_paths import literal_path

if TYPE_CHECKING:
    from trainer.input import Source
    from trainer.model import WideAndDeep


@click.command()
@click.option("--config", "config_file", default="configs/census.yaml", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option("--seeds", default=5, show_default=True, help="How many seeds: 0, 1, 2 and so on.")
@click.option("--split", default="test", show_default=True, help="The split that is reported; choose on eval.")
def main(config_file: str, settings: tuple[str, ...], seeds: int, split: str) -> None:
    """Print each seed's metrics, their mean and their standard deviation."""
    config = pipeline_config.load(config_file, settings)
    with tempfile.TemporaryDirectory() as folder, own_terminal(Path(folder) / "log") as terminal:
        console = Console(file=terminal, width=120)
        console.print("transforming ...")
        sources = transform_splits(config, Path(folder), split)
        results = []
        for seed in range(seeds):
            console.print(f"training with seed {seed} ...")
            results.append(_train_and_measure(config, sources, split, seed))
        console.print(_table(results, split))


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
        registry=config.registry_settings(folder / "registry"),
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

    from components.artifact_files import files_in
    from trainer.input import Source

    graph, examples = uris
    output = tft.TFTransformOutput(literal_path(graph))
    return {
        name: Source(files_in(f"{examples}/Split-{name}"), config.feature_set, output.transformed_feature_spec())
        for name in set(splits)
    }


class _TransformedError(Exception):
    """Carries the URIs of Transform's outputs out of a run that needs no more."""

    def __init__(self, graph: str, examples: str) -> None:
        super().__init__(graph, examples)
        self.graph = graph
        self.examples = examples


class _StopAfterTransform:
    def node_started(self, node_id: str) -> None:
        """Nothing to do."""

    def node_finished(self, result: object) -> None:
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

    from schemas.metric_counts import empty_counts

    kind = source.features.label.kind
    counts = empty_counts(kind, threshold, costs)
    for ids, numbers, label in source.blocks():
        output = network(source.unpack(ids, numbers), training=False)
        match kind:
            case "binary":
                predictions = tf.sigmoid(output[:, 0])
            case "multiclass":
                predictions = tf.nn.softmax(output)
            case "regression":
                predictions = output[:, 0]
        counts.add(label.numpy(), predictions.numpy())
    names = [name for name in metrics_of(kind, has_costs=costs is not None) if name != EXAMPLE_COUNT]
    return {name: METRICS[name].compute(counts) for name in names}


def _table(results: list[dict[str, float]], split: str) -> Table:
    table = Table(title=f"metrics on {split}, {len(results)} seeds", title_justify="left", box=None)
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
