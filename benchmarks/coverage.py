"""How often the intervals of metrics and of their differences have the true value: `python -m benchmarks.coverage`.

Simulated data sets have two features, of which one model knows both and another one the first. Their true metrics are
those on 4 million other rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from schemas.bootstrap import (
    compute_standard_error,
    find_difference,
    find_interval,
    replicate_metrics,
)
from schemas.features import LabelKind
from schemas.metric_counts import create_empty_counts
from schemas.metrics import METRICS
from schemas.moments import count_effective_rows

_POPULATION_ROWS = 4_000_000
_MODELS = ("candidate", "baseline")
METRICS_BY_LABEL: dict[LabelKind, tuple[str, ...]] = {
    "binary": ("auc", "log_loss", "accuracy"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse",),
}
# Lower and upper bound of the coverage in so many data sets, by the number of rows.
_DATASETS = 2_000
BOUNDS = {5_000: (0.93, 0.97), 200: (0.92, 0.98)}
# Standard deviation of whether one interval of 95 % has the true value.
_DEVIATION = math.sqrt(0.95 * 0.05)

Array = NDArray[Any]


@dataclass(frozen=True)
class SimulatedRows:
    """Simulated rows: labels, predictions of each model, and weights."""

    labels: Array
    predictions: dict[str, Array]
    weights: Array


@dataclass(frozen=True)
class Coverage:
    """Coverage of the intervals of a metric.

    Attributes:
      metric: Name of the metric; that of a difference ends with " difference".
      rows: Number of rows of a data set.
      is_weighted: Whether the rows have weights.
      share: Share of the data sets whose interval has the true value.
      datasets: Number of data sets.
    """

    metric: str
    rows: int
    is_weighted: bool
    share: float
    datasets: int

    @property
    def is_right(self) -> bool:
        """Whether the share is within its bounds; of fewer data sets they are wider by three standard errors."""
        low, high = BOUNDS[self.rows]
        margin = 3 * _DEVIATION * max(1 / math.sqrt(self.datasets) - 1 / math.sqrt(_DATASETS), 0)
        return low - margin <= self.share <= high + margin


def simulate(label: LabelKind, rows: int, random: np.random.Generator, *, is_weighted: bool) -> SimulatedRows:
    """Return random rows of a kind of label."""
    first, second = random.normal(size=(2, rows))
    # Rows that are hard to predict weigh more, and weights differ much.
    weights = random.gamma(1.0, 1.0, rows) * np.exp(-0.3 * first) if is_weighted else np.ones(rows)
    match label:
        case "binary":
            labels = (random.random(rows) < _sigmoid(1.2 * first + 0.6 * second - 1)).astype(np.int64)
            predictions = [_sigmoid(1.3 * first + 0.7 * second - 1), _sigmoid(first - 0.8)]
        case "multiclass":
            logits = np.stack([first, 1.5 * second, 0.3 - first], axis=1)
            labels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
            predictions = [_softmax(1.1 * logits), _softmax(logits * [1, 0, 1])]
        case "regression":
            labels = first + 0.5 * second + random.normal(size=rows) * np.exp(0.3 * first)
            predictions = [0.9 * first + 0.4 * second, first]
    return SimulatedRows(labels, dict(zip(_MODELS, predictions, strict=True)), weights)


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def _softmax(values: Array) -> Array:
    powers = np.exp(values)
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def measure_coverage(
    label: LabelKind, rows: int, datasets: int, *, is_weighted: bool, seed: int = 0
) -> Iterator[Coverage]:
    """Yield the coverage of the intervals of each metric, and of its difference between two models."""
    random = np.random.default_rng([seed, rows, is_weighted])
    true = _measure(label, simulate(label, _POPULATION_ROWS, np.random.default_rng(1), is_weighted=is_weighted))
    names = METRICS_BY_LABEL[label]
    hits = {name: [0, 0] for name in names}
    for number in range(datasets):
        data = simulate(label, rows, random, is_weighted=is_weighted)
        values = _measure(label, data)
        replicates = replicate_metrics(
            names,
            dict.fromkeys(_MODELS, create_empty_counts(label)),
            data.labels,
            data.predictions,
            data.weights,
            ids=np.arange(rows, dtype=np.uint64),
            seed=number,
        )
        size = count_effective_rows(data.weights)
        for name in names:
            value, other = (values[model][name] for model in _MODELS)
            own, others = (replicates.metrics[model][name] for model in _MODELS)
            interval = find_interval(METRICS[name], value, compute_standard_error(own, size), size)
            paired = find_difference(value - other, compute_standard_error(own - others, size), size)
            truth, difference = true["candidate"][name], true["candidate"][name] - true["baseline"][name]
            hits[name][0] += interval is not None and interval.low <= truth <= interval.high
            hits[name][1] += paired is not None and paired.low <= difference <= paired.high
    for name, (single, paired_hits) in hits.items():
        yield Coverage(name, rows, is_weighted, single / datasets, datasets)
        yield Coverage(f"{name} difference", rows, is_weighted, paired_hits / datasets, datasets)


def _measure(label: LabelKind, rows: SimulatedRows) -> dict[str, dict[str, float]]:
    values = {}
    for model, predictions in rows.predictions.items():
        counts = create_empty_counts(label)
        counts.add(rows.labels, predictions, rows.weights)
        values[model] = {name: METRICS[name].compute(counts) for name in METRICS_BY_LABEL[label]}
    return values


@click.command()
@click.option(
    "--datasets",
    type=click.IntRange(min=1),
    default=_DATASETS,
    show_default=True,
    help="Number of data sets of each size. The bounds of fewer are wider, as chance moves the share more.",
)
@click.option(
    "--rows",
    "sizes",
    type=click.Choice([*map(str, BOUNDS)]),
    multiple=True,
    default=[*map(str, BOUNDS)],
    help="Their rows.",
)
def main(datasets: int, sizes: tuple[str, ...]) -> None:
    """Print the share of simulated data sets whose 95 % interval has the true value."""
    table = Table(title=f"coverage of 95 % intervals, {datasets:,} data sets", title_justify="left", box=None)
    for column in ("metric", *(f"{int(rows):,} rows{kind}" for rows in sizes for kind in ("", ", weighted"))):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    is_right = True
    for label in METRICS_BY_LABEL:
        lines: dict[str, list[str]] = {}
        for rows in map(int, sizes):
            for is_weighted in (False, True):
                for coverage in measure_coverage(label, rows, datasets, is_weighted=is_weighted):
                    is_right &= coverage.is_right
                    mark = "" if coverage.is_right else " !"
                    lines.setdefault(coverage.metric, []).append(f"{coverage.share:.1%}{mark}")
        for name, shares in lines.items():
            table.add_row(f"{label} {name}", *shares)
    Console(width=120).print(table)
    if not is_right:
        raise SystemExit(
            f"a share is outside its bounds: 93 to 97 % for 5,000 rows, 92 to 98 % for 200, in {_DATASETS:,} data sets"
        )


if __name__ == "__main__":
    main()
