"""ML Metadata of one run root, opened read-only; every query is by IDs, so that a large database is read fast."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from cli.errors import RunRootError, get_first_line
from oncall.metadata import Artifact, Execution, Id, LineageEvent, Outputs
from pipeline.database.database import Database

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    from components.pusher.last_push import LastPush

_MAX_IDS_PER_QUERY = 500
# Custom properties of a run's context: the latest finding of a check.
_FINDING_PREFIX = "finding: "


class LocalMetadata:
    """The runs, executions, artifacts and events of one database."""

    def __init__(self, database: Database, *, writable: bool = False) -> None:
        """Open a database.

        Args:
          database: database of the run root.
          writable: whether it may be changed; artifacts only by the holder of the run root's lock.

        Raises:
          RunRootError: it cannot be read.
        """
        # First: ML Metadata creates its tables if there are none, and names no cause if it cannot.
        database.check()
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        self._database, self._proto = database, mlmd
        self._store = self._call(database.open_store, writable=writable)

    def _call(self, method: Any, *arguments: Any, **options: Any) -> Any:
        from ml_metadata import errors

        try:
            return method(*arguments, **options)
        except (errors.StatusError, RuntimeError) as error:
            # ML Metadata raises the same for a lock and for damage; the check names the cause.
            self._database.check()
            raise RunRootError(f"{self._database.label}: {self._database.no_cause}: {get_first_line(error)}") from error

    def _call_with_ids(self, method: Any, ids: Iterable[Id]) -> Iterator[Any]:
        rest = iter(sorted(set(ids)))
        while chunk := list(islice(rest, _MAX_IDS_PER_QUERY)):
            yield from self._call(method, chunk)

    def get_run_contexts(self) -> "list[mlmd.Context]":
        """Return the context of each run, the newest first."""
        contexts = self._call(self._store.get_contexts_by_type, "pipeline_run")
        return sorted(contexts, key=lambda context: context.id, reverse=True)

    def _get_run_context(self, run_id: str) -> "mlmd.Context | None":
        return self._call(self._store.get_context_by_type_and_name, "pipeline_run", run_id)

    def get_findings(self, run_id: str) -> dict[str, str]:
        """Return the latest findings about the version that a run trained, by the name of the check."""
        context = self._get_run_context(run_id)
        properties = _read_properties(context) if context is not None else {}
        prefix = _FINDING_PREFIX
        return {name.removeprefix(prefix): text for name, text in properties.items() if name.startswith(prefix)}

    def set_finding(self, run_id: str, name: str, text: str) -> None:
        """Set the finding of a check, on the context of a run's executions, if ML Metadata has the run."""
        context = self._get_run_context(run_id)
        if context is not None:
            context.custom_properties[f"{_FINDING_PREFIX}{name}"].string_value = text
            self._call(self._store.put_contexts, [context])

    def get_run_executions(self, run_id: str) -> list[Execution]:
        """Return the executions of a run, in order; none if ML Metadata has no such run."""
        context = self._get_run_context(run_id)
        if context is None:
            return []
        executions = self._call(self._store.get_executions_by_context, context.id)
        return sorted(map(self._convert_execution, executions), key=lambda execution: execution.id)

    def _convert_artifact(self, proto: "mlmd.Artifact") -> Artifact:
        is_live = proto.state == self._proto.Artifact.LIVE
        properties = _read_properties(proto)
        return Artifact(proto.id, proto.type, proto.uri, is_live, properties, proto.create_time_since_epoch)

    def _convert_execution(self, proto: "mlmd.Execution") -> Execution:
        state = self._proto.Execution.State.Name(proto.last_known_state)
        times = proto.create_time_since_epoch, proto.last_update_time_since_epoch
        return Execution(proto.id, state, _read_properties(proto), *times)

    def _convert_events(self, protos: "Iterable[mlmd.LineageEvent]") -> list[LineageEvent]:
        """Return the inputs and outputs; events have other kinds, too."""
        kinds = {self._proto.Event.OUTPUT: True, self._proto.Event.INPUT: False}
        return [
            LineageEvent(proto.execution_id, proto.artifact_id, kinds[proto.type], key)
            for proto in protos
            if proto.type in kinds
            for key in _read_keys(proto)
        ]

    def get_run_and_node(self, execution_id: Id) -> tuple[str, str]:
        """Return the run and the node of an execution."""
        contexts = self._call(self._store.get_contexts_by_execution, execution_id)
        names = {context.type: context.name for context in contexts}
        return names.get("pipeline_run", ""), names.get("node", "").rpartition(".")[2]

    def select_newest(self, execution_ids: Iterable[Id], limit: int) -> list[Id]:
        """Return the executions that were created last, the newest first."""
        return sorted(execution_ids, reverse=True)[:limit]

    def get_artifacts(self, ids: Iterable[Id]) -> dict[Id, Artifact]:
        """Return the artifacts that exist, by ID."""
        protos = self._call_with_ids(self._store.get_artifacts_by_id, ids)
        return {proto.id: self._convert_artifact(proto) for proto in protos}

    def get_executions(self, ids: Iterable[Id]) -> dict[Id, Execution]:
        """Return the executions that exist, by ID."""
        protos = self._call_with_ids(self._store.get_executions_by_id, ids)
        return {proto.id: self._convert_execution(proto) for proto in protos}

    def get_artifact_events(self, ids: Iterable[Id]) -> list[LineageEvent]:
        """Return the events of artifacts: who made and who used them."""
        return self._convert_events(self._call_with_ids(self._store.get_events_by_artifact_ids, ids))

    def get_execution_events(self, ids: Iterable[Id]) -> list[LineageEvent]:
        """Return the inputs and outputs of executions."""
        return self._convert_events(self._call_with_ids(self._store.get_events_by_execution_ids, ids))

    def get_all_artifacts(self) -> list[Artifact]:
        """Return the artifacts of all runs."""
        return [self._convert_artifact(proto) for proto in self._call(self._store.get_artifacts)]

    def get_run_artifacts(self, run_id: str) -> list[Artifact]:
        """Return the artifacts that a run made, reused from the cache or read."""
        context = self._get_run_context(run_id)
        protos = self._call(self._store.get_artifacts_by_context, context.id) if context else []
        return [self._convert_artifact(proto) for proto in protos]

    def get_artifacts_by_type(self, name: str) -> list[Artifact]:
        """Return the artifacts of a type, in order."""
        protos = self._call(self._store.get_artifacts_by_type, name)
        return sorted(map(self._convert_artifact, protos), key=lambda artifact: artifact.id)

    def find_makers(self, artifact_ids: Iterable[Id]) -> dict[Id, Execution]:
        """Return the execution that made each artifact, not those that reused it from the cache."""
        events = [event for event in self.get_artifact_events(artifact_ids) if event.is_output]
        executions = self.get_executions(event.execution_id for event in events)
        makers: dict[Id, Execution] = {}
        for event in sorted(events, key=lambda event: event.execution_id):
            execution = executions[event.execution_id]
            if execution.state == "COMPLETE":
                makers.setdefault(event.artifact_id, execution)
        return makers

    def get_run_outputs(self, run_id: str) -> Outputs:
        """Return the outputs of each node of a run, made or reused from the cache."""
        executions = [e.id for e in self.get_run_executions(run_id) if e.state in ("COMPLETE", "CACHED")]
        events = [event for event in self.get_execution_events(executions) if event.is_output]
        artifacts = self.get_artifacts(event.artifact_id for event in events)
        nodes = {id_: self.get_run_and_node(id_)[1] for id_ in sorted({event.execution_id for event in events})}
        by_node: dict[str, dict[str, list[Artifact]]] = {}
        for event in events:
            outputs = by_node.setdefault(nodes[event.execution_id], {})
            outputs.setdefault(event.key, []).append(artifacts[event.artifact_id])
        return by_node

    def find_last_push(self, model_name: str, *, before: str) -> "LastPush | None":
        """Return the last push of a model by a run before another, as the gate finds it; None if there is none."""
        from components.pusher.last_push import find_last_push

        last: LastPush | None = self._call(find_last_push, self._store, model_name, before=before)
        return last

    def mark_deleted(self, artifacts: Iterable[Artifact]) -> None:
        """Mark artifacts of a writable database as deleted, so that no run resolves to them."""
        ids = (artifact.id for artifact in artifacts)
        protos = list(self._call_with_ids(self._store.get_artifacts_by_id, ids))
        for proto in protos:
            proto.state = self._proto.Artifact.DELETED
        for start in range(0, len(protos), _MAX_IDS_PER_QUERY):
            self._call(self._store.put_artifacts, protos[start : start + _MAX_IDS_PER_QUERY])


def _read_keys(event: "mlmd.LineageEvent") -> list[str]:
    """Return the names of an artifact; as two inputs of a component, the same artifact has one event with both."""
    return [str(step.key) for step in event.path.steps if step.key] or [""]


def _read_properties(proto: Any) -> dict[str, Any]:
    """Return the values of plain types among TFX's properties and the components' own."""
    properties = {}
    for values in (proto.properties, proto.custom_properties):
        for name, value in values.items():
            kind = value.WhichOneof("value")
            if kind in ("int_value", "double_value", "string_value", "bool_value"):
                properties[name] = getattr(value, kind)
    return properties
