"""The folder of a pipeline's runs."""

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from cli.errors import RunRootError
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import locks
from pipeline.run.run_root import RunRoot, generate_run_id


def test_two_runs_cannot_share_a_run_root_at_once(tmp_path: Path) -> None:
    with (
        RunRoot(tmp_path).lock(),
        pytest.raises(RunRootError, match="another run is using it"),
        RunRoot(tmp_path).lock(),
    ):
        pass
    with RunRoot(tmp_path).lock():
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_run_root_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunRootError, match="cannot be written: Permission denied"), RunRoot(tmp_path).lock():
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_its_place_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("mine")
    with pytest.raises(RunRootError, match="artifacts: cannot be written: File exists"), RunRoot(tmp_path).lock():
        pass
    assert (tmp_path / "artifacts").read_text() == "mine"


def test_temporary_files_of_a_killed_run_go_with_the_next_and_the_callers_folder_is_his_again(tmp_path: Path) -> None:
    root, before = RunRoot(tmp_path / "run"), tempfile.gettempdir()
    left = root.path / "temp" / "left"
    left.mkdir(parents=True)
    with root.redirect_temporary_files():
        assert not left.exists()
        with tempfile.NamedTemporaryFile(delete=False) as file:
            assert Path(file.name).parent == left.parent
        assert os.environ["TMPDIR"] == str(left.parent)
    assert not left.parent.exists()
    assert tempfile.gettempdir() == before
    assert os.environ.get("TMPDIR", before) == before


def test_run_ids_sort_by_time() -> None:
    ids = [generate_run_id() for _ in range(20)]
    assert ids == sorted(ids)


def _killed_while_it_writes(database: Path) -> None:
    """Write half a change to the disk, as a process does that is killed inside a transaction."""
    program = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size=1')\n"
        "database.execute('BEGIN')\n"
        "database.executemany('INSERT INTO known VALUES (?)', [('x' * 500,)] * 1000)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    SQLiteFile(database).open_store(writable=True)
    with closing(sqlite3.connect(database)) as made, made:
        made.execute("CREATE TABLE known (text)")
        made.executemany("INSERT INTO known VALUES (?)", [("y" * 500,)] * 1000)
    subprocess.run([sys.executable, "-c", program, str(database)], check=False)
    assert database.with_name(f"{database.name}-journal").stat().st_size > 0


def test_what_a_killed_run_left_half_written_is_taken_back(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    _killed_while_it_writes(root.metadata)
    with root.lock(), closing(sqlite3.connect(root.metadata)) as database:
        assert database.execute("SELECT DISTINCT substr(text, 1, 1), count(*) FROM known").fetchall() == [("y", 1000)]


def test_a_database_that_another_process_holds_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LIMIT_SECONDS", 0)
    root = RunRoot(tmp_path)
    SQLiteFile(root.metadata).open_store(writable=True)
    with closing(sqlite3.connect(root.metadata, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunRootError, match="is locked by another process"), root.lock():
            pass


def test_a_truncated_database_is_called_so_by_whoever_reads_and_whoever_runs(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    with root.lock():
        pass
    root.metadata.write_bytes(root.metadata.read_bytes()[:5000])
    with pytest.raises(RunRootError) as read:
        root.database.check()
    with pytest.raises(RunRootError) as run, root.lock():
        pass
    assert "is truncated (5,000 bytes of " in str(read.value)
    assert str(run.value) == str(read.value)
