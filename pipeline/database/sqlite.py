"""ML Metadata in a file."""

import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cli.errors import RunRootError
from cli.terminal import format_command, show_rights
from pipeline.database.database import LOCKED, Ask, Contents, Database
from pipeline.database.errors import DatabaseError, DatabaseFault
from pipeline.run import locks

_UNFINISHED = "has an unfinished change of a process that was killed; the next run, or `resume`, takes it back"
_NOT_SQLITE = "is not an SQLite database, so not a run's; is --run-root right?"
_HEADER_BYTES = 100
_SQLITE = b"SQLite format 3\0"
# A run waits for another process's change; a reader gets its result at once.
_WRITER_SECONDS, _READER_SECONDS = 5.0, 1.0


class SQLiteFile(Database):
    """A file, `metadata.sqlite`."""

    kind = "an SQLite database"

    def __init__(self, file: Path, bound_id: str | None = None) -> None:
        super().__init__(str(file), bound_id)
        self.file = file

    def wait(self, report: Callable[[str], None]) -> None:
        locks.wait(self.file, report)

    @property
    def exists(self) -> bool:
        return self.file.exists()

    @contextmanager
    def open_session(self, *, writable: bool = False, patient: bool = False) -> Iterator[Ask]:
        seconds = _WRITER_SECONDS if writable else _READER_SECONDS
        uri = f"{self.file.absolute().as_uri()}?mode={'rw' if writable else 'ro'}"
        try:
            if not writable:
                _check_head(self.file)
            with closing(sqlite3.connect(uri, uri=True, timeout=seconds, isolation_level=None)) as connection:
                if writable:
                    # Takes back what a killed process has left half done; only then the size is right.
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
                    _check_head(self.file)
                yield lambda question: connection.execute(question).fetchall()
        except sqlite3.Error as error:
            fault, cause = _find_cause(str(error), writable=writable)
            if fault is DatabaseFault.DAMAGED:
                # The exact damage: a writer can check it only after the leftovers of a killed process are rolled back.
                _check_head(self.file)
            raise DatabaseError(f"{self.file}: {cause}", fault) from error
        except FileNotFoundError as error:
            raise RunRootError(f"{self.file}: there is none; is --run-root right?") from error
        except OSError as error:
            fault = DatabaseFault.DENIED if isinstance(error, PermissionError) else DatabaseFault.OTHER
            raise DatabaseError(f"{self.file}: cannot be read: {error.strerror}", fault) from error

    def read_contents(self, *, writable: bool = True) -> Contents:
        return super().read_contents(writable=writable) if self.exists else Contents(is_empty=True)

    def check_rights(self, contents: Contents) -> None:
        if self.exists:
            super().check_rights(contents)
            with self.open_session(writable=True) as ask:
                self.check_damage(ask)

    def list_rights(self, contents: Contents) -> Sequence[str]:
        return ("BEGIN IMMEDIATE", "ROLLBACK")

    def build_connection(self, *, writable: bool) -> Any:
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        connection = mlmd.ConnectionConfig()
        connection.sqlite.filename_uri = str(self.file)
        mode = mlmd.SqliteMetadataSourceConfig
        connection.sqlite.connection_mode = mode.READWRITE_OPENCREATE if writable else mode.READONLY
        return connection

    def read_table_names(self, ask: Ask) -> set[str]:
        return {name.lower() for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def find_damages(self, ask: Ask) -> Iterator[str]:
        ((verdict,),) = ask("PRAGMA quick_check(1)")
        if verdict != "ok":
            yield verdict

    def suggest_remedy(self, error: RunRootError) -> str:
        match error:
            case DatabaseError(fault=DatabaseFault.LOCKED):
                pids = sorted(locks.find_holders(self.file) - {0})
                holder = format_command("ps", "-fp", *pids) if pids else format_command("fuser", "-v", self.file)
                return f"{holder}    # who holds it; the data is not damaged; kill it only if it hangs"
            case DatabaseError(fault=DatabaseFault.DENIED):
                return show_rights(self.file)
            case _:
                again = self._suggest_new_database()
                return f"restore {self.file} from a backup; the serving version is unchanged. Or begin again: {again}"

    def _suggest_new_database(self) -> str:
        """Return the command after which the next run makes a new database.

        The registry with the serving version, records and logs stay.
        """
        root = self.file.parent
        moved = [path for path in (*sorted(root.glob(f"{self.file.name}*")), root / "artifacts") if path.exists()]
        if not moved:
            return "the next run does"
        aside = str(root / time.strftime("damaged-%Y%m%dT%H%M%S"))
        return f"{shlex.join(['mkdir', aside])} && {shlex.join(['mv', *map(str, moved), aside])}"


def _check_head(file: Path) -> None:
    with file.open("rb") as opened:
        head = opened.read(_HEADER_BYTES)
        size = opened.seek(0, 2)
    if not head:
        raise RunRootError(f"{file}: is empty; restore it from a backup")
    if not head.startswith(_SQLITE[: len(head)]):
        raise RunRootError(f"{file}: {_NOT_SQLITE}")
    # https://www.sqlite.org/fileformat.html: page size, and the number of pages where the two counters agree.
    page = int.from_bytes(head[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
    if len(head) < _HEADER_BYTES or (head[24:28] == head[92:96] and size < expected):
        raise RunRootError(f"{file}: is truncated ({size:,} bytes of {expected:,}); restore it from a backup")


def _find_cause(text: str, *, writable: bool) -> tuple[DatabaseFault, str]:
    if "locked" in text:
        return DatabaseFault.LOCKED, LOCKED
    if "not a database" in text:
        return DatabaseFault.OTHER, _NOT_SQLITE
    if writable and "readonly" in text:
        return DatabaseFault.DENIED, "cannot be written; ls -l shows who may write it"
    if "readonly" in text or "unable to open" in text:
        return DatabaseFault.UNFINISHED, _UNFINISHED
    return DatabaseFault.DAMAGED, f"is damaged ({text}); restore it from a backup"
