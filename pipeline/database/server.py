"""Common base of databases on a server: an address, a user, a password that is never printed."""

import logging
import socket
import ssl
from abc import abstractmethod
from collections.abc import Sequence

from cli.errors import RunRootError
from pipeline.database.config import MySQL, PostgreSQL
from pipeline.database.database import Contents, Database
from pipeline.database.errors import DatabaseError, DatabaseFault

# A check's query returns within this many seconds, or somebody holds the tables.
LOCK_SECONDS = 2
# While all of a database is read.
PATIENT_SECONDS = 600.0
_PROBE = "run_root_probe"


class ServerDatabase(Database):
    """A database on a server."""

    def __init__(self, settings: MySQL | PostgreSQL, bound_id: str | None = None) -> None:
        place = f"{settings.user}@{settings.host}:{settings.port}/{settings.database}"
        super().__init__(f"{settings.kind}://{place}", bound_id)

    @property
    def exists(self) -> bool:
        return True

    def list_rights(self, contents: Contents) -> Sequence[str]:
        # An empty one is about to get ML Metadata's tables.
        return (
            (f"CREATE TABLE {_PROBE} (id INT)", f"DROP TABLE {_PROBE}")
            if contents.is_empty
            else super().list_rights(contents)
        )

    def suggest_remedy(self, error: RunRootError) -> str:
        match error:
            case DatabaseError(fault=DatabaseFault.LOCKED):
                return f"{self.sessions_command}    # who holds it; the data is not damaged"
            case DatabaseError(fault=DatabaseFault.DAMAGED):
                return f"restore {self.label} from a backup; the serving version is unchanged"
            case _:
                return 'docs/metadata.md, "When it cannot be used"; the serving version is unchanged'

    @property
    @abstractmethod
    def sessions_command(self) -> str:
        """Shows who does what on the server."""


def explain_unreachable(error: BaseException | None, timeout_seconds: float) -> str | None:
    """Return why there is no connection; None where it is not the network."""
    match error:
        case ConnectionRefusedError():
            return "the connection was refused; is the server running there, and is the port right?"
        case socket.gaierror():
            return "the name of the host is not known; is metadata.host right?"
        case TimeoutError():
            return f"gave no answer within {timeout_seconds:g} s; is the address right, and does no firewall stop it?"
        case ssl.SSLError():
            return (
                f"TLS failed: {error.args[-1]}; is metadata.tls.ca the authority that signed the server's certificate?"
            )
        case OSError():
            return f"cannot be reached: {error.strerror or error}"
        case _:
            return None


class _NoConnections(logging.Filter):
    """Drops what ML Metadata logs of its connections where somebody has set the level to DEBUG: password and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("ConnectionConfig")


_NO_CONNECTIONS = _NoConnections()


def keep_out_of_logs() -> None:
    """Prepare the logs before ML Metadata gets a password."""
    logging.getLogger("absl").addFilter(_NO_CONNECTIONS)
