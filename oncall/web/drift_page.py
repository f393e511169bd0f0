"""Drift and skew of each feature over the newest runs, as their gates counted them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.errors import PipelineError
from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from oncall.web.charts import Chart, ChartValue, Line, draw_chart
from oncall.web.feature_statistics import read_distances
from pipeline.run.records import RunState

MAX_RUNS = 15
MAX_FEATURES = 60


@dataclass(frozen=True)
class FeatureDrift:
    """The distances of one feature of one kind over the runs.

    Attributes:
      feature, kind: name of the feature, and what was compared.
      chart: distances with their threshold.
      last, threshold: last distance and its threshold.
    """

    feature: str
    kind: str
    chart: Chart
    last: float
    threshold: float

    @property
    def is_exceeded(self) -> bool:
        """Whether the last distance is above its threshold."""
        return self.last > self.threshold


@dataclass(frozen=True)
class Drift:
    """The features, those nearest to their threshold first; and the runs without distances, with the reason."""

    features: Sequence[FeatureDrift]
    hidden: int
    runs: Sequence[Run]
    problems: Mapping[str, str]


def read_drift(store: LocalRunStore) -> Drift:
    """Return the distances of the newest runs that have ended."""
    runs = [run for run in store.list_runs(MAX_RUNS).runs if run.state is not RunState.RUNNING]
    runs.reverse()
    distances: dict[tuple[str, str], dict[int, tuple[float, float]]] = {}
    problems: dict[str, str] = {}
    for place, run in enumerate(runs):
        try:
            compared = read_distances(store.metadata, run.run_id)
        except PipelineError as error:
            problems[run.run_id] = str(error)
            continue
        for distance in compared:
            shift = distance.shift
            of_feature = distances.setdefault((shift.feature, f"{distance.kind.lower()}, {distance.where}"), {})
            of_feature[place] = (shift.value, shift.threshold)
    labels = [time.strftime("%d %b %H:%M", time.localtime(r.record.started)) if r.record else r.run_id for r in runs]
    features = [
        view
        for (feature, kind), by_place in distances.items()
        if (view := _draw_feature(feature, kind, by_place, runs, labels)) is not None
    ]
    features.sort(key=lambda view: -view.last / (view.threshold or 1e-9))
    return Drift(features[:MAX_FEATURES], max(len(features) - MAX_FEATURES, 0), runs, problems)


def _draw_feature(
    feature: str, kind: str, by_place: Mapping[int, tuple[float, float]], runs: Sequence[Run], labels: Sequence[str]
) -> FeatureDrift | None:
    values, limits = [], []
    for place, run in enumerate(runs):
        value, limit = by_place.get(place, (None, None))
        title = f"{run.run_id}: {value:.4f}, at most {limit:g}" if value is not None else ""
        values.append(ChartValue(place, value, title, f"/runs/{run.run_id}#statistics"))
        limits.append(ChartValue(place, limit, f"at most {limit:g}" if limit is not None else ""))
    chart = draw_chart(feature, [Line("distance", values), Line("at most", limits, is_bound=True)], labels)
    last, threshold = by_place[max(by_place)]
    return FeatureDrift(feature, kind, chart, last, threshold) if chart is not None else None
