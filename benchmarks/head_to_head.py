"""The pipeline beside CatBoost's defaults, on twelve tables that a rule picks (benchmarks/selection.py).

    python -m benchmarks.head_to_head --keep FOLDER

`python -m pipeline init` writes the config of each table with nothing but the label, and local_runner.py runs it
unchanged. Further seeds train again on the same rows. Then CatBoost and scikit-learn's HistGradientBoosting, both with
their defaults, are fitted on the rows of `train` and `eval` and on the columns that `init` declared. All are judged on
the rows of `test`. The pipeline is better if its mean log loss, or root mean squared error of a regression, is lower.

The result of a table is kept in FOLDER/NAME.json; --resume measures only those without.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import public_tables, tables
from benchmarks.public_tables import DEVELOPMENT, HEAD_TO_HEAD
from benchmarks.tables import BOUNDS, StoppedError
from pipeline.config import pipeline_config
from pipeline.run.run_root import RunRoot
from schemas.features import LabelKind
from schemas.metrics import default_bound, watchable_metrics

_SEED_KEY = "seed"


@dataclass
class Match:
    """One table: the pipeline, CatBoost and HistGradientBoosting.

    Attributes:
      name: Name of the table.
      kind: Kind of its label.
      rows: Number of rows of train, eval and test.
      test_rows: Number of rows that all are judged on.
      columns: Number of features.
      losses: Loss of the pipeline's model, by seed.
      values: Its AUC, accuracy or R2, by seed.
      catboost: Loss and metric of CatBoost.
      trees: Loss and metric of HistGradientBoosting.
      seconds: Seconds of the first run of the pipeline, and of CatBoost's training.
      flags: Flags of `init` beside the label.
      outcome: "pushed", or the reason why a run did not push.
    """

    name: str
    kind: LabelKind
    rows: int = 0
    test_rows: int = 0
    columns: int = 0
    losses: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    catboost: tuple[float, float] | None = None
    trees: tuple[float, float] | None = None
    seconds: tuple[float, float] | None = None
    flags: list[str] = field(default_factory=list)
    outcome: str = "pushed"

    @property
    def is_better(self) -> bool:
        """Whether the mean loss is lower than CatBoost's."""
        return self.catboost is not None and bool(self.losses) and statistics.mean(self.losses) < self.catboost[0]

    @property
    def is_as_good_as_trees(self) -> bool:
        """Whether the mean metric is within `BOUNDS` of that of HistGradientBoosting, or better."""
        if self.trees is None or not self.values:
            return False
        return statistics.mean(self.values) >= self.trees[1] - BOUNDS[default_bound(self.kind)]


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", "names", multiple=True, metavar="NAME", help="Some of them, or development tables.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option("--seeds", default=3, show_default=True, help="Number of seeds: that of `init` and the next.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object for each table.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="FOLDER", help="Keep configs, runs and results.")
@click.option("--resume", is_flag=True, help="Reuse the results in FOLDER.")
def main(
    names: Sequence[str], settings: Sequence[str], seeds: int, is_json: bool, keep: Path | None, resume: bool
) -> None:
    """Print the table; the progress goes to standard error."""
    if unknown := set(names) - {*HEAD_TO_HEAD, *DEVELOPMENT}:
        raise click.BadParameter(f"expected one of {', '.join([*HEAD_TO_HEAD, *DEVELOPMENT])}, found {unknown.pop()}")
    matches = []
    with tables.kept_folder(keep) as folder:
        for name in names or HEAD_TO_HEAD:
            file = folder / f"{name}.json"
            if not (resume and file.exists()):
                click.echo(f"{name} ...", err=True)
                file.write_text(json.dumps(asdict(play(name, folder, seeds, settings))))
            matches.append(Match(**json.loads(file.read_text())))
            click.echo(f"    {_line(matches[-1])}", err=True)
    if is_json:
        for match in matches:
            click.echo(json.dumps({**asdict(match), "is_better": match.is_better}))
    else:
        _print(matches)


def play(name: str, folder: Path, seeds: int, settings: Sequence[str] = ()) -> Match:
    """Run the pipeline on a table with several seeds and fit the trees beside it.

    Args:
      name: Name of the table.
      folder: Folder of the config and of the run.
      seeds: Number of seeds.
      settings: Overrides of keys of the config, as KEY=VALUE.
    """
    kind = public_tables.find(name).kind
    assert kind is not None
    match = Match(name, kind)
    try:
        config_file = tables.init(name, folder)
        if pipeline_config.load(config_file).label.kind != kind:
            match.flags = ["--kind", kind]
            config_file = tables.init(name, folder, *match.flags)
        first = pipeline_config.load(config_file, tuple(settings)).seed
        for number in range(seeds):
            started = time.monotonic()
            seed = [f"{_SEED_KEY}={first + number}"] if number else []
            _add(match, tables.run(config_file, folder / "runs" / name, [*settings, *seed]))
            match.seconds = match.seconds or (round(time.monotonic() - started, 1), 0.0)
    except StoppedError as stopped:
        match.outcome = str(stopped)
        return match
    _add_trees(match, config_file, folder / "runs" / name, settings)
    return match


def _add(match: Match, summary: dict[str, Any]) -> None:
    """Add what a run reports."""
    if summary["error"]:
        match.outcome = summary["error"].splitlines()[0]
    facts = summary["facts"]
    if rows := facts.get("ExampleGen"):
        match.rows = sum(rows["rows"].values())
    if evaluated := facts.get("Evaluator"):
        overall = evaluated["metrics"]["overall"]
        match.losses.append(overall[watchable_metrics(match.kind)[0]])
        match.values.append(overall[default_bound(match.kind)])


def _add_trees(match: Match, config_file: Path, root: Path, settings: Sequence[str]) -> None:
    from benchmarks import boosted_trees

    config = pipeline_config.load(config_file, tuple(settings))
    rows = boosted_trees.rows_of(config, RunRoot(root))
    started = time.monotonic()
    catboost = boosted_trees.catboost(config, rows)
    if match.seconds is not None:
        match.seconds = (match.seconds[0], round(time.monotonic() - started, 1))
    trees = boosted_trees.hist_gradient_boosting(config, rows)
    match.catboost, match.trees = (catboost.loss, catboost.value), (trees.loss, trees.value)
    match.test_rows, match.columns = catboost.rows, len(config.features)


def _line(match: Match) -> str:
    if match.catboost is None or not match.losses:
        return match.outcome
    verdict = "better" if match.is_better else "not better"
    return f"loss {statistics.mean(match.losses):.5g} against {match.catboost[0]:.5g}: {verdict}"


def _print(matches: Sequence[Match]) -> None:
    table = Table(title="loss and metric on test", title_justify="left", box=None)
    for name in ("table", "kind"):
        table.add_column(name)
    for name in ("rows", "test", "columns", "loss", "std", "CatBoost", "ratio", "HistGB"):
        table.add_column(name, justify="right")
    for name in ("metric", "pipeline", "CatBoost", "HistGB", "than CatBoost"):
        table.add_column(name, justify="left" if name in ("metric", "than CatBoost") else "right")
    for match in matches:
        table.add_row(match.name, match.kind, f"{match.rows:,}", f"{match.test_rows:,}", *_cells(match))
    console = Console(width=160, highlight=False)
    console.print(table)
    better, good = (sum(getattr(match, name) for match in matches) for name in ("is_better", "is_as_good_as_trees"))
    console.print(f"better than CatBoost on {better} of {len(matches)}")
    console.print(f"as good as HistGradientBoosting, or better, on {good} of {len(matches)}")
    for match in matches:
        if match.outcome != "pushed":
            console.print(f"{match.name}: {match.outcome}", soft_wrap=True)
        if match.flags:
            console.print(f"{match.name}: init needed {' '.join(match.flags)}", soft_wrap=True)


def _cells(match: Match) -> list[str]:
    if match.catboost is None or match.trees is None or not match.losses:
        return []
    loss = statistics.mean(match.losses)
    return [
        str(match.columns),
        *(f"{loss:.5g}", f"{statistics.pstdev(match.losses):.2g}", f"{match.catboost[0]:.5g}"),
        *(f"{loss / match.catboost[0]:.3f}", f"{match.trees[0]:.5g}", default_bound(match.kind)),
        *(f"{statistics.mean(match.values):.4f}", f"{match.catboost[1]:.4f}", f"{match.trees[1]:.4f}"),
        "better" if match.is_better else "not better",
    ]


if __name__ == "__main__":
    main()
