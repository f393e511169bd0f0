"""ML Metadata of one run root, opened read-only; every question is by ids, so that a large database is read fast."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from cli.errors import RunRootError
from oncall.graph import Artifact, Event, Execution, Id, Outputs, key, properties
from pipeline.database.database import Database

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

_CHUNK = 500

__all__ = ["Metadata", "Outputs", "key", "properties"]


class Metadata:
    """The runs, executions, artifacts and events of one database."""

    def __init__(self, database: Database, *, writable: bool = False) -> None:
        """Open a database.

        Args:
          database: which.
          writable: for whoever holds the run root's lock.

        Raises:
          RunRootError: it cannot be read; with why.
        """
        # First: ML Metadata makes its tables where there are none, and names no cause where it cannot.
        database.check()
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        self._database, self._proto = database, mlmd
        self._store = self._guarded(database.store, writable=writable)

    def _guarded(self, question: Any, *arguments: Any, **named: Any) -> Any:
        from ml_metadata import errors

        try:
            return question(*arguments, **named)
        except (errors.StatusError, RuntimeError) as error:
            # What it says of a lock and of damage is the same; the database says more.
            self._database.check()
            raise RunRootError(f"{self._database.label}: {self._database.no_cause}: {_first_line(error)}") from error

    def _by_ids(self, question: Any, ids: Iterable[Id]) -> Iterator[Any]:
        rest = iter(sorted(set(ids)))
        while chunk := list(islice(rest, _CHUNK)):
            yield from self._guarded(question, chunk)

    def runs(self) -> "list[mlmd.Context]":
        """Return the context of each run, the newest first."""
        found = self._guarded(self._store.get_contexts_by_type, "pipeline_run")
        return sorted(found, key=lambda context: context.name, reverse=True)

    def run(self, run_id: str) -> "mlmd.Context | None":
        return self._guarded(self._store.get_context_by_type_and_name, "pipeline_run", run_id)

    def executions(self, run_id: str) -> list[Execution]:
        """All executions of a run, in order; none where ML Metadata does not know it."""
        context = self.run(run_id)
        if context is None:
            return []
        found = self._guarded(self._store.get_executions_by_context, context.id)
        return sorted(map(self._execution, found), key=lambda execution: execution.id)

    def _artifact(self, found: "mlmd.Artifact") -> Artifact:
        live = found.state == self._proto.Artifact.LIVE
        return Artifact(found.id, found.type, found.uri, live, _plain(found), found.create_time_since_epoch)

    def _execution(self, found: "mlmd.Execution") -> Execution:
        state = self._proto.Execution.State.Name(found.last_known_state)
        times = found.create_time_since_epoch, found.last_update_time_since_epoch
        return Execution(found.id, state, _plain(found), *times)

    def _events(self, found: "Iterable[mlmd.Event]") -> list[Event]:
        """Return inputs and outputs; there are events of other kinds."""
        kinds = {self._proto.Event.OUTPUT: True, self._proto.Event.INPUT: False}
        return [Event(e.execution_id, e.artifact_id, kinds[e.type], _key(e)) for e in found if e.type in kinds]

    def state(self, execution: Execution) -> str:
        return execution.state

    def is_live(self, artifact: Artifact) -> bool:
        return artifact.live

    def place(self, execution_id: Id) -> tuple[str, str]:
        """Return the run and the node of an execution."""
        contexts = self._guarded(self._store.get_contexts_by_execution, execution_id)
        names = {context.type: context.name for context in contexts}
        return names.get("pipeline_run", ""), names.get("node", "").rpartition(".")[2]

    def newest(self, execution_ids: Iterable[Id], limit: int) -> list[Id]:
        """Return the last of them to be created, the newest first."""
        return sorted(execution_ids, reverse=True)[:limit]

    def artifacts(self, ids: Iterable[Id]) -> dict[Id, Artifact]:
        return {found.id: self._artifact(found) for found in self._by_ids(self._store.get_artifacts_by_id, ids)}

    def executions_by_id(self, ids: Iterable[Id]) -> dict[Id, Execution]:
        return {found.id: self._execution(found) for found in self._by_ids(self._store.get_executions_by_id, ids)}

    def events_of_artifacts(self, ids: Iterable[Id]) -> list[Event]:
        return self._events(self._by_ids(self._store.get_events_by_artifact_ids, ids))

    def events_of_executions(self, ids: Iterable[Id]) -> list[Event]:
        return self._events(self._by_ids(self._store.get_events_by_execution_ids, ids))

    def all_artifacts(self) -> list[Artifact]:
        return [self._artifact(found) for found in self._guarded(self._store.get_artifacts)]

    def artifacts_of_run(self, run_id: str) -> list[Artifact]:
        """All that a run made, took from the cache, or was given."""
        context = self.run(run_id)
        found = self._guarded(self._store.get_artifacts_by_context, context.id) if context else []
        return [self._artifact(one) for one in found]

    def artifacts_of_type(self, name: str) -> list[Artifact]:
        found = self._guarded(self._store.get_artifacts_by_type, name)
        return sorted(map(self._artifact, found), key=lambda artifact: artifact.id)

    def is_output(self, event: Event) -> bool:
        return event.is_output

    def is_input(self, event: Event) -> bool:
        return not event.is_output

    def makers(self, artifact_ids: Iterable[Id]) -> dict[Id, Execution]:
        """Return the execution that really made each artifact: those that were reused from the cache point to it
        too.
        """
        events = [event for event in self.events_of_artifacts(artifact_ids) if self.is_output(event)]
        executions = self.executions_by_id(event.execution_id for event in events)
        found: dict[Id, Execution] = {}
        for event in sorted(events, key=lambda event: event.execution_id):
            execution = executions[event.execution_id]
            if self.state(execution) == "COMPLETE":
                found.setdefault(event.artifact_id, execution)
        return found

    def outputs(self, run_id: str) -> Outputs:
        """Return what each node of a run gave out, by its output's name, whether it made it or took it from the
        cache.
        """
        executions = {e.id: e for e in self.executions(run_id) if self.state(e) in ("COMPLETE", "CACHED")}
        events = [event for event in self.events_of_executions(executions) if self.is_output(event)]
        artifacts = self.artifacts(event.artifact_id for event in events)
        nodes = {id_: self.place(id_)[1] for id_ in sorted({event.execution_id for event in events})}
        found: dict[str, dict[str, list[Artifact]]] = {}
        for event in events:
            outputs = found.setdefault(nodes[event.execution_id], {})
            outputs.setdefault(key(event), []).append(artifacts[event.artifact_id])
        return found

    def forget(self, artifacts: Iterable[Artifact]) -> None:
        """Mark artifacts as deleted, so that no run resolves to them; only of a writable database."""
        found = list(self._by_ids(self._store.get_artifacts_by_id, (artifact.id for artifact in artifacts)))
        for artifact in found:
            artifact.state = self._proto.Artifact.DELETED
        for start in range(0, len(found), _CHUNK):
            self._guarded(self._store.put_artifacts, found[start : start + _CHUNK])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _key(event: "mlmd.Event") -> str:
    return str(next((step.key for step in event.path.steps if step.key), ""))


def _plain(thing: Any) -> dict[str, Any]:
    """Return the plain values among the properties, TFX's own and those of components."""
    found = {}
    for values in (thing.properties, thing.custom_properties):
        for name, value in values.items():
            kind = value.WhichOneof("value")
            if kind in ("int_value", "double_value", "string_value", "bool_value"):
                found[name] = getattr(value, kind)
    return found
