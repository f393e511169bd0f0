"""Statistics of each feature in every split, with the distances from the data of the model that was pushed last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.errors import DataError, PipelineError
from components.gate.comparison import ComparedShift, compare_all
from oncall.gate_inputs import GateInputs, read_gate_inputs
from oncall.local.metadata import LocalMetadata
from oncall.metadata import Artifact
from pipeline.run.statistics_files import read_statistics
from pipeline.stats.page import PUSHED, FeatureNotes, FeatureView, build_views
from schemas.data import EVAL_SPLIT, TRAIN_SPLIT

# The name of the input in components/gate/component.py.
_PUSHED_STATISTICS = "pushed_statistics"
# A table may have thousands of columns; those that moved most come first.
MAX_FEATURES = 150
_MAX_MOVED = 3


@dataclass(frozen=True)
class FeatureStatistics:
    """The statistics of a run's data.

    Attributes:
      rows: number of rows by split, with that of the model pushed last.
      features: features, those first that moved most in relation to their threshold.
      hidden: number of features that are not shown.
      pushed_run: run that counted the data of the model pushed last; empty if there was none, or it is not known.
      distances: summary of the distances, or why there are none.
    """

    rows: Mapping[str, int]
    features: Sequence[FeatureView]
    hidden: int
    pushed_run: str
    distances: str


def read_feature_statistics(
    metadata: LocalMetadata, run_id: str, config: Mapping[str, Any]
) -> FeatureStatistics | None:
    """Return the statistics of a run, compared as its gate compared them; None if StatisticsGen has not ended.

    Args:
      metadata: executions and artifacts of the runs.
      run_id: ID of the run.
      config: config of the run as it is on record; empty if it is not.

    Raises:
      DataError: they are missing.
    """
    artifacts = metadata.get_run_outputs(run_id).get("StatisticsGen", {}).get("statistics")
    if not artifacts:
        return None
    splits = read_statistics(artifacts[0].folder)
    splits = dict(sorted(splits.items(), key=lambda s: (s[0] != TRAIN_SPLIT, s[0] != EVAL_SPLIT, s[0])))
    comparisons: list[ComparedShift] = []
    pushed_run = ""
    try:
        gate = read_gate_inputs(metadata, run_id)
        pushed = gate.artifacts.get(_PUSHED_STATISTICS)
        before = read_statistics(pushed.folder).get(TRAIN_SPLIT) if pushed is not None else None
        comparisons = _compare(gate, splits, before)
        distances = _describe_distances(comparisons, gate)
        if pushed is not None and before is not None:
            splits[PUSHED] = before
            # Not the maker of the statistics: a failed run may have made what the run that pushed reused.
            model_name = str((config.get("push") or {}).get("model_name", ""))
            last = metadata.find_last_push(model_name, before=run_id)
            pushed_run = last.run_id if last is not None else ""
    except PipelineError as error:
        distances = f"no distances: {error}"
    views = sorted(
        build_views(splits, comparisons, FeatureNotes.read(config)), key=lambda view: (-view.distance, not view.flags)
    )
    rows = {split: int(statistics.num_examples) for split, statistics in splits.items()}
    hidden = max(len(views) - MAX_FEATURES, 0)
    return FeatureStatistics(rows, views[:MAX_FEATURES], hidden, pushed_run, distances)


def read_distances(metadata: LocalMetadata, run_id: str) -> list[ComparedShift]:
    """Return the distances that a run's gate compared; none if StatisticsGen has not ended.

    Raises:
      DataError: the run did not reach its gate, or files are missing.
    """
    artifacts = metadata.get_run_outputs(run_id).get("StatisticsGen", {}).get("statistics")
    if not artifacts:
        return []
    gate = read_gate_inputs(metadata, run_id)
    pushed = gate.artifacts.get(_PUSHED_STATISTICS)
    before = read_statistics(pushed.folder).get(TRAIN_SPLIT) if pushed is not None else None
    return _compare(gate, read_statistics(artifacts[0].folder), before)


def _compare(
    gate: GateInputs,
    splits: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    pushed: statistics_pb2.DatasetFeatureStatistics | None,
) -> list[ComparedShift]:
    if TRAIN_SPLIT not in splits:
        raise DataError(f"there are no statistics of {TRAIN_SPLIT}")
    lists = {split: _wrap(statistics) for split, statistics in splits.items()}
    before = _wrap(pushed) if pushed is not None else None
    return compare_all(lists, before, gate.load_schema(), gate.policy, [s for s in gate.compared_splits if s in splits])


def _wrap(statistics: statistics_pb2.DatasetFeatureStatistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics])


def _describe_distances(comparisons: Sequence[ComparedShift], gate: GateInputs) -> str:
    exceeded = sum(1 for comparison in comparisons if comparison.shift.exceeded)
    history = "" if _PUSHED_STATISTICS in gate.artifacts else "; nothing was pushed before, so there is no drift"
    if not comparisons:
        return f"no feature has a threshold for drift or skew{history}"
    return f"distances measured: {len(comparisons)}, above their threshold: {exceeded}{history}"


@dataclass(frozen=True)
class ComparedFeature:
    """One feature in the train split of two runs.

    Attributes:
      view: pictures and numbers.
      distance: half the sum of the differences of all shares, from 0 to 1; None if the values are masked.
      moved: the values whose shares moved most: (value, share before, share now).
    """

    view: FeatureView
    distance: float | None
    moved: Sequence[tuple[str, float, float]]


def compare_features(artifacts: Mapping[str, Artifact]) -> list[ComparedFeature]:
    """Return the features of two runs' train splits, those first that moved most.

    Args:
      artifacts: statistics of both runs by the name of the side.

    Raises:
      DataError: they are missing.
    """
    splits = {name: read_statistics(artifact.folder).get(TRAIN_SPLIT) for name, artifact in artifacts.items()}
    present = {name: statistics for name, statistics in splits.items() if statistics is not None}
    moved = [_measure_move(view) for view in build_views(present, [])]
    moved.sort(key=lambda feature: -(feature.distance or 0.0))
    return moved[:MAX_FEATURES]


def _measure_move(view: FeatureView) -> ComparedFeature:
    if len(view.sides) < 2 or not view.labels:
        return ComparedFeature(view, None, ())
    before, now = (side.shares for side in view.sides)
    changes = sorted(zip(view.labels, before, now, strict=True), key=lambda change: -abs(change[2] - change[1]))
    distance = sum(abs(new - old) for old, new in zip(before, now, strict=True)) / 2
    return ComparedFeature(view, distance, [change for change in changes[:_MAX_MOVED] if change[1] != change[2]])
