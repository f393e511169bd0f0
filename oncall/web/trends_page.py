"""Metrics over the newest runs, with their thresholds, and with pushes, promotions and rollbacks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.errors import DataError, PipelineError
from oncall.evaluations import MetricValue, read_metrics_by_slice
from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from oncall.web.charts import Chart, ChartValue, Line, Mark, draw_chart
from oncall.web.home_page import read_events
from oncall.web.options import PageOptions
from oncall.web.registry_time import parse_registry_time
from oncall.web.thresholds import list_bounds
from schemas.metrics import EXAMPLE_COUNT, METRICS, find_metric
from serving.registry import Event

MAX_RUNS = 40
# Runs that failed early have no metrics; so many are read at most.
_MAX_READ_RUNS = 120
_ARROWS = {"promote": "↑", "rollback": "↩"}


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of one run.

    Attributes:
      run: run, with its record.
      slices: metrics by slice.
      evaluation: ID of the evaluation's artifact.
      is_reused: whether the evaluation is an earlier run's, from the cache.
      version: version that the run pushed; None if it pushed none.
    """

    run: Run
    slices: Mapping[str, Mapping[str, MetricValue]]
    evaluation: Any
    is_reused: bool = False
    version: int | None = None


@dataclass(frozen=True)
class Trends:
    """The charts of a slice.

    Attributes:
      slice: name of the slice.
      slices: names of all slices.
      charts: one chart for each metric, those that stand for the model first.
      runs: runs with metrics, the newest first.
      names: names of the metrics.
      problem: why pushes and rollbacks are not marked.
    """

    slice: str
    slices: Sequence[str]
    charts: Sequence[Chart]
    runs: Sequence[RunMetrics]
    names: Sequence[str]
    problem: str


def read_trends(store: LocalRunStore, options: PageOptions, slice_name: str) -> Trends:
    """Return the metrics of a slice over the newest runs."""
    events: Sequence[Event] = ()
    problem = ""
    try:
        events = read_events(store, options)
    except PipelineError as error:
        problem = f"pushes and rollbacks are not marked: {error}"
    versions = {event.run_id: event.version for event in events if event.action == "push"}
    runs = list(reversed(list(_read_runs(store, versions))))
    names = sorted({n for run in runs for n in run.slices.get(slice_name, {}) if n != EXAMPLE_COUNT}, key=_get_rank)
    marks = _build_marks(runs, events)
    charts = [_draw_metric(name, slice_name, runs, marks) for name in names]
    return Trends(
        slice_name,
        list(dict.fromkeys(name for run in reversed(runs) for name in run.slices)),
        [chart for chart in charts if chart is not None],
        list(reversed(runs)),
        names,
        problem,
    )


def _get_rank(metric: str) -> tuple[int, int]:
    order = list(METRICS)
    return find_metric(metric).rank, order.index(metric) if metric in order else len(order)


def _read_runs(store: LocalRunStore, versions: Mapping[str, int]) -> Iterator[RunMetrics]:
    """Yield the newest runs that have metrics, the newest first."""
    count = 0
    for run in store.list_runs(_MAX_READ_RUNS).runs:
        outputs = store.metadata.get_run_outputs(run.run_id)
        try:
            slices = read_metrics_by_slice(outputs)
        except DataError:
            # Their files were removed; the run's page has the reason.
            continue
        if not slices:
            continue
        evaluation = next((a.id for group in outputs["Evaluator"].values() for a in group), None)
        node = run.record.nodes.get("Evaluator") if run.record is not None else None
        is_reused = node is not None and node.state == "cached"
        yield RunMetrics(run, slices, evaluation, is_reused, versions.get(run.run_id))
        count += 1
        if count == MAX_RUNS:
            return


def _build_marks(runs: Sequence[RunMetrics], events: Sequence[Event]) -> list[Mark]:
    """Return the marks of pushes at their runs, and of other changes of the serving version between two runs."""
    places = {run.run.run_id: place for place, run in enumerate(runs)}
    starts = [run.run.record.started for run in runs if run.run.record is not None]
    marks = []
    for event in events:
        title = f"{event.action} of version {event.version} by {event.by}{f': {event.reason}' if event.reason else ''}"
        if event.action == "push" and event.run_id in places:
            marks.append(Mark(places[event.run_id], "push", f"v{event.version}", title))
        at = parse_registry_time(event.at)
        if event.action in _ARROWS and at is not None and starts and at >= starts[0]:
            after = sum(1 for start in starts if start <= at) - 1
            place = min(after + 0.5, len(runs) - 1) if len(runs) > 1 else 0.0
            marks.append(Mark(place, event.action, f"{_ARROWS[event.action]} v{event.version}", title))
    return marks


def _draw_metric(name: str, slice_name: str, runs: Sequence[RunMetrics], marks: Sequence[Mark]) -> Chart | None:
    values, bounds = [], {"at least": [], "at most": []}  # type: ignore[var-annotated]
    for place, run in enumerate(runs):
        metric = run.slices.get(slice_name, {}).get(name)
        value = metric.value if metric is not None else None
        low, high = metric.interval or (None, None) if metric is not None else (None, None)
        version = f", pushed as version {run.version}" if run.version is not None else ""
        reused = ", reused from the cache" if run.is_reused else ""
        title = f"{run.run.run_id}: {find_metric(name).describe(value)}{version}{reused}"
        values.append(ChartValue(place, value, title, f"/runs/{run.run.run_id}", low, high, run.is_reused))
        config = run.run.record.config if run.run.record is not None else {}
        of_metric = [b for b in list_bounds(config, {slice_name: run.slices.get(slice_name, {})}) if b.metric == name]
        for side, is_lower in (("at least", True), ("at most", False)):
            limits = [bound.bound for bound in of_metric if bound.is_lower is is_lower]
            # The strictest of several.
            limit = (max if is_lower else min)(limits) if limits else None
            bounds[side].append(ChartValue(place, limit, f"{side} {limit:.4g}" if limit is not None else ""))
    lines = [Line(name, values), *(Line(side, limits, is_bound=True) for side, limits in bounds.items())]
    labels = [_format_day(run.run) for run in runs]
    return draw_chart(find_metric(name).title, lines, labels, marks)


def _format_day(run: Run) -> str:
    if run.record is None:
        return run.run_id[:8]
    return time.strftime("%d %b %H:%M", time.localtime(run.record.started))
