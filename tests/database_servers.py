"""Real MariaDB and PostgreSQL servers for the tests: private ones, each in a folder and on a port of its own.

Debian's packages mariadb-server and postgresql have the programs; no service of the system is started or needed.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.native
import psutil
import pymysql
import pytest

# .ci/run sets it: there, a server that is missing is a failure.
REQUIRED = "REQUIRE_DATABASE_SERVERS"
ADMIN_PASSWORD = "admin-password"
# Characters that have to be quoted somewhere.
PASSWORD = "s3cret 'pa\"ss\\word' é"
PASSWORD_ENV = "TEST_DATABASE_PASSWORD"
USER = "pipeline"
_START_SECONDS = 60


class DatabaseServer(ABC):
    """A server with an administrator; makes databases with one user."""

    kind: str
    system_user: str
    options: tuple[str, ...] = ()

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder, self.program = folder, program
        self.data = folder / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._made = self._users = 0

    @abstractmethod
    def initialise(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line of the server."""

    @abstractmethod
    def admin(self, *statements: str, database: str | None = None) -> None:
        """Run statements as the administrator."""

    @abstractmethod
    def make_database(self, name: str) -> None:
        """Make an empty database that USER owns."""

    @abstractmethod
    def new_user(self) -> str:
        """Make a user with PASSWORD and no rights, and return the name."""

    @contextlib.contextmanager
    def restart(self, *options: str) -> Iterator[None]:
        """Run with other options for a while."""
        usual = self.options
        self.kill()
        self.options = (*usual, *options)
        self.start()
        try:
            yield
        finally:
            self.kill()
            self.options = usual
            self.start()

    def as_system_user(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process as the system user of the server: neither server runs as root."""
        if os.geteuid() == 0:
            options |= {"user": self.system_user, "group": self.system_user, "extra_groups": []}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.folder, **options)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = self.as_system_user(self.command(), stderr=log, start_new_session=True)
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.admin("SELECT 1")
            except Exception:
                if self._process.poll() is not None or time.monotonic() > until:
                    log = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.kind} does not start: {log}") from None
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """Kill all its processes, as kill -9 does."""
        assert self._process is not None
        for process in (*psutil.Process(self._process.pid).children(recursive=True), self._process):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        self._process.wait()

    def new_database(self, **changed: Any) -> dict[str, Any]:
        """Make an empty database; return the section `metadata` of a config for it."""
        self._made += 1
        name = f"mlmd_{self._made}"
        self.make_database(name)
        address = {"host": "127.0.0.1", "port": self.port, "database": name, "user": USER, "password_env": PASSWORD_ENV}
        return {"kind": self.kind, **address, **changed}


class MariaDB(DatabaseServer):
    """MariaDB, as Debian has it."""

    kind = "mysql"
    system_user = "mysql"

    def initialise(self) -> None:
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal"]
        assert self.as_system_user(command, stderr=subprocess.DEVNULL).wait(60) == 0
        setup = self.folder / "setup.sql"
        setup.write_text(f"ALTER USER root@localhost IDENTIFIED BY '{ADMIN_PASSWORD}';\n")
        self.options = (f"--init-file={setup}",)

    def command(self) -> list[str]:
        quick = ["--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=2", "--performance-schema=OFF"]
        where = [f"--datadir={self.data}", f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"]
        net = ["--bind-address=127.0.0.1", f"--port={self.port}"]
        return [str(self.program), "--no-defaults", *where, *net, *quick, *self.options]

    def admin(self, *statements: str, database: str | None = None) -> None:
        with pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="root",
            password=ADMIN_PASSWORD,
            database=database,
            autocommit=True,
        ) as connection:
            for statement in statements:
                connection.cursor().execute(statement)

    def make_database(self, name: str) -> None:
        self._make_user(USER)
        self.admin(f"CREATE DATABASE {name} CHARACTER SET utf8mb4", f"GRANT ALL ON {name}.* TO {USER}@'%'")

    def new_user(self) -> str:
        self._users += 1
        self._make_user(f"user_{self._users}")
        return f"user_{self._users}"

    def _make_user(self, name: str) -> None:
        secret = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        self.admin(f"CREATE USER IF NOT EXISTS {name}@'%' IDENTIFIED BY '{secret}'")


class PostgreSQL(DatabaseServer):
    """PostgreSQL, as Debian has it."""

    kind = "postgresql"
    system_user = "postgres"

    def initialise(self) -> None:
        secret = self.folder / "admin"
        secret.write_text(ADMIN_PASSWORD)
        command = [str(self.program.with_name("initdb")), "-D", str(self.data), "-U", "admin", f"--pwfile={secret}"]
        command += ["-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        assert self.as_system_user(command, stderr=subprocess.DEVNULL).wait(60) == 0

    def command(self) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder, "fsync": "off"}
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [str(self.program), "-D", str(self.data), "-p", str(self.port), *flags]

    def admin(self, *statements: str, database: str | None = None) -> None:
        with contextlib.closing(
            pg8000.native.Connection(
                "admin", host="127.0.0.1", port=self.port, password=ADMIN_PASSWORD, database=database or "postgres"
            )
        ) as connection:
            for statement in statements:
                connection.run(statement)

    def make_database(self, name: str) -> None:
        if self._made == 1:
            self._make_user(USER)
        self.admin(f"CREATE DATABASE {name} OWNER {USER}")

    def new_user(self) -> str:
        self._users += 1
        self._make_user(f"user_{self._users}")
        return f"user_{self._users}"

    def _make_user(self, name: str) -> None:
        secret = PASSWORD.replace("'", "''")
        self.admin(f"CREATE USER {name} PASSWORD '{secret}'")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _program(kind: type[DatabaseServer]) -> Path | None:
    if kind is MariaDB:
        path = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
        return Path(path) if path and shutil.which("mariadb-install-db") else None
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return programs[-1] if programs else None


def _running(kind: type[DatabaseServer]) -> Iterator[DatabaseServer]:
    program = _program(kind)
    if program is None:
        problem = f"{kind.__name__} is not installed (apt-get install mariadb-server postgresql)"
        if os.environ.get(REQUIRED):
            pytest.fail(problem)
        pytest.skip(problem)
    # Not below pytest's own folder, which other users cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="database-"))
    if os.geteuid() == 0:
        shutil.chown(folder, kind.system_user)
    server = kind(folder, program)
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[DatabaseServer]:
    yield from _running(MariaDB)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[DatabaseServer]:
    yield from _running(PostgreSQL)


@pytest.fixture(params=["mariadb", "postgresql"])
def database_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> DatabaseServer:
    """Return each of the two servers; the password is in the environment, as it is for a run."""
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    server: DatabaseServer = request.getfixturevalue(request.param)
    return server
