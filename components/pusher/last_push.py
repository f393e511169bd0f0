"""The run that pushed a model last, for the gate, the pages and `gc`. Imports neither TFX nor TensorFlow.

A run pushed a model if its Pusher wrote a version. It did not if it ended before, failed, or found its model in the
registry already. What happened to the version afterwards does not matter: a rollback and the registry's `gc` change
which version serves, not which was pushed last.

ML Metadata puts into a run's context whatever its resolvers found, such as the model that an earlier run pushed. So a
run has what its own executions made or took from the cache.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import ml_metadata
from ml_metadata.proto import metadata_store_pb2 as mlmd

# TFX's own name.
PUSHED_PROPERTY = "pushed"
DESTINATION_PROPERTY = "pushed_destination"
_PUSHED_MODEL, _STATISTICS = "PushedModel", "ExampleStatistics"
_RUN_CONTEXT = "pipeline_run"
_RESOLVER = "tfx.dsl.components.common.resolver.Resolver"
_OUTPUTS = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT)


@dataclass(frozen=True)
class PushRecord:
    """Record of a push in ML Metadata.

    Attributes:
      id: ID of the artifact; later pushes have higher ones.
      wrote: whether this execution wrote the version.
      destination: the version's folder, or its resource name on Vertex AI.
    """

    id: int
    wrote: bool
    destination: str

    @property
    def model(self) -> str:
        """Name of the model: REGISTRY/NAME/VERSION, or projects/.../models/NAME@VERSION."""
        parent, at, _ = self.destination.rpartition("@")
        if not at or "/" in self.destination[len(parent) :]:
            parent = self.destination.rpartition("/")[0]
        return parent.rpartition("/")[2]


@dataclass(frozen=True)
class LastPush:
    """The last run that pushed a model.

    Attributes:
      run_id: ID of the run.
      pushed_model: Artifact that its Pusher wrote.
      statistics: Artifact that its StatisticsGen wrote; None if it is not kept.
    """

    run_id: str
    pushed_model: mlmd.Artifact
    statistics: mlmd.Artifact | None


def select_writers(pushes: Iterable[PushRecord]) -> list[PushRecord]:
    """Return the pushes that wrote a version, the newest first.

    A push that was killed after it wrote the version has no record: the first that found the version stands for it.
    """
    pushes_that_wrote, versions = [], set()
    for push in sorted(pushes, key=lambda push: push.id):
        if push.wrote or push.destination not in versions:
            pushes_that_wrote.append(push)
        versions.add(push.destination)
    return pushes_that_wrote[::-1]


def find_last_push(store: ml_metadata.MetadataStore, model_name: str, *, before: str | None = None) -> LastPush | None:
    """Return the last push of a model; None before the first.

    Args:
      store: ML Metadata of the run root.
      model_name: name of the model; another model's data says nothing about this one.
      before: ID of a run; only earlier runs count. If omitted, all runs count.
    """
    # Those that `gc` removed, too: without them, a run that found a version would seem to have written it.
    records = {artifact.id: artifact for artifact in _list_artifacts(store, _PUSHED_MODEL)}
    limit = store.get_context_by_type_and_name(_RUN_CONTEXT, before) if before is not None else None
    for push in select_writers(map(_read_push, records.values())):
        run = find_run(store, push.id) if push.model == model_name else None
        if run is not None and (limit is None or run.id < limit.id):
            statistics = [a for a in list_outputs(store, run) if a.type == _STATISTICS]
            return LastPush(run.name, records[push.id], statistics[-1] if statistics else None)
    return None


def find_run(store: ml_metadata.MetadataStore, artifact_id: int) -> mlmd.Context | None:
    """Return the run that made an artifact, whichever runs used it since."""
    makers = sorted(e.execution_id for e in store.get_events_by_artifact_ids([artifact_id]) if e.type in _OUTPUTS)
    contexts = store.get_contexts_by_execution(makers[0]) if makers else []
    return next((context for context in contexts if context.type == _RUN_CONTEXT), None)


def list_outputs(store: ml_metadata.MetadataStore, run: mlmd.Context) -> list[mlmd.Artifact]:
    """Return the artifacts that a run made or took from the cache and that are kept, the newest last."""
    own = [e.id for e in store.get_executions_by_context(run.id) if e.type != _RESOLVER]
    ids = {event.artifact_id for event in store.get_events_by_execution_ids(own) if event.type in _OUTPUTS}
    artifacts = store.get_artifacts_by_id(sorted(ids))
    return sorted((a for a in artifacts if a.state == mlmd.Artifact.LIVE), key=lambda artifact: artifact.id)


def _list_artifacts(store: ml_metadata.MetadataStore, name: str) -> list[mlmd.Artifact]:
    artifacts: list[mlmd.Artifact] = store.get_artifacts_by_type(name)
    return artifacts


def _read_push(artifact: mlmd.Artifact) -> PushRecord:
    properties = artifact.custom_properties
    return PushRecord(
        artifact.id,
        bool(properties[PUSHED_PROPERTY].int_value),
        properties[DESTINATION_PROPERTY].string_value,
    )
