"""Look-up of a run's artifacts in ML Metadata. Imports neither TFX nor TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

import ml_metadata
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.errors import ConfigError, DataError
from components.pusher.last_push import LastPush, find_last_push, list_outputs
from pipeline.run.run_root import RunRoot
from pipeline.run.statistics_files import read_statistics

LATEST = "latest"


@dataclass(frozen=True)
class RunArtifacts:
    """The artifacts that a run made or reused.

    Attributes:
      run_id: ID of the run.
      by_type: Newest artifact of each type, by TFX's name of the type.
    """

    run_id: str
    by_type: dict[str, mlmd.Artifact]

    def read_statistics(self) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
        """Return TFDV's statistics by split.

        Raises:
          DataError: the run ended before there were any, or their files are gone.
        """
        if "ExampleStatistics" not in self.by_type:
            raise DataError(f"run {self.run_id}: ended before StatisticsGen; it has no statistics")
        artifact = self.by_type["ExampleStatistics"]
        return read_statistics(Path(artifact.uri))


def list_runs(root: RunRoot) -> list[str]:
    """Return the IDs of all runs, the newest first."""
    return [context.name for context in _list_contexts(_open_store(root))]


def find_run(root: RunRoot, run: str = LATEST) -> RunArtifacts:
    """Return the artifacts of a run.

    Args:
      root: Run root of the run.
      run: ID of the run, its first characters, or `latest`.

    Raises:
      ConfigError: there is no such run, or more than one.
    """
    store = _open_store(root)
    contexts = _list_contexts(store)
    if run != LATEST:
        contexts = [context for context in contexts if context.name.startswith(run)]
    if not contexts:
        newest = ", ".join(context.name for context in _list_contexts(store)[:5]) or "none"
        raise ConfigError(f"{root.path}: has no run '{run}'; the newest are: {newest}")
    if run != LATEST and len(contexts) > 1 and contexts[0].name != run:
        raise ConfigError(
            f"{root.path}: '{run}' fits {', '.join(context.name for context in contexts[:5])} and is ambiguous"
        )
    return RunArtifacts(contexts[0].name, {artifact.type: artifact for artifact in list_outputs(store, contexts[0])})


def find_latest_push(root: RunRoot, model_name: str, *, before: str) -> LastPush | None:
    """Return the last push of a model by a run before `before`, as the gate finds it; None if there is none."""
    return find_last_push(_open_store(root), model_name, before=before)


def _open_store(root: RunRoot) -> ml_metadata.MetadataStore:
    database = root.database
    if not database.exists:
        raise ConfigError(f"{root.path}: holds no runs; name the folder of the runs with --run-root")
    database.check()
    store: ml_metadata.MetadataStore = database.open_store(writable=False)
    return store


def _list_contexts(store: ml_metadata.MetadataStore) -> list[mlmd.Context]:
    # By their IDs: the name of a run starts with its time, and a clock may be wrong.
    return sorted(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id, reverse=True)
