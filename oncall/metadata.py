"""ML Metadata of one run root, opened read-only; every question is by ids, so that a large database is no matter."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pipeline.database.database import Database
from schemas.errors import RunRootError

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

_CHUNK = 500

Outputs = Mapping[str, Mapping[str, "list[mlmd.Artifact]"]]


class Metadata:
    """The runs, executions, artifacts and events of one database."""

    def __init__(self, database: Database, *, writable: bool = False) -> None:
        """Opens a database.

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

    def _by_ids(self, question: Any, ids: Iterable[int]) -> Iterator[Any]:
        rest = iter(sorted(set(ids)))
        while chunk := list(islice(rest, _CHUNK)):
            yield from self._guarded(question, chunk)

    def runs(self) -> "list[mlmd.Context]":
        """The context of each run, the newest first."""
        found = self._guarded(self._store.get_contexts_by_type, "pipeline_run")
        return sorted(found, key=lambda context: context.name, reverse=True)

    def run(self, run_id: str) -> "mlmd.Context | None":
        return self._guarded(self._store.get_context_by_type_and_name, "pipeline_run", run_id)

    def executions(self, run_id: str) -> "list[mlmd.Execution]":
        """All executions of a run, in order; none where ML Metadata does not know it."""
        context = self.run(run_id)
        if context is None:
            return []
        found = self._guarded(self._store.get_executions_by_context, context.id)
        return sorted(found, key=lambda execution: execution.id)

    def state(self, execution: "mlmd.Execution") -> str:
        return str(self._proto.Execution.State.Name(execution.last_known_state))

    def is_live(self, artifact: "mlmd.Artifact") -> bool:
        return bool(artifact.state == self._proto.Artifact.LIVE)

    def states(self, run_id: str) -> Counter[str]:
        """How many executions of a run have which state."""
        return Counter(self.state(execution) for execution in self.executions(run_id))

    def place(self, execution_id: int) -> tuple[str, str]:
        """The run and the node of an execution."""
        contexts = self._guarded(self._store.get_contexts_by_execution, execution_id)
        names = {context.type: context.name for context in contexts}
        return names.get("pipeline_run", ""), names.get("node", "").rpartition(".")[2]

    def artifacts(self, ids: Iterable[int]) -> "dict[int, mlmd.Artifact]":
        return {found.id: found for found in self._by_ids(self._store.get_artifacts_by_id, ids)}

    def executions_by_id(self, ids: Iterable[int]) -> "dict[int, mlmd.Execution]":
        return {found.id: found for found in self._by_ids(self._store.get_executions_by_id, ids)}

    def events_of_artifacts(self, ids: Iterable[int]) -> "list[mlmd.Event]":
        return list(self._by_ids(self._store.get_events_by_artifact_ids, ids))

    def events_of_executions(self, ids: Iterable[int]) -> "list[mlmd.Event]":
        return list(self._by_ids(self._store.get_events_by_execution_ids, ids))

    def all_artifacts(self) -> "list[mlmd.Artifact]":
        return list(self._guarded(self._store.get_artifacts))

    def artifacts_of_run(self, run_id: str) -> "list[mlmd.Artifact]":
        """All that a run made, took from the cache, or was given."""
        context = self.run(run_id)
        return list(self._guarded(self._store.get_artifacts_by_context, context.id)) if context else []

    def artifacts_of_type(self, name: str) -> "list[mlmd.Artifact]":
        return sorted(self._guarded(self._store.get_artifacts_by_type, name), key=lambda artifact: artifact.id)

    def is_output(self, event: "mlmd.Event") -> bool:
        return bool(event.type == self._proto.Event.OUTPUT)

    def is_input(self, event: "mlmd.Event") -> bool:
        return bool(event.type == self._proto.Event.INPUT)

    def makers(self, artifact_ids: Iterable[int]) -> "dict[int, mlmd.Execution]":
        """The execution that really made each artifact: those that were answered from the cache point to it too."""
        events = [event for event in self.events_of_artifacts(artifact_ids) if self.is_output(event)]
        executions = self.executions_by_id(event.execution_id for event in events)
        found: dict[int, Any] = {}
        for event in sorted(events, key=lambda event: event.execution_id):
            execution = executions[event.execution_id]
            if self.state(execution) == "COMPLETE":
                found.setdefault(event.artifact_id, execution)
        return found

    def outputs(self, run_id: str) -> Outputs:
        """What each node of a run gave out, by its output's name, whether it made it or took it from the cache."""
        executions = {e.id: e for e in self.executions(run_id) if self.state(e) in ("COMPLETE", "CACHED")}
        events = [event for event in self.events_of_executions(executions) if self.is_output(event)]
        artifacts = self.artifacts(event.artifact_id for event in events)
        nodes = {id_: self.place(id_)[1] for id_ in sorted({event.execution_id for event in events})}
        found: dict[str, dict[str, list[Any]]] = {}
        for event in events:
            outputs = found.setdefault(nodes[event.execution_id], {})
            outputs.setdefault(key(event), []).append(artifacts[event.artifact_id])
        return found

    def forget(self, artifacts: "Iterable[mlmd.Artifact]") -> None:
        """Marks artifacts as deleted, so that no run resolves to them; only of a writable database."""
        chosen = list(artifacts)
        for artifact in chosen:
            artifact.state = self._proto.Artifact.DELETED
        for start in range(0, len(chosen), _CHUNK):
            self._guarded(self._store.put_artifacts, chosen[start : start + _CHUNK])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def key(event: "mlmd.Event") -> str:
    """The name of the input or output that an event is about."""
    return str(next((step.key for step in event.path.steps if step.key), ""))


def properties(thing: Any) -> dict[str, Any]:
    """The plain values of an artifact's or an execution's properties, TFX's own and those of components."""
    found = {}
    for values in (thing.properties, thing.custom_properties):
        for name, value in values.items():
            kind = value.WhichOneof("value")
            if kind in ("int_value", "double_value", "string_value", "bool_value"):
                found[name] = getattr(value, kind)
    return found
