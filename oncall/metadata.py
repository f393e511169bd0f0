"""ML Metadata of one run root, opened read-only; every question is by ids, so that a large database is no matter."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

Outputs = Mapping[str, Mapping[str, "list[mlmd.Artifact]"]]


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
