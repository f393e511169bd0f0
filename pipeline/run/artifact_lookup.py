"""Finds what a run left in ML Metadata. Imports neither TFX nor TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

import ml_metadata
from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.errors import ConfigError, DataError
from components.pusher.last_push import LastPush, last_push, outputs
from pipeline.run.run_root import RunRoot

LATEST = "latest"


@dataclass(frozen=True)
class RunArtifacts:
    """What one run made, or took from the cache.

    Attributes:
      run_id: names the run.
      by_type: the newest artifact of each type, by TFX's name of the type.
    """

    run_id: str
    by_type: dict[str, mlmd.Artifact]

    def statistics(self) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
        """TFDV's statistics by split.

        Raises:
          DataError: the run ended before there were any, or their files are gone.
        """
        if "ExampleStatistics" not in self.by_type:
            raise DataError(f"run {self.run_id}: ended before StatisticsGen; it has no statistics")
        artifact = self.by_type["ExampleStatistics"]
        return read_statistics(Path(artifact.uri))


def read_statistics(folder: Path) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """Read an artifact of StatisticsGen, by split.

    Raises:
      DataError: its files are gone or damaged.
    """
    found = {}
    for file in sorted(folder.glob("Split-*/FeatureStats.pb")):
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        try:
            statistics.ParseFromString(file.read_bytes())
        except (DecodeError, OSError) as error:
            raise DataError(f"{file}: cannot be read as statistics: {error}") from error
        if not statistics.datasets:
            raise DataError(f"{file}: holds no statistics")
        found[file.parent.name.removeprefix("Split-")] = statistics.datasets[0]
    if not found:
        raise DataError(f"{folder}: holds no statistics; were they deleted?")
    return found


def runs(root: RunRoot) -> list[str]:
    """All run ids, the newest first."""
    return [context.name for context in _runs(_store(root))]


def find(root: RunRoot, run: str = LATEST) -> RunArtifacts:
    """Return the artifacts of a run.

    Args:
      root: where to look.
      run: a run id, the first characters of one, or `latest`.

    Raises:
      ConfigError: there is no such run, or more than one.
    """
    store = _store(root)
    contexts = _runs(store)
    if run != LATEST:
        contexts = [context for context in contexts if context.name.startswith(run)]
    if not contexts:
        known = ", ".join(context.name for context in _runs(store)[:5]) or "none"
        raise ConfigError(f"{root.path}: has no run '{run}'; the newest are: {known}")
    if run != LATEST and len(contexts) > 1 and contexts[0].name != run:
        raise ConfigError(
            f"{root.path}: '{run}' fits {', '.join(context.name for context in contexts[:5])} and is ambiguous"
        )
    return RunArtifacts(contexts[0].name, {artifact.type: artifact for artifact in outputs(store, contexts[0])})


def latest_pushed(root: RunRoot, model_name: str, *, before: str) -> LastPush | None:
    """Return the last push of a model by a run before `before`, as the gate finds it; None if there is none."""
    return last_push(_store(root), model_name, before=before)


def _store(root: RunRoot) -> ml_metadata.MetadataStore:
    database = root.database
    if not database.is_there:
        raise ConfigError(f"{root.path}: holds no runs; name the folder of the runs with --run-root")
    database.check()
    store: ml_metadata.MetadataStore = database.store(writable=False)
    return store


def _runs(store: ml_metadata.MetadataStore) -> list[mlmd.Context]:
    # A run id starts with its time.
    return sorted(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.name, reverse=True)
