"""Each feature of a run's data in every split, and how far it is from the data of the model that was pushed last."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from cli.errors import DataError, PipelineError
from components.config import Validation
from components.gate.comparison import Compared, compare_all
from oncall.metadata import Metadata, key, properties
from pipeline.run.artifact_lookup import read_statistics
from pipeline.stats.page import PUSHED, FeatureView, features
from schemas.curated.schema_file import SCHEMA_FILE_NAME, load_schema
from schemas.data import EVAL_SPLIT, TRAIN_SPLIT

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

_GATE, _POLICY, _COMPARED_SPLITS = "Gate", "policy", "compared_splits"
# As components/gate/component.py calls what it is given.
_PUSHED_STATISTICS = "pushed_statistics"
# Of a table with thousands of columns; those that moved most come first.
MAX_FEATURES = 150


@dataclass(frozen=True)
class Statistics:
    """What is known of a run's data.

    Attributes:
      rows: by split, that of the model pushed last among them.
      features: those that moved most, in relation to their threshold, first.
      hidden: how many more there are.
      pushed_run: that counted the data of the model pushed last; empty if there was none, or it is not known.
      said: what the distances are, or why there are none.
    """

    rows: Mapping[str, int]
    features: Sequence[FeatureView]
    hidden: int
    pushed_run: str
    said: str


@dataclass(frozen=True)
class _Gate:
    """What the gate was given: artifacts by the names that it calls them, and its policy."""

    given: "Mapping[str, mlmd.Artifact]"
    policy: Validation
    compared_splits: Sequence[str]


def statistics(metadata: Metadata, run_id: str) -> Statistics | None:
    """Return the statistics of a run, compared as its gate compared them; None if StatisticsGen has not ended.

    Raises:
      DataError: they are gone.
    """
    made = metadata.outputs(run_id).get("StatisticsGen", {}).get("statistics")
    if not made:
        return None
    splits = read_statistics(Path(made[0].uri))
    splits = dict(sorted(splits.items(), key=lambda s: (s[0] != TRAIN_SPLIT, s[0] != EVAL_SPLIT, s[0])))
    compared: list[Compared] = []
    pushed_run = ""
    try:
        gate = _gate(metadata, run_id)
        pushed = gate.given.get(_PUSHED_STATISTICS)
        before = read_statistics(Path(pushed.uri)).get(TRAIN_SPLIT) if pushed is not None else None
        compared = _compared(gate, splits, before)
        said = _said(compared, gate)
        if pushed is not None and before is not None:
            splits[PUSHED] = before
            pushed_run = _run_of(metadata, pushed.id)
    except PipelineError as error:
        said = f"no distances: {error}"
    views = sorted(features(splits, compared), key=lambda view: (-view.distance, not view.flags))
    rows = {split: int(found.num_examples) for split, found in splits.items()}
    return Statistics(rows, views[:MAX_FEATURES], max(len(views) - MAX_FEATURES, 0), pushed_run, said)


def _gate(metadata: Metadata, run_id: str) -> _Gate:
    """Raise DataError: the run did not come to its gate, or its policy is none of this checkout's."""
    reached = [e for e in metadata.executions(run_id) if metadata.place(e.id)[1] == _GATE]
    if not reached:
        raise DataError("the gate was not reached")
    known = properties(reached[-1])
    try:
        policy = Validation.model_validate_json(str(known.get(_POLICY, "{}")))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise DataError(f"the gate's policy is none of this checkout's ({problem})") from error
    inputs = {key(e): e.artifact_id for e in metadata.events_of_executions([reached[-1].id]) if metadata.is_input(e)}
    artifacts = metadata.artifacts(inputs.values())
    given = {name: artifacts[id_] for name, id_ in inputs.items() if id_ in artifacts}
    splits = [split for split in str(known.get(_COMPARED_SPLITS, "")).split(",") if split]
    return _Gate(given, policy, splits)


def _compared(
    gate: _Gate,
    splits: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    pushed: statistics_pb2.DatasetFeatureStatistics | None,
) -> list[Compared]:
    if TRAIN_SPLIT not in splits:
        raise DataError(f"there are no statistics of {TRAIN_SPLIT}")
    schema = schema_pb2.Schema()
    if "schema" in gate.given:
        schema = load_schema(str(Path(gate.given["schema"].uri) / SCHEMA_FILE_NAME))
    lists = {split: _list(found) for split, found in splits.items()}
    before = _list(pushed) if pushed is not None else None
    return compare_all(lists, before, schema, gate.policy, [s for s in gate.compared_splits if s in splits])


def _list(found: statistics_pb2.DatasetFeatureStatistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[found])


def _run_of(metadata: Metadata, artifact_id: Any) -> str:
    maker = metadata.makers([artifact_id]).get(artifact_id)
    return metadata.place(maker.id)[0] if maker is not None else ""


def _said(compared: Sequence[Compared], gate: _Gate) -> str:
    exceeded = sum(1 for one in compared if one.shift.exceeded)
    history = "" if _PUSHED_STATISTICS in gate.given else "; nothing was pushed before, so there is no drift"
    if not compared:
        return f"no feature has a threshold for drift or skew{history}"
    return f"distances measured: {len(compared)}, above their threshold: {exceeded}{history}"
