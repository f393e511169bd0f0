"""ML Metadata in MySQL or MariaDB. PyMySQL finds the cause of a failure, which ML Metadata's client does not report."""

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from cli.errors import RunRootError
from pipeline.database.config import MySQL, Tls
from pipeline.database.database import LOCKED, TABLES, Ask
from pipeline.database.errors import DatabaseError, DatabaseFault
from pipeline.database.server import (
    LOCK_SECONDS,
    PATIENT_SECONDS,
    ServerDatabase,
    explain_unreachable,
    keep_out_of_logs,
)

# https://mariadb.com/kb/en/mariadb-error-code-reference/
_NO_RIGHT = (1142, 1143, 1227, 1290, 1370, 1792, 1836)
_LOCKED = (1205, 1213, 3572)
_TOO_MANY = (1040, 1203, 1226)
_TLS_NEEDED = (3159, 4165)
_NO_CONNECTION, _LOST, _GONE = 2003, 2013, 2006
_DAMAGED = (1034, 1035, 1194, 1195, 1712, 1877, 1932)


class MySQLServer(ServerDatabase):
    """A database of a MySQL or MariaDB server."""

    kind = "a MySQL database"
    no_cause = "answers, but ML Metadata's client cannot use it; does the user log in with mysql_native_password?"

    def __init__(self, settings: MySQL, bound_id: str | None = None) -> None:
        super().__init__(settings, bound_id)
        self._settings = settings

    @property
    def _host(self) -> str:
        # For ML Metadata's client `localhost` is a socket's file, whatever the port.
        return "127.0.0.1" if self._settings.host == "localhost" else self._settings.host

    @contextmanager
    def open_session(self, *, writable: bool = False, patient: bool = False) -> Iterator[Ask]:
        import pymysql

        settings = self._settings
        seconds = PATIENT_SECONDS if patient else settings.timeout_seconds
        try:
            with closing(
                pymysql.connect(
                    host=self._host,
                    port=settings.port,
                    database=settings.database,
                    user=settings.user,
                    # As a text it would be sent in Latin-1, and ML Metadata sends UTF-8.
                    password=settings.read_secret().encode(),
                    connect_timeout=settings.timeout_seconds,
                    read_timeout=seconds,
                    write_timeout=seconds,
                    autocommit=True,
                    ssl=_create_context(settings.tls) if settings.tls else None,
                    ssl_disabled=settings.tls is None,
                    init_command=f"SET lock_wait_timeout = {LOCK_SECONDS}, innodb_lock_wait_timeout = {LOCK_SECONDS}",
                )
            ) as connection:
                yield lambda question: _fetch_rows(connection, question)
        except pymysql.Error as error:
            raise DatabaseError(f"{self.label}: {self._explain(error)}", _find_fault(error.args[:1])) from error

    def _explain(self, error: Exception) -> str:
        code, text, *_ = *error.args, "", ""
        settings = self._settings
        if code == _NO_CONNECTION:
            cause = getattr(error, "original_exception", None)
            return explain_unreachable(cause, settings.timeout_seconds) or str(text)
        if code in (_LOST, _GONE):
            timed_out = TimeoutError() if "timed out" in str(text) else None
            return explain_unreachable(timed_out, settings.timeout_seconds) or _LOST_TEXT
        cause = _find_cause(code, settings)
        return f"{cause} ({text})" if cause else f"the server reported: {text or error}"

    def build_connection(self, *, writable: bool) -> Any:
        from ml_metadata.proto import metadata_store_pb2 as mlmd

        keep_out_of_logs()
        settings = self._settings
        connection = mlmd.ConnectionConfig()
        target = connection.mysql
        target.host, target.port, target.database, target.user = (
            self._host,
            settings.port,
            settings.database,
            settings.user,
        )
        target.password, target.skip_db_creation = settings.read_secret(), True
        if settings.tls is not None:
            target.ssl_options.ca = settings.tls.ca
            target.ssl_options.cert, target.ssl_options.key = settings.tls.cert or "", settings.tls.key or ""
        return connection

    def read_table_names(self, ask: Ask) -> set[str]:
        return {name.lower() for (name,) in ask("SHOW TABLES")}

    def find_damages(self, ask: Ask) -> Iterator[str]:
        for table, _, kind, text in ask(f"CHECK TABLE {', '.join(TABLES)}"):
            if (kind, text) != ("status", "OK") and kind not in ("note", "info"):
                yield f"{table}: {text}"

    @property
    def sessions_command(self) -> str:
        return (
            f"mariadb -h {self._host} -P {self._settings.port} -u {self._settings.user} -p -e 'SHOW FULL PROCESSLIST'"
        )


_LOST_TEXT = "the connection was lost, or it is not a MySQL server; is it running there, and is the port right?"


def _find_cause(code: object, settings: MySQL) -> str:
    """Return what an error's number means, and what to do."""
    match code:
        case 1045 | 1698:
            # The second for one who shall log in otherwise, and, by chance, for an unknown one.
            tls = "" if settings.tls else ", or TLS is wanted (metadata.tls)"
            return f"user {settings.user} is not let in: the name or the password is wrong{tls}"
        case 1044:
            return f"there is no database {settings.database}, or user {settings.user} has no right to it"
        case 1049:
            return f"there is no database {settings.database}; have it created, empty"
    if code in _TLS_NEEDED:
        return "the server wants TLS; name its certificate authority in metadata.tls.ca"
    if code in _NO_RIGHT:
        return f"user {settings.user} has not the rights; a run needs ALL on {settings.database}, oncall SELECT"
    if code in _LOCKED:
        return LOCKED
    if code in _TOO_MANY:
        return "the server has no connection left; try again, or raise its limit"
    return "is damaged" if code in _DAMAGED else ""


def _find_fault(code: tuple[object, ...]) -> DatabaseFault:
    match code:
        case (number,) if number in _LOCKED:
            return DatabaseFault.LOCKED
        case (number,) if number in _DAMAGED:
            return DatabaseFault.DAMAGED
        case _:
            return DatabaseFault.OTHER


def _fetch_rows(connection: Any, question: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return list(cursor.fetchall())


def _create_context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        files = ", ".join(name for name in (tls.ca, tls.cert, tls.key) if name)
        raise RunRootError(f"metadata.tls: {files}: cannot be used: {error.strerror or error}") from error
    return context
