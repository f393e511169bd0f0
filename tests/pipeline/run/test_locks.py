"""The holder of a lock is named, and a locked database is waited for."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.run import locks
from pipeline.run.locks import LockedError, describe_processes, find_holders, wait


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "a name with ? and %20.sqlite"
    with closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE known (text)")
        made.execute("INSERT INTO known VALUES ('y')")
    return file


def test_nobody_is_waited_for_where_there_is_no_lock_or_no_database(database: Path, tmp_path: Path) -> None:
    message: list[str] = []
    wait(database, message.append)
    wait(tmp_path / "none", message.append)
    (tmp_path / "text").write_text("not a database, which others say")
    wait(tmp_path / "text", message.append)
    assert message == []


_HOLDS = (
    "import sqlite3, sys\n"
    "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "for statement in sys.argv[2].split(';'):\n"
    "    cursor = database.execute(statement)\n"
    "cursor.fetchone()\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@contextmanager
def _hold(database: Path, how: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds a database until it is killed."""
    command = [sys.executable, "-c", _HOLDS, str(database), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder


@pytest.mark.integration
@pytest.mark.parametrize("how", ["BEGIN EXCLUSIVE", "BEGIN IMMEDIATE", "BEGIN; SELECT * FROM known"])
def test_any_lock_is_waited_for_and_its_holder_is_named(how: str, database: Path) -> None:
    message: list[str] = []
    with _hold(database, how) as holder:
        assert find_holders(database) == {holder.pid}
        waiting = threading.Thread(target=wait, args=(database, lambda text: (message.append(text), holder.kill())))
        waiting.start()
        waiting.join(20)
        assert not waiting.is_alive()
    (line,) = message
    assert line.startswith(
        f"waits for {database}, at most 30 s: it is locked by process {holder.pid} ({sys.executable} -c"
    )


@pytest.mark.integration
def test_a_lock_that_is_held_for_too_long_is_an_error(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LIMIT_SECONDS", 0.3)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LockedError, match="the database is locked by another process, for more than 0.3 s; end it"):
            wait(database, lambda text: None)


def test_what_is_gone_or_elsewhere_is_another_process() -> None:
    assert describe_processes({0}) == "another process"
    assert describe_processes(set()) == "another process"
    assert describe_processes({0, os.getpid()}).startswith(f"process {os.getpid()} (")


@pytest.mark.integration
def test_a_store_waits_in_the_middle_of_a_call(tmp_path: Path) -> None:
    file, message = tmp_path / "metadata.sqlite", list[str]()
    connection = mlmd.ConnectionConfig()
    connection.sqlite.filename_uri = str(file)
    connection.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = ml_metadata.MetadataStore(connection)
    with _hold(file, "BEGIN EXCLUSIVE") as holder:
        locks.make_patient(store, file, lambda text: (message.append(text), holder.kill()))
        assert store.put_artifact_type(mlmd.ArtifactType(name="Model")) > 0
    assert len(message) == 1
