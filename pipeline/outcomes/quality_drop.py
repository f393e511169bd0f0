"""Judges whether the live quality of a version is significantly below that of its evaluation, or misses a threshold.

The interval of the difference of live and offline values is that of two independent samples, from the intervals of
both. So chance excuses a difference on few rows.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cli.counts import format_count
from components.config import ChangeThreshold, Evaluation, Threshold
from pipeline.outcomes.live_metrics import LiveMetrics, LiveSettings, Window, find_activities, measure_outcomes
from schemas.bootstrap import Interval, find_change
from schemas.metrics import METRICS, list_metrics
from schemas.slices import OVERALL
from serving.outcomes.store import JoinSummary, read_summary

# Days of predictions that are judged: the newest, so that good weeks long ago do not hide a drop.
WINDOW_DAYS = 28


@dataclass(frozen=True)
class OfflineValue:
    """A value of a metric of a version's evaluation; an interval of None was not stored."""

    value: float
    interval: tuple[float, float] | None = None


# By slice and metric.
OfflineValues = Mapping[str, Mapping[str, OfflineValue]]


@dataclass(frozen=True)
class QualityDrop:
    """A metric whose live value is significantly too bad.

    Attributes:
      metric: Name of the metric.
      slice: Name of the slice.
      rows: Number of rows with a label.
      value: Live value.
      interval: Its 95 % interval.
      expected: Expected value, in words.
    """

    metric: str
    slice: str
    rows: int
    value: float
    interval: Interval
    expected: str

    def __str__(self) -> str:
        metric = METRICS[self.metric]
        where = "" if self.slice == OVERALL else f" on {self.slice}"
        ends = ", ".join(metric.format(end) for end in self.interval)
        rows = format_count(self.rows, "row")
        return f"live {metric.describe(self.value)} [{ends}]{where}, {rows}; expected {self.expected}"


def find_quality_drop(
    log: Path,
    version: int,
    settings: LiveSettings,
    offline: OfflineValues,
    *,
    days: int = WINDOW_DAYS,
    now: datetime.datetime | None = None,
) -> list[QualityDrop]:
    """Return the metrics of a version's newest labelled predictions that are significantly too bad.

    It judges the metrics that the config bounds, or else the main one, on all rows, and the thresholds of the config on
    their slices. A metric without an interval, such as that of a few rows, is not judged.

    Args:
      log: Folder of the request log; without joined labels there is no drop.
      version: Version of the model.
      settings: How live rows are measured.
      offline: Values of the version's evaluation.
      days: Number of days of predictions, counted back from the newest labelled one of the version.
      now: Time from which they are counted back at most; None for the current time.

    Raises:
      RequestLogError: The joined rows cannot be read.
    """
    summary = read_summary(log)
    if summary is None:
        return []
    since = None
    activity = find_activities(log, summary).get(version)
    if activity is not None:
        # A clock that jumped must not leave all other rows behind.
        end = min(activity.last, now or datetime.datetime.now(datetime.UTC))
        since = end - datetime.timedelta(days=days)
    slicings = tuple(dict.fromkeys(bound.slice_by for bound in settings.evaluation.thresholds if bound.slice_by))
    # Only the slices with a bound are measured.
    narrowed = replace(settings, evaluation=settings.evaluation.model_copy(update={"slice_by": slicings}))
    live, _ = measure_outcomes(log, summary, narrowed, Window(since=since, version=version))
    return find_drops([metrics for metrics in live if not metrics.group.week], offline, settings.evaluation, summary)


def find_drops(
    live: Sequence[LiveMetrics], offline: OfflineValues, evaluation: Evaluation, summary: JoinSummary
) -> list[QualityDrop]:
    """Return the drops of groups of one version, each a slice.

    Args:
      live: Metrics by slice.
      offline: Values of the version's evaluation.
      evaluation: Section of the config.
      summary: Summary of the join.
    """
    return [
        drop
        for metrics in live
        for drop in (*_judge_change(metrics, offline, evaluation, summary), *_judge_thresholds(metrics, evaluation))
    ]


def _judge_change(
    live: LiveMetrics, offline: OfflineValues, evaluation: Evaluation, summary: JoinSummary
) -> Iterator[QualityDrop]:
    """Yield the metrics on all rows that are significantly worse than those of the evaluation."""
    if live.group.slice != OVERALL:
        return
    for name in select_metrics(evaluation, summary):
        value, interval, expected = live.values.get(name), live.intervals.get(name), offline.get(OVERALL, {}).get(name)
        if value is None or interval is None or expected is None:
            continue
        change = compare(name, value, interval, expected)
        if change is None:
            continue
        margin = max((b.max_regression for b in evaluation.change_thresholds if b.metric == name), default=0.0)
        if (change.high < -margin) if METRICS[name].better == "higher" else (change.low > margin):
            metric = METRICS[name]
            text = f"about {metric.format(expected.value)}, as on {evaluation.split}"
            if expected.interval is not None:
                text += f" [{', '.join(metric.format(end) for end in expected.interval)}]"
            if margin:
                text += f", and at most {margin:g} worse"
            yield QualityDrop(name, OVERALL, live.rows, value, interval, text)


def _judge_thresholds(live: LiveMetrics, evaluation: Evaluation) -> Iterator[QualityDrop]:
    """Yield the thresholds of the config that a group misses with its whole interval."""
    for bound in evaluation.thresholds:
        value, interval = live.values.get(bound.metric), live.intervals.get(bound.metric)
        if value is None or interval is None or not _is_slice_of(live.group.slice, bound.slice_by):
            continue
        if bound.lower_bound is not None and interval.high < bound.lower_bound:
            expected = f"at least {bound.lower_bound:g}, a threshold of the config"
            yield QualityDrop(bound.metric, live.group.slice, live.rows, value, interval, expected)
        if bound.upper_bound is not None and interval.low > bound.upper_bound:
            expected = f"at most {bound.upper_bound:g}, a threshold of the config"
            yield QualityDrop(bound.metric, live.group.slice, live.rows, value, interval, expected)


def _is_slice_of(slice_name: str, columns: Sequence[str]) -> bool:
    """Return whether a slice is one of a slicing."""
    if not columns:
        return slice_name == OVERALL
    parts = slice_name.split(" x ")
    return len(parts) == len(columns) and all(
        part.startswith(f"{column}=") for part, column in zip(parts, columns, strict=True)
    )


def select_metrics(evaluation: Evaluation, summary: JoinSummary) -> list[str]:
    """Return the metrics that are compared with the evaluation: those with a bound, or else the main one."""
    bounds: tuple[Threshold | ChangeThreshold, ...] = (*evaluation.thresholds, *evaluation.change_thresholds)
    names = [
        name
        for name in dict.fromkeys(bound.metric for bound in bounds)
        if name in METRICS and METRICS[name].better is not None
    ]
    return names or [name for name in list_metrics(summary.kind) if METRICS[name].rank == 1]


def compare(metric: str, value: float, interval: Interval, offline: OfflineValue) -> Interval | None:
    """Return the interval of live - offline, two independent samples.

    An offline value without an interval is exact. None if it is a perfect or the worst share: its rows are alike, and
    the spread is not known.
    """
    if offline.interval is None and METRICS[metric].scale == "share" and offline.value in (0, 1):
        return None
    return find_change(offline.value, offline.interval or (offline.value, offline.value), value, interval)
