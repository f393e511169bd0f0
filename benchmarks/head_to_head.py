"""The pipeline beside gradient-boosted trees on public tables: `make quality ARGS=--all`.

`init` writes the config of each table with nothing but its label. The pipeline, and each peer with its defaults, are
trained on the rows of `train` and `eval` and judged on those of `test`, with several seeds. A cell is one table, one
model and one seed, and one file. A cell whose code, package or rows have changed is stale and is measured again.
A model that gives the same result with the first two seeds does not depend on the seed, and no further one is measured.
"""

import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import peer_program, peers, product, public_tables
from benchmarks.peers import PEERS, PeerError, Score
from benchmarks.product import Prepared
from benchmarks.public_tables import BUILT_IN, DEVELOPMENT, HEAD_TO_HEAD
from benchmarks.tables import StoppedError
from cli.errors import PipelineError
from cli.state_files import write_atomically
from pipeline.run.fingerprint import hash_code

# All that may be compared, and those that are.
NAMES = (*HEAD_TO_HEAD, *BUILT_IN)
CHOICES = (*NAMES, *DEVELOPMENT, *public_tables.TABLES)
PRODUCT = "pipeline"
MODELS = {PRODUCT: "this pipeline", **PEERS}
# Seeds whose results are compared to find whether a model depends on the seed.
_COMPARED_SEEDS = 2


@dataclass(frozen=True)
class Cell:
    """A trained model.

    Attributes:
      table: Name of the table.
      model: Key of `MODELS`.
      seed: Seed of the training.
      kind: Kind of label.
      rows: Number of rows that it is judged on.
      loss: Log loss, or root mean squared error of a regression.
      metric: Name of the metric beside it.
      value: Its value.
      train_seconds: Seconds of the training.
      microseconds: Microseconds that a row takes to predict.
      state: Versions of what it depends on: code, package and rows.
    """

    table: str
    model: str
    seed: int
    kind: str
    rows: int
    loss: float
    metric: str
    value: float
    train_seconds: float
    microseconds: float
    state: dict[str, str]


class Cells:
    """The cells in a folder, one file each.

    Args:
      folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, table: str, model: str, seed: int) -> Cell | None:
        """Return a cell; None if it is not measured, or its file is damaged."""
        try:
            return Cell(**json.loads(self._file(table, model, seed).read_text()))
        except (OSError, TypeError, ValueError):
            return None

    def write(self, cell: Cell) -> None:
        """Write a cell, whole or not at all."""
        file = self._file(cell.table, cell.model, cell.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(asdict(cell), indent=1) + "\n")

    def _file(self, table: str, model: str, seed: int) -> Path:
        return self._folder / table / f"{model}-{seed}.json"


class HeadToHead:
    """Measures the cells that are missing or stale.

    Args:
      names: Names of the tables.
      models: Keys of `MODELS`.
      seeds: Number of seeds: 0, 1, 2 and so on.
      folder: Folder of the tables and the cells.
      report: Function that is called with each line of the progress.

    Attributes:
      problems: Reasons for which cells are missing, in lines.
    """

    def __init__(
        self, names: Sequence[str], models: Sequence[str], seeds: int, folder: Path, report: Callable[[str], None]
    ) -> None:
        self.problems: list[str] = []
        self._names, self._models, self._seeds = names, models, seeds
        self._folder, self._report = folder, report
        self._cells = Cells(folder / "cells")
        # What failed once is not tried with further seeds.
        self._failed: set[str | tuple[str, str]] = set()

    def measure(self) -> None:
        """Measure, seed by seed, so that an interrupted command has all tables with fewer seeds."""
        total = self._seeds * len(self._names) * len(self._models)
        number = 0
        for seed in range(self._seeds):
            for name in self._names:
                for model in self._models:
                    number += 1
                    is_failed = self._failed & {name, model, (name, model)}
                    if not is_failed and self._is_needed(name, model, seed):
                        self._measure(name, model, seed, f"[{number}/{total}] {name}, {MODELS[model]}, seed {seed}")

    def current(self) -> Iterator[Cell]:
        """Yield the cells that are measured, stale ones too."""
        for name in self._names:
            for model in self._models:
                for seed in range(self._seeds):
                    cell = self._cells.read(name, model, seed)
                    if cell is not None and self._is_needed(name, model, seed):
                        yield cell

    def _is_needed(self, name: str, model: str, seed: int) -> bool:
        """Return whether a seed may have another result than those before it."""
        first = [self._cells.read(name, model, number) for number in range(min(seed, _COMPARED_SEEDS))]
        results = {(cell.loss, cell.value) for cell in first if cell is not None}
        return seed < _COMPARED_SEEDS or None in first or len(results) > 1

    def _measure(self, name: str, model: str, seed: int, place: str) -> None:
        prepared = self._attempt(name, name, lambda: self._prepare(name))
        python = self._attempt(model, "", lambda: peers.install(model)) if model in PEERS else Path()
        if prepared is None or python is None:
            return
        state = self._state(prepared, model)
        cell = self._cells.read(name, model, seed)
        if cell is not None:
            if cell.state == state:
                return
            self._report(f"{place}: stale: {explain_change(cell.state, state)}")
        cell = self._attempt((name, model), name, lambda: self._train(prepared, name, model, seed, python, state))
        if cell is not None:
            self._cells.write(cell)
            self._report(f"{place}: loss {cell.loss:.5g}, trained in {cell.train_seconds:.1f} s")

    def _attempt(self, key: str | tuple[str, str], place: str, act: Callable[[], Any]) -> Any:
        """Return the result; None if it failed, with the reason among the problems."""
        try:
            return act()
        except (PeerError, StoppedError, PipelineError) as error:
            self._failed.add(key)
            self.problems.append(": ".join(filter(None, (place, str(error).splitlines()[0]))))
            self._report(self.problems[-1])
            return None

    def _prepare(self, name: str) -> Prepared:
        folder = self._folder / "tables" / name
        if Prepared.read(folder) is None:
            self._report(f"{name}: init, and the pipeline up to Transform ...")
        return product.prepare(name, folder)

    def _train(
        self, prepared: Prepared, name: str, model: str, seed: int, python: Path, state: Mapping[str, str]
    ) -> Cell:
        label = prepared.config.label
        if model == PRODUCT:
            predictions = product.fit(prepared, seed)
        else:
            predictions = peers.fit(model, python, prepared.folder, label, seed)
        score: Score = peers.judge(label, prepared.rows.test, predictions)
        return Cell(
            *(name, model, seed, label.kind, score.rows, score.loss, score.metric, score.value),
            *(predictions.train_seconds, predictions.microseconds, dict(state)),
        )

    def _state(self, prepared: Prepared, model: str) -> dict[str, str]:
        """Return the versions of what a cell depends on."""
        if model in PEERS:
            code = _hash(Path(peer_program.__file__).read_bytes())
            return {"code": code, "package": f"{model} {peers.version(model)}", "rows": prepared.rows_digest}
        import components.transform
        import schemas.features
        import serving.model
        import trainer

        config = prepared.config
        # Without the paths, which differ by folder.
        parts = (config.feature_set, config.model, config.training)
        return {
            "code": hash_code(trainer, components.transform, schemas.features, serving.model),
            "package": f"tensorflow {metadata.version('tensorflow')}",
            "rows": prepared.rows_digest,
            "config": _hash("".join(part.model_dump_json() for part in parts).encode()),
        }


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def explain_change(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return what changed between two states.

    Args:
      before: State of the cell.
      after: State of now.
    """
    return ", ".join(
        f"{name} {before.get(name, 'none')} became {value}"
        for name, value in after.items()
        if before.get(name) != value
    )


@dataclass(frozen=True)
class TableLine:
    """A model on a table: the mean of its seeds.

    Attributes:
      table: Name of the table.
      kind: Kind of label.
      rows: Number of rows that it is judged on.
      model: Key of `MODELS`.
      seeds: Number of seeds that are measured; 0 if it is missing.
      loss: Mean loss; None if it is missing, as are the others.
      loss_std: Standard deviation; None with one seed.
      metric: Name of the metric beside the loss.
      value: Its mean.
      value_std: Its standard deviation.
      train_seconds: Mean seconds of the training.
      microseconds: Mean microseconds that a row takes to predict.
      above_best: Loss above the lowest one of the table, as a share of that; 0 of the best.
    """

    table: str
    kind: str = ""
    rows: int = 0
    model: str = ""
    seeds: int = 0
    loss: float | None = None
    loss_std: float | None = None
    metric: str = ""
    value: float | None = None
    value_std: float | None = None
    train_seconds: float | None = None
    microseconds: float | None = None
    above_best: float | None = None

    @property
    def is_seedless(self) -> bool:
        """Whether its seeds have the same result."""
        return self.loss_std == 0


def summarize(cells: Sequence[Cell], names: Sequence[str], models: Sequence[str]) -> list[TableLine]:
    """Return a line for each table and model.

    Args:
      cells: Cells that are measured.
      names: Names of the tables.
      models: Keys of `MODELS`.
    """
    lines = []
    for name in names:
        by_model = {model: [cell for cell in cells if (cell.table, cell.model) == (name, model)] for model in models}
        means = {model: statistics.mean(cell.loss for cell in own) for model, own in by_model.items() if own}
        best = min(means.values(), default=0.0)
        for model, own in by_model.items():
            if not own:
                lines.append(TableLine(name, model=model))
                continue
            lines.append(
                TableLine(
                    *(name, own[0].kind, own[0].rows, model, len(own)),
                    *(means[model], _std([cell.loss for cell in own]), own[0].metric),
                    statistics.mean(cell.value for cell in own),
                    _std([cell.value for cell in own]),
                    statistics.mean(cell.train_seconds for cell in own),
                    statistics.mean(cell.microseconds for cell in own),
                    means[model] / best - 1,
                )
            )
    return lines


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def print_lines(lines: Sequence[TableLine], console: Console) -> None:
    """Print the table, and on how many tables each model is the best.

    Args:
      lines: From `summarize`.
      console: Console to print to.
    """
    table = Table(title="loss and metric on test, means of the seeds", title_justify="left", box=None)
    for column in ("table", "kind", "test", "model", "seeds", "loss", "std", "metric", "value", "std"):
        table.add_column(column, justify="left" if column in ("table", "kind", "model", "metric") else "right")
    for column in ("train s", "us/row", "above best"):
        table.add_column(column, justify="right")
    for number, line in enumerate(lines):
        is_first = number == 0 or lines[number - 1].table != line.table
        start = (line.table, line.kind, f"{line.rows:,}" if line.rows else "") if is_first else ("", "", "")
        table.add_row(*start, MODELS[line.model], *_format(line))
    console.print(table)
    for text in conclude(lines):
        console.print(text, soft_wrap=True)


def _format(line: TableLine) -> Iterator[str]:
    if not line.seeds:
        return
    yield "any" if line.is_seedless else str(line.seeds)
    yield f"{line.loss:.5g}"
    yield "" if line.loss_std is None else f"{line.loss_std:.2g}"
    yield line.metric
    yield f"{line.value:.4f}"
    yield "" if line.value_std is None else f"{line.value_std:.4f}"
    yield f"{line.train_seconds:.1f}"
    yield f"{line.microseconds:.1f}"
    yield "best" if line.above_best == 0 else f"+{line.above_best:.1%}"


def conclude(lines: Sequence[TableLine]) -> Iterator[str]:
    """Yield on which tables each model has the lowest loss, and on how many the pipeline is better than each peer.

    Tables that some model has not finished do not count.

    Args:
      lines: From `summarize`.
    """
    measured = [line for line in lines if line.seeds]
    # A peer that is not installed leaves the others; a table that is not finished counts for none.
    models = {line.model for line in measured}
    unfinished = {line.table for line in lines if not line.seeds and line.model in models}
    measured = [line for line in measured if line.table not in unfinished]
    tables = dict.fromkeys(line.table for line in measured)
    for model, title in MODELS.items():
        best = [line.table for line in measured if line.model == model and line.above_best == 0]
        if best:
            yield f"{title}: lowest loss on {len(best)} of {len(tables)} ({', '.join(best)})"
    own = {line.table: line.loss for line in measured if line.model == PRODUCT}
    for model, title in PEERS.items():
        losses = {line.table: line.loss for line in measured if line.model == model and line.table in own}
        if losses:
            lower = sum((own[name] or 0) < (loss or 0) for name, loss in losses.items())
            yield f"{MODELS[PRODUCT]} has a lower loss than {title} on {lower} of {len(losses)}"
