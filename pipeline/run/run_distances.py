"""The distances of a run's data, as its gate measures them. Imports no TensorFlow."""

from collections.abc import Mapping
from pathlib import Path

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.gate.comparison import ComparedShift, compare_all
from components.pusher.last_push import LastPush
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.artifact_lookup import RunArtifacts
from pipeline.run.statistics_files import read_statistics
from schemas.curated.schema_file import SCHEMA_FILE_NAME, load_schema
from schemas.data import TRAIN_SPLIT


def compare_run(
    config: PipelineConfig,
    artifacts: RunArtifacts,
    splits: Mapping[str, statistics_pb2.DatasetFeatureStatistics],
    pushed: statistics_pb2.DatasetFeatureStatistics | None,
) -> list[ComparedShift]:
    """Return what the gate compares, whether or not the run came through it.

    Args:
      config: Config with the thresholds.
      artifacts: Artifacts of the run, with its schema.
      splits: Statistics of the run by split.
      pushed: Statistics of `train` of the run that pushed last; None if there is none.
    """
    lists = {s: statistics_pb2.DatasetFeatureStatisticsList(datasets=[f]) for s, f in splits.items()}
    before = statistics_pb2.DatasetFeatureStatisticsList(datasets=[pushed]) if pushed is not None else None
    independent = [split for split in config.data.independent_splits if split in splits]
    return compare_all(lists, before, _read_schema(artifacts), config.gate_policy, independent)


def find_pushed_train(push: LastPush | None) -> statistics_pb2.DatasetFeatureStatistics | None:
    """Return the statistics of the train split of a push; None if they were removed since."""
    if push is None or push.statistics is None:
        return None
    return read_statistics(Path(push.statistics.uri))[TRAIN_SPLIT]


def _read_schema(artifacts: RunArtifacts) -> schema_pb2.Schema:
    if "Schema" not in artifacts.by_type:
        return schema_pb2.Schema()
    return load_schema(str(Path(artifacts.by_type["Schema"].uri) / SCHEMA_FILE_NAME))
