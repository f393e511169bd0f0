"""ML Metadata of one run root, opened read-only; every question is by ids, so that a large database is no matter."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oncall.graph import Artifact, Event, Execution, Id, Outputs, key, properties
from schemas.errors import RunRootError

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2 as mlmd

# Of ml-metadata 1.21. Another schema is another release's.
_SCHEMA_VERSION = 10
_CHUNK = 500
_HEADER_BYTES = 100
_SQLITE = b"SQLite format 3\0"
UNFINISHED = "has an unfinished change of a process that was killed; the next run, or `resume`, takes it back"
LOCKED = "is locked by another process; try again in a moment"

__all__ = ["LOCKED", "UNFINISHED", "Metadata", "Outputs", "check_database", "key", "properties"]


def check_database(file: Path, *, whole: bool = False) -> None:
    """Says why a database cannot be read, which ML Metadata's own errors do not.

    Args:
      file: metadata.sqlite.
      whole: whether all of it is read and checked, not only its head.

    Raises:
      RunRootError: it is missing, empty, truncated, foreign, newer, locked or damaged.
    """
    try:
        _check_head(file)
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=1.0)) as database:
            (version,) = database.execute("SELECT schema_version FROM MLMDEnv").fetchone() or (None,)
            if whole:
                (verdict,) = database.execute("PRAGMA quick_check").fetchone()
                if verdict != "ok":
                    raise RunRootError(f"{file}: is damaged ({verdict}); restore it from a backup")
    except sqlite3.Error as error:
        raise RunRootError(f"{file}: {_said(str(error))}") from error
    except OSError as error:
        raise RunRootError(f"{file}: cannot be read: {error.strerror}") from error
    if version != _SCHEMA_VERSION:
        age = "a newer" if version is not None and version > _SCHEMA_VERSION else "another"
        raise RunRootError(
            f"{file}: was written by {age} release of ML Metadata (its schema is {version}, expected "
            f"{_SCHEMA_VERSION}); use the checkout that wrote it"
        )


def _check_head(file: Path) -> None:
    with file.open("rb") as opened:
        head = opened.read(_HEADER_BYTES)
        size = opened.seek(0, 2)
    if not head:
        raise RunRootError(f"{file}: is empty; restore it from a backup")
    if not head.startswith(_SQLITE[: len(head)]):
        raise RunRootError(f"{file}: is not an SQLite database, so not a run's; is --run-root right?")
    # https://www.sqlite.org/fileformat.html: page size, and the number of pages where the two counters agree.
    page = int.from_bytes(head[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
    if len(head) < _HEADER_BYTES or (head[24:28] == head[92:96] and size < expected):
        raise RunRootError(f"{file}: is truncated ({size:,} bytes of {expected:,}); restore it from a backup")


def _said(text: str) -> str:
    if "locked" in text:
        return LOCKED
    if "no such table" in text:
        return "is an SQLite database, but not ML Metadata's; is --run-root right?"
    if "readonly" in text or "unable to open" in text:
        return UNFINISHED
    return f"is damaged ({text}); restore it from a backup"


class Metadata:
    """The runs, executions, artifacts and events of one database."""

    def __init__(self, file: Path, *, writable: bool = False) -> None:
        """Opens a database.

        Args:
          file: metadata.sqlite.
          writable: for whoever holds the run root's lock.

        Raises:
          RunRootError: it cannot be read; with why.
        """
        if not file.is_file():
            raise RunRootError(f"{file}: there is none; is --run-root right?")
        check_database(file)
        # 0.35 s, which not every command needs.
        import ml_metadata
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        self._file, self._proto = file, mlmd
        connection = mlmd.ConnectionConfig()
        connection.sqlite.filename_uri = str(file)
        mode = mlmd.SqliteMetadataSourceConfig
        connection.sqlite.connection_mode = mode.READWRITE if writable else mode.READONLY
        self._store = self._guarded(ml_metadata.MetadataStore, connection)

    def _guarded(self, question: Any, *arguments: Any, **named: Any) -> Any:
        from ml_metadata import errors

        try:
            return question(*arguments, **named)
        except (errors.StatusError, RuntimeError) as error:
            # What it says of a lock and of damage is the same; the file says more.
            check_database(self._file)
            raise RunRootError(f"{self._file}: cannot be read: {str(error).splitlines()[0]}") from error

    def _by_ids(self, question: Any, ids: Iterable[Id]) -> Iterator[Any]:
        rest = iter(sorted(set(ids)))
        while chunk := list(islice(rest, _CHUNK)):
            yield from self._guarded(question, chunk)

    def runs(self) -> "list[mlmd.Context]":
        """The context of each run, the newest first."""
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
        """Inputs and outputs; there are events of other kinds."""
        kinds = {self._proto.Event.OUTPUT: True, self._proto.Event.INPUT: False}
        return [Event(e.execution_id, e.artifact_id, kinds[e.type], _key(e)) for e in found if e.type in kinds]

    def state(self, execution: Execution) -> str:
        return execution.state

    def is_live(self, artifact: Artifact) -> bool:
        return artifact.live

    def place(self, execution_id: Id) -> tuple[str, str]:
        """The run and the node of an execution."""
        contexts = self._guarded(self._store.get_contexts_by_execution, execution_id)
        names = {context.type: context.name for context in contexts}
        return names.get("pipeline_run", ""), names.get("node", "").rpartition(".")[2]

    def newest(self, execution_ids: Iterable[Id], limit: int) -> list[Id]:
        """The last of them to be created, the newest first."""
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
        """The execution that really made each artifact: those that were answered from the cache point to it too."""
        events = [event for event in self.events_of_artifacts(artifact_ids) if self.is_output(event)]
        executions = self.executions_by_id(event.execution_id for event in events)
        found: dict[Id, Execution] = {}
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
        found: dict[str, dict[str, list[Artifact]]] = {}
        for event in events:
            outputs = found.setdefault(nodes[event.execution_id], {})
            outputs.setdefault(key(event), []).append(artifacts[event.artifact_id])
        return found

    def forget(self, artifacts: Iterable[Artifact]) -> None:
        """Marks artifacts as deleted, so that no run resolves to them; only of a writable database."""
        found = list(self._by_ids(self._store.get_artifacts_by_id, (artifact.id for artifact in artifacts)))
        for artifact in found:
            artifact.state = self._proto.Artifact.DELETED
        for start in range(0, len(found), _CHUNK):
            self._guarded(self._store.put_artifacts, found[start : start + _CHUNK])


def _key(event: "mlmd.Event") -> str:
    return str(next((step.key for step in event.path.steps if step.key), ""))


def _plain(thing: Any) -> dict[str, Any]:
    """The plain values among the properties, TFX's own and those of components."""
    found = {}
    for values in (thing.properties, thing.custom_properties):
        for name, value in values.items():
            kind = value.WhichOneof("value")
            if kind in ("int_value", "double_value", "string_value", "bool_value"):
                found[name] = getattr(value, kind)
    return found
