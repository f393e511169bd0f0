"""Variants of the network, side by side on tables that no comparison with trees uses.

    python -m benchmarks.network --variants FILE.yaml --keep FOLDER

FILE.yaml has the settings of each variant by its name; the first is what the others are compared with. A string that
starts with = is computed for each table, from `rows` (of train), `columns` and `kind` (of the label):

    as init writes it: {}
    steps: {training.epochs: "=max(8, min(50, round(3000 * 128 / rows)))", training.batch_size: 128}
    no normalization: {model.normalization: none}

`python -m pipeline init` writes the config of a table with nothing but its label, and the pipeline runs up to
Transform; both are kept in FOLDER. Each variant then trains as the pipeline's Trainer does, with several seeds. Choose
on eval; test is printed apart. Each result is a line of FOLDER/results.jsonl and is not measured again. Remove that
file after a change of the trainer.
"""

import gc
import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import quality, tables
from benchmarks.public_tables import DEVELOPMENT
from cli.errors import PipelineError
from cli.terminal import redirect_output
from pipeline.config import pipeline_config
from pipeline.config.pipeline_config import PipelineConfig
from schemas.features import LabelKind
from schemas.metrics import LABEL_KINDS, choose_bound, list_watchable

if TYPE_CHECKING:
    from trainer.input import Source

_SPLITS = ("train", "eval", "test")
_EXPRESSION = "="

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A trained variant.

    Attributes:
      table: Name of the table.
      kind: Kind of its label.
      variant: Name of the variant.
      settings: Its settings for this table.
      seed: Seed of the training.
      seconds: Seconds of the training.
      epochs: Number of epochs.
      eval: Metrics on eval.
      test: Metrics on test.
      error: Reason why it was not trained; empty if it was.
    """

    table: str
    kind: LabelKind
    variant: str
    settings: list[str]
    seed: int
    seconds: float = 0.0
    epochs: int = 0
    eval: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], int]:
        return self.table, self.variant, tuple(self.settings), self.seed


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--variants", "file", required=True, type=click.Path(path_type=Path, exists=True), help="Their settings.")
@click.option("--keep", "folder", required=True, type=click.Path(path_type=Path), help="Folder of configs and results.")
@click.option("--only", "names", multiple=True, metavar="NAME", help="Some of the tables.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds: 0, 1, 2 and so on.")
@click.option("--show", is_flag=True, help="Print the results in FOLDER, and train nothing.")
def main(file: Path, folder: Path, names: Sequence[str], seeds: int, show: bool) -> None:
    """Train what is not measured yet, and print the results."""
    variants: dict[str, Settings] = yaml.safe_load(file.read_text())
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    results_file = folder / "results.jsonl"
    if not show:
        with redirect_output(folder / "log") as terminal:
            for name in names or DEVELOPMENT:
                for result in _measure_variants(name, variants, seeds, folder, read(results_file)):
                    with results_file.open("a") as lines:
                        lines.write(as_line(result))
                    terminal.write(f"{_line(result)}\n")
                    terminal.flush()
    results = [result for result in read(results_file) if result.variant in variants and result.seed < seeds]
    _print([result for result in results if not names or result.table in names], list(variants))


def read(file: Path) -> list[Result]:
    """Return the results in a file; none if it does not exist."""
    return [Result(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def as_line(result: Result) -> str:
    """Return a result as a line of the file."""
    return json.dumps(asdict(result)) + "\n"


def _measure_variants(
    name: str, variants: Mapping[str, Settings], seeds: int, folder: Path, results: Sequence[Result]
) -> Iterator[Result]:
    config_file = _init(name, folder)
    base = pipeline_config.load(config_file)
    keys = {result.key for result in results if not result.error}
    for variant, settings in variants.items():
        overrides = list(list_overrides(settings, _facts(base, folder / name) if _has_expressions(settings) else {}))
        for seed in range(seeds):
            result = Result(name, base.label.kind, variant, overrides, seed)
            if result.key not in keys:
                yield _train(result, config_file, folder / name)


def _init(name: str, folder: Path) -> Path:
    """Write the config of a table, unless it exists, and return it."""
    config_file = folder / f"{name}.yaml"
    return config_file if config_file.exists() else tables.init(name, folder)


def _has_expressions(settings: Settings) -> bool:
    return any(isinstance(value, str) and value.startswith(_EXPRESSION) for value in settings.values())


def _facts(config: PipelineConfig, folder: Path) -> dict[str, Any]:
    """Return what expressions may use."""
    rows = sum(len(label) for _, _, label in _sources(config, folder)["train"].read_blocks())
    return {"rows": rows, "columns": len(config.features), "kind": config.label.kind}


def list_overrides(settings: Settings, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield settings as KEY=VALUE, with the values of expressions.

    Args:
      settings: Values by key.
      facts: Names that expressions may use.
    """
    for key, value in settings.items():
        if isinstance(value, str) and value.startswith(_EXPRESSION):
            names = {"min": min, "max": max, "round": round, **facts}
            value = eval(value.removeprefix(_EXPRESSION).strip(), {"__builtins__": {}}, names)
        yield f"{key}={json.dumps(value)}"


def _sources(config: PipelineConfig, folder: Path) -> dict[str, "Source"]:
    """Return the transformed splits; configs with the same data and the same features share them."""
    import components
    import schemas
    from pipeline.run.fingerprint import hash_code

    parts = (config.data.model_dump_json(), config.feature_set.model_dump_json())
    key = hashlib.sha256("".join([*parts, hash_code(components, schemas)]).encode()).hexdigest()[:12]
    file = folder / key / "transformed.json"
    if not file.exists():
        # An interrupted run leaves half of it.
        shutil.rmtree(file.parent, ignore_errors=True)
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(quality.transform(config, file.parent, _SPLITS)))
    graph, examples = json.loads(file.read_text())
    return quality.sources(config, (graph, examples), _SPLITS)


def _train(result: Result, config_file: Path, folder: Path) -> Result:
    import keras

    from trainer.run import fit

    keras.utils.clear_session()
    gc.collect()
    try:
        config = pipeline_config.load(config_file, tuple(result.settings))
        sources = _sources(config, folder)
        started = time.monotonic()
        network, history = fit(
            train=sources["train"],
            evaluation=sources["eval"],
            model=config.model,
            training=config.training,
            seed=result.seed,
            log_folder=None,
        )
        seconds = time.monotonic() - started
    except PipelineError as error:
        return Result(*_start(result), error=str(error).splitlines()[0])
    measured = {split: quality.measure(network, sources[split]) for split in ("eval", "test")}
    return Result(*_start(result), round(seconds, 1), len(history.metrics["loss"]), measured["eval"], measured["test"])


def _start(result: Result) -> tuple[str, LabelKind, str, list[str], int]:
    return result.table, result.kind, result.variant, result.settings, result.seed


def _line(result: Result) -> str:
    if result.error:
        return f"{result.table}, {result.variant}: {result.error}"
    measured = ", ".join(
        f"{name} {result.eval[name]:.4f}" for name in (list_watchable(result.kind)[0], choose_bound(result.kind))
    )
    where = f"{result.table}, {result.variant}, seed {result.seed}"
    return f"{where}: {measured} on eval; {result.epochs} epochs, {result.seconds:.0f} s"


def _print(results: Sequence[Result], variants: Sequence[str]) -> None:
    console = Console(width=160, highlight=False)
    for split in ("eval", "test"):
        note = "" if split == "eval" else ", not for choosing"
        table = Table(title=f"{split}{note}: loss, of the first variant, metric", title_justify="left", box=None)
        for column in ("table", "variant", "seeds", "loss", "std", "ratio", "metric", "epochs", "seconds"):
            table.add_column(column, justify="left" if column in ("table", "variant") else "right")
        for name in dict.fromkeys(result.table for result in results):
            for variant in variants:
                table.add_row(name, variant, *_cells(results, name, variant, variants[0], split))
        console.print(table)
        console.print(_means(results, variants, split))


def _cells(results: Sequence[Result], table: str, variant: str, first: str, split: str) -> Iterator[str]:
    chosen = _of(results, table, variant)
    if not chosen:
        return
    loss, metric = list_watchable(chosen[0].kind)[0], choose_bound(chosen[0].kind)
    losses = [getattr(result, split)[loss] for result in chosen]
    yield str(len(chosen))
    yield f"{np.mean(losses):.5g}"
    yield f"{np.std(losses):.2g}"
    ratio = loss_ratio(results, table, variant, first, split)
    yield "" if ratio is None else f"{ratio:.3f}"
    yield f"{np.mean([getattr(result, split)[metric] for result in chosen]):.4f}"
    yield f"{np.mean([result.epochs for result in chosen]):.0f}"
    yield f"{np.mean([result.seconds for result in chosen]):.1f}"


def _of(results: Iterable[Result], table: str, variant: str) -> list[Result]:
    return [result for result in results if (result.table, result.variant) == (table, variant) and not result.error]


def loss_ratio(results: Sequence[Result], table: str, variant: str, first: str, split: str) -> float | None:
    """Return the mean loss of a variant divided by that of the first one; None if either was not trained.

    Args:
      results: Results of all.
      table: Name of the table.
      variant: Name of the variant.
      first: Name of the variant that it is compared with.
      split: Split of the metrics.
    """
    means = []
    for name in (variant, first):
        losses = [getattr(result, split)[list_watchable(result.kind)[0]] for result in _of(results, table, name)]
        if not losses:
            return None
        means.append(np.mean(losses))
    return float(means[0] / means[1])


def _means(results: Sequence[Result], variants: Sequence[str], split: str) -> Table:
    """Return the geometric means of the ratios, by kind of label."""
    table = Table(title=f"{split}: geometric mean of the ratios (tables with a lower loss)", box=None)
    table.add_column("variant")
    for kind in LABEL_KINDS:
        table.add_column(kind, justify="right")
    for variant in variants:
        cells = []
        for kind in LABEL_KINDS:
            names = dict.fromkeys(result.table for result in results if result.kind == kind)
            ratios = [loss_ratio(results, name, variant, variants[0], split) for name in names]
            numbers = [ratio for ratio in ratios if ratio is not None]
            lower = sum(ratio < 1 for ratio in numbers)
            cells.append(f"{np.exp(np.mean(np.log(numbers))):.3f} ({lower} of {len(numbers)})" if numbers else "")
        table.add_row(variant, *cells)
    return table


if __name__ == "__main__":
    main()
