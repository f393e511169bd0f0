"""Checks of every database that may hold ML Metadata, whose own errors name no cause."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from cli.errors import RunRootError
from pipeline.database.errors import DatabaseError, DatabaseFault

# Schema of ml-metadata 1.21. Another release has another schema.
SCHEMA_VERSION = 10
LOCKED = "is locked by another process; try again in a moment"
BOUND = "run_root"
_MAX_SHOWN_TABLES = 3
# Each asks for a right that a run needs, and changes nothing.
_RIGHTS = (
    "INSERT INTO Event (artifact_id, execution_id, type) SELECT artifact_id, execution_id, type FROM Event WHERE 1 = 0",
    "UPDATE Execution SET last_known_state = last_known_state WHERE 1 = 0",
    "DELETE FROM ExecutionProperty WHERE 1 = 0",
)
TABLES = (
    *(
        "Type",
        "TypeProperty",
        "ParentType",
        "Artifact",
        "ArtifactProperty",
        "Execution",
        "ExecutionProperty",
        "Context",
    ),
    *("ContextProperty", "ParentContext", "Association", "Attribution", "Event", "EventPath", "MLMDEnv"),
)

# A query in SQL, which returns rows.
Ask = Callable[[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Contents:
    """Contents of a database.

    Attributes:
      is_empty: Whether it has no tables.
      last_execution: Highest ID of an execution; 0 if there is none.
      bound: ID, host and path of its run root, which `binding.py` has written; None if it has not.
    """

    is_empty: bool
    last_execution: int = 0
    bound: dict[str, str] | None = None


class Database(ABC):
    """One database.

    Attributes:
      label: Name in every message; never with a password.
      bound_id: ID of the run root whose database it has to be; None if it is unknown.
      kind: Kind of database, for messages.
      no_cause: Message for a database that can be reached, but not used by ML Metadata.
    """

    kind: str
    no_cause = "ML Metadata cannot use it"

    def __init__(self, label: str, bound_id: str | None = None) -> None:
        self.label, self.bound_id = label, bound_id

    @abstractmethod
    def open_session(self, *, writable: bool = False, patient: bool = False) -> AbstractContextManager[Ask]:
        """Return a connection for queries.

        Args:
          writable: for whoever holds the run root's lock.
          patient: a query may take minutes.

        Raises:
          RunRootError: with the cause, now or at a query.
        """

    @abstractmethod
    def build_connection(self, *, writable: bool) -> Any:
        """Return ML Metadata's ConnectionConfig; it holds the password, so it is neither printed nor kept."""

    def open_store(self, *, writable: bool) -> Any:
        """Return a MetadataStore; makes ML Metadata's tables where there are none, so `check` or `read_contents` goes
        first.
        """
        # 0.35 s, only for those that need it.
        import ml_metadata

        connection = self.build_connection(writable=writable)
        if not writable:
            # Else a lost connection is tried again for half a minute.
            connection.retry_options.max_num_retries = 1
        store = ml_metadata.MetadataStore(connection)
        self.adapt(store)
        return store

    def wait(self, report: Callable[[str], None]) -> None:  # noqa: B027
        """Return once it can be written, where one process at a time can write; `report` gets the holder's line.

        Raises:
          RunRootError: it is held for too long; with by whom.
        """

    def adapt(self, store: Any) -> None:  # noqa: B027
        """Fix a MetadataStore of this database where it differs from all others."""

    @abstractmethod
    def read_table_names(self, ask: Ask) -> set[str]:
        """Return the names of all tables in lower case."""

    @abstractmethod
    def find_damages(self, ask: Ask) -> Iterator[str]:
        """Yield the damages that a complete read finds."""

    @abstractmethod
    def suggest_remedy(self, error: RunRootError) -> str:
        """Return the remedy of an error of this database, which starts with a command if there is one."""

    @property
    @abstractmethod
    def exists(self) -> bool:
        """Whether it exists; the file of a new run root does not yet."""

    def check(self, *, whole: bool = False) -> None:
        """Check that it can be read, since ML Metadata's own errors name no cause.

        Args:
          whole: Whether all of it is read and checked, not only its head.

        Raises:
          RunRootError: It cannot be reached, is empty, foreign, newer, locked, damaged, or another run root's.
        """
        with self.open_session() as ask:
            contents = self._query_contents(ask)
            if contents.is_empty:
                raise RunRootError(f"{self.label}: holds nothing, not even ML Metadata's tables")
            self._check_owner(contents)
        if whole:
            with self.open_session(patient=True) as ask:
                self.check_damage(ask)

    def check_damage(self, ask: Ask) -> None:
        """Read all of it, and raise the first damage."""
        for damage in self.find_damages(ask):
            message = f"{self.label}: is damaged ({damage}); restore it from a backup"
            raise DatabaseError(message, DatabaseFault.DAMAGED)

    def _check_owner(self, contents: Contents) -> None:
        if self.bound_id is not None and (contents.bound or {}).get("id") != self.bound_id:
            whose = (
                f"it is that of {format_place(contents.bound)}" if contents.bound else "it is nobody's: a fresh one?"
            )
            raise RunRootError(f"{self.label}: is not the database that this run root is bound to; {whose}")

    def read_contents(self, *, writable: bool = True) -> Contents:
        """Return its contents, which may be empty.

        Args:
          writable: for whoever holds the run root's lock, and takes back what a killed process left half done.

        Raises:
          RunRootError: it cannot be reached, is foreign, newer, locked or damaged.
        """
        with self.open_session(writable=writable) as ask:
            return self._query_contents(ask)

    def check_rights(self, contents: Contents) -> None:
        """Check each right that a run needs; the run root's lock must be held.

        Raises:
          RunRootError: one is missing, or somebody holds the database.
        """
        with self.open_session(writable=True) as ask:
            for question in self.list_rights(contents):
                ask(question)

    def list_rights(self, contents: Contents) -> Sequence[str]:
        """Return a question for each right that a run needs."""
        return () if contents.is_empty else _RIGHTS

    def _query_contents(self, ask: Ask) -> Contents:
        names = self.read_table_names(ask)
        if not names:
            return Contents(is_empty=True)
        if "mlmdenv" not in names:
            tables = ", ".join(sorted(names)[:_MAX_SHOWN_TABLES])
            raise RunRootError(
                f"{self.label}: is {self.kind}, but not ML Metadata's (it holds {tables}); is it the right one?"
            )
        missing = [name for name in TABLES if name.lower() not in names]
        if missing:
            message = f"{self.label}: is damaged (no table {', '.join(missing)}); restore it from a backup"
            raise DatabaseError(message, DatabaseFault.DAMAGED)
        version = next((row[0] for row in ask("SELECT schema_version FROM MLMDEnv")), None)
        if version != SCHEMA_VERSION:
            age = "a newer" if version is not None and version > SCHEMA_VERSION else "another"
            raise DatabaseError(
                f"{self.label}: was written by {age} release of ML Metadata (its schema is {version}, expected "
                f"{SCHEMA_VERSION}); use the checkout that wrote it",
                DatabaseFault.OTHER_RELEASE,
            )
        (last,) = ask("SELECT max(id) FROM Execution")
        bound = ask(
            "SELECT p.name, p.string_value FROM Context c JOIN Type t ON c.type_id = t.id "
            f"JOIN ContextProperty p ON p.context_id = c.id WHERE t.name = '{BOUND}' AND c.name = '{BOUND}'"
        )
        return Contents(
            is_empty=False,
            last_execution=last[0] or 0,
            bound={_decode(name): _decode(value) for name, value in bound} or None,
        )


def format_place(bound: dict[str, str] | None) -> str:
    """Return the place of a run root, for messages."""
    values = bound or {}
    return f"{values.get('path', '?')} on {values.get('host', '?')}"


def _decode(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
