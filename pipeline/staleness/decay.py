"""The decay of a model's metrics over later spans, with intervals. Imports no TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from schemas.bootstrap import Ends, find_change
from schemas.metrics import EXAMPLE_COUNT, describe_metric


@dataclass(frozen=True)
class Measurement:
    """Metrics of the model on the rows of one span.

    Attributes:
      span: Number of the span.
      name: Span as its files are named.
      rows: Number of rows, or the sum of their weights.
      metrics: Metrics on all rows; None is undefined.
      intervals: Their 95 % intervals; a metric without one is left out.
    """

    span: int
    name: str
    rows: float
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Ends]


@dataclass(frozen=True)
class MetricChange:
    """Difference of a metric on a later span from that on the rows beside the training data.

    Attributes:
      value: Difference; None if one of both is undefined.
      interval: Its 95 % interval; None if one of both has none.
      is_worse: Whether it is significantly worse: the interval is on the worse side of 0.
    """

    value: float | None
    interval: Ends | None
    is_worse: bool


def compare_spans(first: Measurement, later: Measurement, metric: str) -> MetricChange:
    """Return the change of a metric between two spans, whose rows are different ones."""
    before, after = first.metrics.get(metric), later.metrics.get(metric)
    if before is None or after is None:
        return MetricChange(None, None, False)
    value = after - before
    if metric not in first.intervals or metric not in later.intervals:
        return MetricChange(value, None, False)
    low, high = find_change(before, first.intervals[metric], after, later.intervals[metric])
    better = describe_metric(metric).better
    is_worse = (better == "higher" and high < 0) or (better == "lower" and low > 0)
    return MetricChange(value, (low, high), is_worse)


def select_metrics(first: Measurement, names: Sequence[str]) -> list[str]:
    """Return the metrics to print: the named ones that were measured, or the main ones."""
    measured = [name for name in first.metrics if name != EXAMPLE_COUNT]
    chosen = [name for name in names if name in measured]
    return chosen or [name for name in measured if describe_metric(name).rank == 1] or measured


def build_decay_document(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return the measurements with their changes, as JSON has them."""
    first = measurements[0]
    return [
        {
            **asdict(measurement),
            "ahead": number,
            "changes": {
                name: asdict(compare_spans(first, measurement, name))
                for name in (measurement.metrics if number else ())
                if name != EXAMPLE_COUNT
            },
        }
        for number, measurement in enumerate(measurements)
    ]


def summarize_decay(measurements: Sequence[Measurement], metrics: Sequence[str]) -> list[str]:
    """Return a line for each metric: the first span on which it is significantly worse, or that there is none."""
    first, *later = measurements
    lines = []
    for name in metrics:
        title = describe_metric(name).title
        worse = [(ahead, m) for ahead, m in enumerate(later, 1) if compare_spans(first, m, name).is_worse]
        if worse:
            ahead, measurement = worse[0]
            lines.append(
                f"{title} is significantly worse from span {measurement.name} on, {ahead} after the training's"
                if len(worse) == len(later) - ahead + 1
                else f"{title} is significantly worse on {', '.join(m.name for _, m in worse)}"
            )
        else:
            lines.append(f"{title} is not significantly worse on any of the {len(later)} later spans")
    return lines
