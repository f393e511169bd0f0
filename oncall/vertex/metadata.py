"""Vertex ML Metadata of a pipeline's jobs: contexts, executions, artifacts and events, read with Google's client."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from oncall.metadata import Artifact, Execution, LineageEvent, Outputs
from oncall.vertex.bucket import Bucket
from oncall.vertex.jobs import Jobs, parse_job_ids
from pipeline.vertex.jobs import sort_details
from serving.registry.vertex.connection import VertexClient

T = TypeVar("T")

# The property in which Vertex Pipelines keeps the artifacts of an execution by `input:KEY` and `output:KEY`.
_BINDING = "vertex-ai-pipelines-artifact-argument-binding"
_TFX = "tfx."
_MAX_REQUESTS_AT_ONCE = 8
_TIMEOUT_SECONDS = 60.0
_PAGE_SIZE = 100
# Hops of QueryArtifactLineageSubgraph: the neighbours of an artifact are enough.
_HOPS = 1


@dataclass(frozen=True)
class BucketArtifact(Artifact):
    """An artifact whose files are in Cloud Storage."""

    bucket: Bucket | None = None

    @property
    def folder(self) -> Path:
        """A copy of the files on this machine."""
        return self.bucket.copy(self.uri) if self.bucket else Path(self.uri)


class VertexMetadata:
    """Queries to Vertex ML Metadata, each cached for the life of the process."""

    def __init__(self, vertex: VertexClient, jobs: Jobs, bucket: Bucket) -> None:
        self._vertex, self._jobs, self._bucket = vertex, jobs, bucket
        self._store = f"{vertex.place.parent}/metadataStores/default"
        self._artifacts: dict[str, Artifact] = {}
        self._executions: dict[str, Execution] = {}
        self._events: dict[str, list[LineageEvent]] = {}
        self._users: dict[str, list[LineageEvent]] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._kept_jobs: set[str] = set()

    def _read(self, method: Callable[..., Any], request: Any) -> Any:
        return self._vertex.retry(lambda: self._vertex.call(method, request), seconds=_TIMEOUT_SECONDS)

    def _read_job(self, run_id: str) -> bool:
        """Keep the executions of a job's tasks; return False if there is no such job."""
        job = self._jobs.get(run_id)
        if job is None:
            return False
        if run_id not in self._kept_jobs:
            self._kept_jobs.add(run_id)
            for task in sort_details(job):
                if task.execution.name:
                    self._keep_task(run_id, task)
        return True

    def _keep_task(self, run_id: str, task: Any) -> None:
        execution = self._keep_execution(task.execution)
        self._places[execution.id] = (run_id, task.task_name)
        events = []
        for is_output, bound in ((False, task.inputs), (True, task.outputs)):
            for key, group in bound.items():
                artifacts = [self._keep_artifact(artifact) for artifact in group.artifacts]
                events += [LineageEvent(execution.id, artifact.id, is_output, key) for artifact in artifacts]
        self._events[execution.id] = events

    def _keep_artifact(self, proto: Any) -> Artifact:
        artifact = BucketArtifact(
            id=_get_id(proto.name),
            type=proto.schema_title.removeprefix(_TFX),
            uri=proto.uri,
            is_live=proto.state == v1.Artifact.State.LIVE,
            properties=_read_properties(proto.metadata),
            create_time_since_epoch=_to_milliseconds(proto.create_time),
            bucket=self._bucket,
        )
        return self._artifacts.setdefault(artifact.id, artifact)

    def _keep_execution(self, proto: Any) -> Execution:
        execution = Execution(
            id=_get_id(proto.name),
            state=proto.state.name,
            properties=_read_properties(proto.metadata),
            create_time_since_epoch=_to_milliseconds(proto.create_time),
            last_update_time_since_epoch=_to_milliseconds(proto.update_time),
        )
        self._places.setdefault(execution.id, ("", proto.display_name))
        return self._executions.setdefault(execution.id, execution)

    def get_run_executions(self, run_id: str) -> list[Execution]:
        """Return the executions of a job, or of its context if the job was deleted."""
        if self._read_job(run_id):
            executions = [self._executions[id_] for id_, (run, _) in self._places.items() if run == run_id]
        else:
            context = self._read_context(run_id)
            executions = self._list_executions(context.name) if context is not None else []
        return sorted(executions, key=_get_age)

    def _list_executions(self, context: str) -> list[Execution]:
        """Return the executions of a context, by its name as the service returned it: with the project's number."""
        in_context = f'in_context("{context}")'
        request = v1.ListExecutionsRequest(parent=self._store, filter=in_context, page_size=_PAGE_SIZE)
        protos = self._vertex.list_all(self._vertex.metadata.list_executions, request)
        return [self._keep_execution(proto) for proto in protos]

    def _read_context(self, run_id: str) -> Any:
        request = v1.GetContextRequest(name=f"{self._store}/contexts/{run_id}")
        return self._read_if_exists(self._vertex.metadata.get_context, request)

    def has_run(self, run_id: str) -> bool:
        """Return True if there is a context of a run; its job may have been deleted."""
        context = self._read_context(run_id)
        return bool(context is not None and context.schema_title == "system.PipelineRun")

    def get_run_and_node(self, execution_id: str) -> tuple[str, str]:
        """Return the run and the task of an execution; the run is empty if the execution made nothing itself.

        The API has no query for an execution's contexts. The path of an output names a job, and the job's tasks
        show whether it made the output.
        """
        run, node = self._places.get(execution_id, ("", ""))
        if not run:
            outputs = [event.artifact_id for event in self.get_execution_events([execution_id]) if event.is_output]
            for artifact in self.get_artifacts(outputs).values():
                for job_id in parse_job_ids(artifact.uri):
                    if self._read_job(job_id) and self._places.get(execution_id, ("",))[0]:
                        return self._places[execution_id]
            run, node = self._places.get(execution_id, ("", ""))
        return run, node

    def select_newest(self, execution_ids: Iterable[str], limit: int) -> list[str]:
        """Return the executions that were created last, the newest first."""
        executions = self.get_executions(execution_ids)
        return [execution.id for execution in sorted(executions.values(), key=_get_age, reverse=True)][:limit]

    def get_artifacts(self, ids: Iterable[str]) -> dict[str, Artifact]:
        """Return the artifacts that exist, by ID."""

        def get(id_: str) -> Any:
            request = v1.GetArtifactRequest(name=f"{self._store}/artifacts/{id_}")
            return self._read_if_exists(self._vertex.metadata.get_artifact, request)

        return _get_by_id(ids, self._artifacts, get, self._keep_artifact)

    def get_executions(self, ids: Iterable[str]) -> dict[str, Execution]:
        """Return the executions that exist, by ID."""

        def get(id_: str) -> Any:
            request = v1.GetExecutionRequest(name=f"{self._store}/executions/{id_}")
            return self._read_if_exists(self._vertex.metadata.get_execution, request)

        return _get_by_id(ids, self._executions, get, self._keep_execution)

    def _read_if_exists(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return self._read(method, request)
        except (exceptions.NotFound, exceptions.InvalidArgument):
            return None

    def get_artifact_events(self, ids: Iterable[str]) -> list[LineageEvent]:
        """Return the events of artifacts: who made and who used them."""

        def query(id_: str) -> Any:
            request = v1.QueryArtifactLineageSubgraphRequest(artifact=f"{self._store}/artifacts/{id_}", max_hops=_HOPS)
            try:
                return self._read_if_exists(self._vertex.metadata.query_artifact_lineage_subgraph, request)
            except PushError as error:
                # The service rejects a graph of more than 1000 executions, which one schema may have.
                raise PushError(f"artifact {id_}: its lineage cannot be read: {error}") from error

        ids = sorted(set(ids))
        unread = [id_ for id_ in ids if id_ not in self._users]
        for id_, graph in zip(unread, _map_in_threads(query, unread), strict=True):
            self._users[id_] = [event for event in self._keep_graph(graph) if event.artifact_id == id_]
        return [event for id_ in ids for event in self._users[id_]]

    def get_execution_events(self, ids: Iterable[str]) -> list[LineageEvent]:
        """Return the inputs and outputs of executions."""

        def query(id_: str) -> Any:
            request = v1.QueryExecutionInputsAndOutputsRequest(execution=f"{self._store}/executions/{id_}")
            return self._read_if_exists(self._vertex.metadata.query_execution_inputs_and_outputs, request)

        ids = sorted(set(ids))
        unread = [id_ for id_ in ids if id_ not in self._events]
        for id_, graph in zip(unread, _map_in_threads(query, unread), strict=True):
            self._events[id_] = [event for event in self._keep_graph(graph) if event.execution_id == id_]
        return [event for id_ in ids for event in self._events[id_]]

    def _keep_graph(self, graph: Any) -> list[LineageEvent]:
        """Return the events of a part of the lineage; its executions and artifacts are kept."""
        if graph is None:
            return []
        keys = {_get_id(execution.name): _read_keys(execution) for execution in graph.executions}
        for execution in graph.executions:
            self._keep_execution(execution)
        names = {_get_id(artifact.name): artifact.display_name for artifact in graph.artifacts}
        for artifact in graph.artifacts:
            self._keep_artifact(artifact)
        events = []
        for event in graph.events:
            ends, is_output = (_get_id(event.execution), _get_id(event.artifact)), event.type_ == v1.Event.Type.OUTPUT
            bound_key = keys.get(ends[0], {}).get((is_output, ends[1]))
            # The name of an artifact is the key of the output that made it.
            key = bound_key or (names.get(ends[1], "") if is_output else "")
            events.append(LineageEvent(*ends, is_output, key))
        return events

    def get_findings(self, run_id: str) -> dict[str, str]:
        """Return none: `check --alert` is for runs of this machine."""
        del run_id
        return {}

    def get_run_artifacts(self, run_id: str) -> list[Artifact]:
        """Return the artifacts that a job made, reused from the cache or read."""
        executions = [execution.id for execution in self.get_run_executions(run_id)]
        return list(self.get_artifacts(event.artifact_id for event in self.get_execution_events(executions)).values())

    def find_makers(self, artifact_ids: Iterable[str]) -> dict[str, Execution]:
        """Return the execution that made each artifact, not those that reused it from the cache."""
        events = [event for event in self.get_artifact_events(artifact_ids) if event.is_output]
        executions = self.get_executions(event.execution_id for event in events)
        makers: dict[str, Execution] = {}
        for execution in sorted(executions.values(), key=_get_age):
            for event in events:
                if event.execution_id == execution.id and execution.state == "COMPLETE":
                    makers.setdefault(event.artifact_id, execution)
        return makers

    def get_run_outputs(self, run_id: str) -> Outputs:
        """Return the outputs of each task of a job; a resolver's are of other jobs."""
        by_task: dict[str, dict[str, list[Artifact]]] = {}
        executions = [e.id for e in self.get_run_executions(run_id) if e.state in ("COMPLETE", "CACHED")]
        for event in self.get_execution_events(executions):
            if event.is_output:
                outputs = by_task.setdefault(self.get_run_and_node(event.execution_id)[1], {})
                outputs.setdefault(event.key, []).append(self._artifacts[event.artifact_id])
        return by_task


def _get_by_id(
    ids: Iterable[str], kept: Mapping[str, T], get: Callable[[str], Any], keep: Callable[[Any], object]
) -> dict[str, T]:
    """Return what exists, by ID; only what is not kept already is read."""
    ids = sorted(set(ids))
    for proto in _map_in_threads(get, (id_ for id_ in ids if id_ not in kept)):
        if proto is not None:
            keep(proto)
    return {id_: kept[id_] for id_ in ids if id_ in kept}


def _map_in_threads(read: Callable[[str], T], ids: Iterable[str]) -> list[T]:
    """Return the result for each ID, in order; several requests wait for the network at once."""
    ids = list(ids)
    if len(ids) < 2:
        return [read(id_) for id_ in ids]
    with ThreadPoolExecutor(_MAX_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(read, ids))


def _get_id(name: str) -> str:
    """Return the last part of a resource's name; the rest is written with the project's id or with its number."""
    return name.rpartition("/")[2]


def _read_keys(execution: Any) -> dict[tuple[bool, str], str]:
    """Return the key by `(is_output, artifact ID)` of an execution's artifacts."""
    bound = dict(execution.metadata or {}).get(_BINDING)
    keys = {}
    for name, artifacts in dict(bound or {}).items():
        side, _, key = name.partition(":")
        for artifact in artifacts:
            keys[side == "output", _get_id(str(artifact))] = key
    return keys


def _read_properties(metadata: Any) -> Mapping[str, Any]:
    return {key: value for key, value in dict(metadata or {}).items() if isinstance(value, str | int | float | bool)}


def _to_milliseconds(time: Any) -> int:
    return round(time.timestamp() * 1000) if time else 0


def _get_age(execution: Execution) -> tuple[int, str]:
    return execution.create_time_since_epoch, execution.id
