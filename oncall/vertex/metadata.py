"""Vertex ML Metadata of a pipeline's jobs: contexts, executions, artifacts and events, by the service's own client."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from oncall.graph import Artifact, Event, Execution, Outputs
from oncall.vertex.files import Bucket
from oncall.vertex.jobs import Jobs, job_ids_in
from pipeline.vertex.jobs import details_of
from serving.registry.vertex.connection import Vertex

T = TypeVar("T")

# What Vertex Pipelines keeps with each execution: the artifacts of `input:KEY` and `output:KEY`.
_BINDING = "vertex-ai-pipelines-artifact-argument-binding"
_TFX = "tfx."
_AT_ONCE = 8
_SECONDS = 60.0
_PAGE = 100
# QueryArtifactLineageSubgraph counts hops of the graph; its neighbours are enough here, more would do no harm.
_HOPS = 1


@dataclass(frozen=True)
class BucketArtifact(Artifact):
    """One whose files are in Cloud Storage."""

    bucket: Bucket | None = None

    @property
    def folder(self) -> Path:
        return self.bucket.copy(self.uri) if self.bucket else Path(self.uri)


class VertexMetadata:
    """What Vertex ML Metadata says. What was read once is not asked again: commands are short."""

    def __init__(self, vertex: Vertex, jobs: Jobs, bucket: Bucket) -> None:
        self._vertex, self._jobs, self._bucket = vertex, jobs, bucket
        self._store = f"{vertex.place.parent}/metadataStores/default"
        self._artifacts: dict[str, Artifact] = {}
        self._executions: dict[str, Execution] = {}
        self._events: dict[str, list[Event]] = {}
        self._users: dict[str, list[Event]] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._learned: set[str] = set()

    def _read(self, method: Callable[..., Any], request: Any) -> Any:
        return self._vertex.retried(lambda: self._vertex.call(method, request), seconds=_SECONDS)

    def _learn(self, run_id: str) -> bool:
        """Take over what a job says of its tasks; False where there is no such job."""
        job = self._jobs.get(run_id)
        if job is None:
            return False
        if run_id not in self._learned:
            self._learned.add(run_id)
            for task in details_of(job):
                if task.execution.name:
                    self._learn_task(run_id, task)
        return True

    def _learn_task(self, run_id: str, task: Any) -> None:
        execution = self._keep_execution(task.execution)
        self._places[execution.id] = (run_id, task.task_name)
        events = []
        for is_output, bound in ((False, task.inputs), (True, task.outputs)):
            for key, found in bound.items():
                kept = [self._keep_artifact(artifact) for artifact in found.artifacts]
                events += [Event(execution.id, artifact.id, is_output, key) for artifact in kept]
        self._events[execution.id] = events

    def _keep_artifact(self, found: Any) -> Artifact:
        artifact = BucketArtifact(
            id=_id(found.name),
            type=found.schema_title.removeprefix(_TFX),
            uri=found.uri,
            live=found.state == v1.Artifact.State.LIVE,
            properties=_plain(found.metadata),
            create_time_since_epoch=_milliseconds(found.create_time),
            bucket=self._bucket,
        )
        return self._artifacts.setdefault(artifact.id, artifact)

    def _keep_execution(self, found: Any) -> Execution:
        execution = Execution(
            id=_id(found.name),
            state=found.state.name,
            properties=_plain(found.metadata),
            create_time_since_epoch=_milliseconds(found.create_time),
            last_update_time_since_epoch=_milliseconds(found.update_time),
        )
        self._places.setdefault(execution.id, ("", found.display_name))
        return self._executions.setdefault(execution.id, execution)

    def executions(self, run_id: str) -> list[Execution]:
        """Of a job; where the job was deleted, those of its context."""
        if self._learn(run_id):
            known = [id_ for id_, (run, _) in self._places.items() if run == run_id]
            found = [self._executions[id_] for id_ in known]
        else:
            request = v1.ListExecutionsRequest(
                parent=self._store, filter=f'in_context("{self._store}/contexts/{run_id}")', page_size=_PAGE
            )
            listed = self._listed(self._vertex.metadata.list_executions, request)
            found = [self._keep_execution(execution) for execution in listed]
        return sorted(found, key=_age)

    def _listed(self, method: Callable[..., Any], request: Any) -> list[Any]:
        try:
            return self._vertex.listed(method, request)
        except exceptions.NotFound:
            return []

    def has_run(self, run_id: str) -> bool:
        """Whether there is a context of a run, though its job may be gone."""
        request = v1.GetContextRequest(name=f"{self._store}/contexts/{run_id}")
        try:
            found = self._read(self._vertex.metadata.get_context, request)
        except exceptions.NotFound:
            return False
        return bool(found.schema_title == "system.PipelineRun")

    def state(self, execution: Execution) -> str:
        return execution.state

    def is_live(self, artifact: Artifact) -> bool:
        return artifact.live

    def is_output(self, event: Event) -> bool:
        return event.is_output

    def is_input(self, event: Event) -> bool:
        return not event.is_output

    def place(self, execution_id: str) -> tuple[str, str]:
        """Return the run and the task of an execution; the run is empty where it only found what another had made.

        The service cannot be asked for an execution's contexts, but the path of an output names the job that made it;
        whether it did, the job itself says.
        """
        run, node = self._places.get(execution_id, ("", ""))
        if not run:
            made = [event.artifact_id for event in self.events_of_executions([execution_id]) if event.is_output]
            for artifact in self.artifacts(made).values():
                for job_id in job_ids_in(artifact.uri):
                    if self._learn(job_id) and self._places.get(execution_id, ("",))[0]:
                        return self._places[execution_id]
            run, node = self._places.get(execution_id, ("", ""))
        return run, node

    def newest(self, execution_ids: Iterable[str], limit: int) -> list[str]:
        found = self.executions_by_id(execution_ids)
        return [execution.id for execution in sorted(found.values(), key=_age, reverse=True)][:limit]

    def artifacts(self, ids: Iterable[str]) -> dict[str, Artifact]:
        def get(id_: str) -> Any:
            return self._found(
                self._vertex.metadata.get_artifact, v1.GetArtifactRequest(name=f"{self._store}/artifacts/{id_}")
            )

        wanted = sorted(set(ids))
        for found in _together(get, (id_ for id_ in wanted if id_ not in self._artifacts)):
            if found is not None:
                self._keep_artifact(found)
        return {id_: self._artifacts[id_] for id_ in wanted if id_ in self._artifacts}

    def executions_by_id(self, ids: Iterable[str]) -> dict[str, Execution]:
        def get(id_: str) -> Any:
            return self._found(
                self._vertex.metadata.get_execution, v1.GetExecutionRequest(name=f"{self._store}/executions/{id_}")
            )

        wanted = sorted(set(ids))
        for found in _together(get, (id_ for id_ in wanted if id_ not in self._executions)):
            if found is not None:
                self._keep_execution(found)
        return {id_: self._executions[id_] for id_ in wanted if id_ in self._executions}

    def _found(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return self._read(method, request)
        except (exceptions.NotFound, exceptions.InvalidArgument):
            return None

    def events_of_artifacts(self, ids: Iterable[str]) -> list[Event]:
        def query(id_: str) -> Any:
            request = v1.QueryArtifactLineageSubgraphRequest(artifact=f"{self._store}/artifacts/{id_}", max_hops=_HOPS)
            try:
                return self._found(self._vertex.metadata.query_artifact_lineage_subgraph, request)
            except PushError as error:
                # The service refuses a graph of more than 1000 executions, which one schema may have.
                raise PushError(f"artifact {id_}: its lineage cannot be read: {error}") from error

        wanted = sorted(set(ids))
        unknown = [id_ for id_ in wanted if id_ not in self._users]
        for id_, graph in zip(unknown, _together(query, unknown), strict=True):
            self._users[id_] = [event for event in self._keep(graph) if event.artifact_id == id_]
        return [event for id_ in wanted for event in self._users[id_]]

    def events_of_executions(self, ids: Iterable[str]) -> list[Event]:
        def query(id_: str) -> Any:
            request = v1.QueryExecutionInputsAndOutputsRequest(execution=f"{self._store}/executions/{id_}")
            return self._found(self._vertex.metadata.query_execution_inputs_and_outputs, request)

        wanted = sorted(set(ids))
        unknown = [id_ for id_ in wanted if id_ not in self._events]
        for id_, graph in zip(unknown, _together(query, unknown), strict=True):
            self._events[id_] = [event for event in self._keep(graph) if event.execution_id == id_]
        return [event for id_ in wanted for event in self._events[id_]]

    def _keep(self, graph: Any) -> list[Event]:
        """Return the events of a part of the lineage; its executions and artifacts are remembered."""
        if graph is None:
            return []
        keys = {_id(execution.name): _keys(execution) for execution in graph.executions}
        for execution in graph.executions:
            self._keep_execution(execution)
        names = {_id(artifact.name): artifact.display_name for artifact in graph.artifacts}
        for artifact in graph.artifacts:
            self._keep_artifact(artifact)
        found = []
        for event in graph.events:
            ends, is_output = (_id(event.execution), _id(event.artifact)), event.type_ == v1.Event.Type.OUTPUT
            bound = keys.get(ends[0], {}).get((is_output, ends[1]))
            # An artifact is called as the output that it came out of.
            key = bound or (names.get(ends[1], "") if is_output else "")
            found.append(Event(*ends, is_output, key))
        return found

    def artifacts_of_run(self, run_id: str) -> list[Artifact]:
        executions = [execution.id for execution in self.executions(run_id)]
        return list(self.artifacts(event.artifact_id for event in self.events_of_executions(executions)).values())

    def makers(self, artifact_ids: Iterable[str]) -> dict[str, Execution]:
        """Return the execution that really made each artifact: those that were reused from the cache point to it
        too.
        """
        events = [event for event in self.events_of_artifacts(artifact_ids) if event.is_output]
        executions = self.executions_by_id(event.execution_id for event in events)
        found: dict[str, Execution] = {}
        for execution in sorted(executions.values(), key=_age):
            for event in events:
                if event.execution_id == execution.id and execution.state == "COMPLETE":
                    found.setdefault(event.artifact_id, execution)
        return found

    def outputs(self, run_id: str) -> Outputs:
        """Return what each task of a job gave out; a resolver makes nothing, it finds."""
        found: dict[str, dict[str, list[Artifact]]] = {}
        executions = [e.id for e in self.executions(run_id) if e.state in ("COMPLETE", "CACHED")]
        for event in self.events_of_executions(executions):
            if event.is_output:
                outputs = found.setdefault(self.place(event.execution_id)[1], {})
                outputs.setdefault(event.key, []).append(self._artifacts[event.artifact_id])
        return found


def _together(ask: Callable[[str], T], ids: Iterable[str]) -> list[T]:
    """Return the answers for all ids, in order; several questions wait at once, each for its own network's time."""
    wanted = list(ids)
    if len(wanted) < 2:
        return [ask(id_) for id_ in wanted]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, wanted))


def _id(name: str) -> str:
    """Return the last part of a resource's name; the rest is written with the project's id or with its number."""
    return name.rpartition("/")[2]


def _keys(execution: Any) -> dict[tuple[bool, str], str]:
    """By which key an artifact, `(is an output, id)`, is bound to an execution."""
    bound = dict(execution.metadata or {}).get(_BINDING)
    found = {}
    for name, artifacts in dict(bound or {}).items():
        side, _, key = name.partition(":")
        for artifact in artifacts:
            found[side == "output", _id(str(artifact))] = key
    return found


def _plain(metadata: Any) -> Mapping[str, Any]:
    return {key: value for key, value in dict(metadata or {}).items() if isinstance(value, str | int | float | bool)}


def _milliseconds(time: Any) -> int:
    return round(time.timestamp() * 1000) if time else 0


def _age(execution: Execution) -> tuple[int, str]:
    return execution.create_time_since_epoch, execution.id
