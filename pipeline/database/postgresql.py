"""ML Metadata in PostgreSQL. pg8000 finds the cause of a failure, which ML Metadata's client does not report."""

import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from pipeline.database.config import PostgreSQL
from pipeline.database.database import LOCKED, TABLES, Ask
from pipeline.database.errors import DatabaseError, DatabaseFault
from pipeline.database.server import (
    LOCK_SECONDS,
    PATIENT_SECONDS,
    ServerDatabase,
    explain_unreachable,
    keep_out_of_logs,
)


class PostgreSQLServer(ServerDatabase):
    """A database of a PostgreSQL server."""

    kind = "a PostgreSQL database"

    def __init__(self, settings: PostgreSQL, bound_id: str | None = None) -> None:
        super().__init__(settings, bound_id)
        self._settings = settings

    @contextmanager
    def open_session(self, *, writable: bool = False, patient: bool = False) -> Iterator[Ask]:
        import pg8000.exceptions
        import pg8000.native

        settings = self._settings
        try:
            with closing(
                pg8000.native.Connection(
                    settings.user,
                    host=settings.host,
                    port=settings.port,
                    database=settings.database,
                    password=settings.read_secret() or None,
                    timeout=PATIENT_SECONDS if patient else settings.timeout_seconds,
                )
            ) as connection:
                connection.run(f"SET lock_timeout = '{LOCK_SECONDS}s'")
                yield lambda question: connection.run(question) or []
        # The last two are what another server's greeting comes to.
        except (pg8000.exceptions.Error, OSError, KeyError, struct.error) as error:
            raise DatabaseError(f"{self.label}: {self._explain(error)}", _find_fault(error)) from error

    def _explain(self, error: Exception) -> str:
        fields = _read_fields(error)
        if fields is None:
            cause = error if isinstance(error, OSError) else error.__cause__
            lost = cause is None or isinstance(cause, ConnectionResetError | BrokenPipeError)
            return _LOST_TEXT if lost else explain_unreachable(cause, self._settings.timeout_seconds) or str(error)
        explanation, text = _find_cause(str(fields.get("C", "")), self._settings), fields.get("M", "")
        return f"{explanation} ({text})" if explanation else f"the server reported: {text}"

    def build_connection(self, *, writable: bool) -> Any:
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        keep_out_of_logs()
        settings = self._settings
        connection = mlmd.ConnectionConfig()
        target = connection.postgresql
        target.host, target.port, target.dbname = settings.host, str(settings.port), settings.database
        target.user, target.skip_db_creation = settings.user, True
        secret = settings.read_secret()
        if secret:
            target.password = _quote(secret)
        return connection

    def adapt(self, store: Any) -> None:
        # ML Metadata 1.21 quotes a text with a backslash wrongly, so that it is a syntax error, or worse: SQL.
        plain = store._pywrap_cc_call

        def call(method: Any, request: Any, response: Any) -> None:
            plain(method, _exchange(request, _BACKSLASH, _STAND_IN), response)
            exchanged = _exchange(response, _STAND_IN, _BACKSLASH)
            if exchanged is not response:
                response.CopyFrom(exchanged)

        store._pywrap_cc_call = call

    def read_table_names(self, ask: Ask) -> set[str]:
        return {name.lower() for (name,) in ask("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}

    def find_damages(self, ask: Ask) -> Iterator[str]:
        # As texts, so that every column of every row is read; checksums are checked if the server has them.
        for table in TABLES:
            ask(f"SELECT count(t::text) FROM {table} t")
        yield from ()

    @property
    def sessions_command(self) -> str:
        place = f"-h {self._settings.host} -p {self._settings.port} -U {self._settings.user} {self._settings.database}"
        return f"psql {place} -c 'SELECT pid, state, wait_event, query FROM pg_stat_activity'"


_BACKSLASH = "\\"
# A code point that Unicode promises never to give a meaning; the database has it where the text has a backslash.
_STAND_IN = "\ufdd0"
_LOST_TEXT = "the connection was lost, or it is not a PostgreSQL server; is it running there, and is the port right?"


def _quote(text: str) -> str:
    """Return text quoted for libpq's connection string; without quotes an error would print parts of it.

    >>> _quote("it's")
    "'it\\\\'s'"
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _exchange(message: Any, old: str, new: str) -> Any:
    """Return a message with one character for another in all its texts; the very message where there is none."""
    from google.protobuf import json_format

    if old.encode() not in message.SerializeToString():
        return message
    return json_format.ParseDict(_replace(json_format.MessageToDict(message), old, new), type(message)())


def _replace(value: Any, old: str, new: str) -> Any:
    match value:
        case str():
            return value.replace(old, new)
        case dict():
            return {name.replace(old, new): _replace(inner, old, new) for name, inner in value.items()}
        case list():
            return [_replace(inner, old, new) for inner in value]
        case _:
            return value


def _read_fields(error: Exception) -> dict[str, str] | None:
    """Return the fields of the server's answer by their letter; None for an error of the connection."""
    fields = error.args[0] if error.args else None
    return fields if isinstance(fields, dict) else None


def _find_fault(error: Exception) -> DatabaseFault:
    match (_read_fields(error) or {}).get("C"):
        case "55P03":
            return DatabaseFault.LOCKED
        case "XX001" | "XX002":
            return DatabaseFault.DAMAGED
        case _:
            return DatabaseFault.OTHER


def _find_cause(code: str, settings: PostgreSQL) -> str:
    """Return what an SQLSTATE means, and what to do: https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    match code:
        case "28P01":
            return f"user {settings.user} is not let in: the name or the password is wrong"
        case "28000":
            return (
                f"user {settings.user} is not let in from here; a server that wants TLS needs a tunnel, which ML "
                "Metadata's client for PostgreSQL has not"
            )
        case "3D000":
            return f"there is no database {settings.database}; have it created, empty"
        case "42501" | "25006":
            return f"user {settings.user} has not the rights; a run needs to own the tables, oncall SELECT"
        case "55P03":
            return LOCKED
        case "53300":
            return "the server has no connection left; try again, or raise its limit"
        case "57P01" | "57P02" | "57P03":
            return "the server is starting or going down; try again in a moment"
        case "XX001" | "XX002":
            return "is damaged"
        case _:
            return ""
