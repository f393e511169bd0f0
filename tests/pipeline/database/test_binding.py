"""One run root, one database: what does not belong together is refused in one line, and nothing is written."""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from cli.errors import RunRootError
from oncall.local.metadata import LocalMetadata
from pipeline.database.binding import FILE
from pipeline.database.config import SQLite
from pipeline.run.run_root import RunRoot
from tests.database_servers import DatabaseServer
from tests.oncall.run_roots import Runs
from tests.pipeline.database.test_server import settings

RUN, OTHER = "20260101T000000.000000", "20260102T000000.000000"


def use(folder: Path, values: Any = None) -> None:
    """Lock a run root as a run and `gc` do."""
    with RunRoot(folder).lock(values):
        pass


def catch_error(folder: Path, values: Any = None) -> str:
    """Return what a run is refused with; no file was changed and none added."""
    before = files(folder)
    with pytest.raises(RunRootError) as caught, RunRoot(folder).lock(values):
        pass
    assert files(folder) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def used_root(folder: Path, *run_ids: str) -> RunRoot:
    """Return a run root with runs, bound as its first run has bound it."""
    use(folder)
    runs = Runs(folder)
    for run_id in run_ids or (RUN,):
        runs.run(run_id)
    return runs.root


def execution(root: RunRoot) -> None:
    """Add what any run leaves in ML Metadata."""
    store = root.database.open_store(writable=True)
    store.put_executions([mlmd.Execution(type_id=store.put_execution_type(mlmd.ExecutionType(name="Gate")))])


def test_a_run_root_and_its_database_stay_together(tmp_path: Path) -> None:
    root = used_root(tmp_path / "a")
    bound = root.database.bound_id
    use(root.path, SQLite())
    assert root.database.bound_id == bound
    root.path.rename(tmp_path / "b")
    use(tmp_path / "b")
    assert RunRoot(tmp_path / "b").database.bound_id == bound
    LocalMetadata(RunRoot(tmp_path / "b").database)


def test_a_run_root_of_before_there_were_bindings_is_bound_as_it_is(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.run(RUN)
    LocalMetadata(runs.root.database)
    assert not (tmp_path / FILE).exists()
    use(tmp_path)
    assert runs.root.database.bound_id is not None
    assert [context.name for context in LocalMetadata(runs.root.database).get_run_contexts()] == [RUN]


def test_a_lost_file_is_written_anew(tmp_path: Path) -> None:
    root = used_root(tmp_path)
    bound = root.database.bound_id
    (tmp_path / FILE).unlink()
    use(tmp_path)
    assert root.database.bound_id == bound


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    root = used_root(tmp_path)
    (tmp_path / FILE).write_text('{"id": 5}')
    assert catch_error(tmp_path).startswith(f"{tmp_path / FILE}: is damaged (id: ")
    with pytest.raises(RunRootError, match="is damaged"):
        _ = root.database


def test_no_database_over_artifacts(tmp_path: Path) -> None:
    root = used_root(tmp_path)
    root.metadata.unlink()
    assert "has artifacts but no metadata.sqlite; a fresh database would overwrite them" in catch_error(tmp_path)


def test_a_fresh_database_over_artifacts(tmp_path: Path) -> None:
    root = used_root(tmp_path / "a")
    shutil.copy(used_root(tmp_path / "b", RUN).metadata, root.metadata)
    message = f"{root.metadata}: belongs to the run root {tmp_path / 'b'} on "
    assert catch_error(root.path).startswith(message)
    with pytest.raises(
        RunRootError, match=f"is not the database that this run root is bound to; it is that of {tmp_path / 'b'} on"
    ):
        LocalMetadata(root.database)


def test_a_database_with_tables_and_no_runs_over_artifacts(tmp_path: Path) -> None:
    root = used_root(tmp_path / "a")
    root.metadata.unlink()
    Runs(root.path)
    assert f"is older than {root.path}, which has artifacts of execution 12, and it ends at 0." in catch_error(
        root.path
    )


def test_an_older_backup_over_newer_artifacts(tmp_path: Path) -> None:
    root = used_root(tmp_path / "a")
    shutil.copy(root.metadata, tmp_path / "backup")
    Runs(root.path).run(OTHER)
    shutil.copy(tmp_path / "backup", root.metadata)
    assert f"is older than {root.path}, which has artifacts of execution 24, and it ends at 12." in catch_error(
        root.path
    )


def test_a_database_that_names_no_run_root(tmp_path: Path) -> None:
    root = used_root(tmp_path / "a")
    with closing(sqlite3.connect(root.metadata)) as database, database:
        database.execute("DELETE FROM ContextProperty")
    assert f"is not the database that {root.path} is bound to (it is nobody's)" in catch_error(root.path)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_root_that_is_bound_keeps_its_database_once_there_are_artifacts(
    keeps: bool, database_server: DatabaseServer, tmp_path: Path
) -> None:
    values = settings(database_server.new_database())
    use(tmp_path)
    if keeps:
        (tmp_path / "artifacts" / "Trainer").mkdir()
        message = catch_error(tmp_path, values)
        assert f"is empty, and {tmp_path} has artifacts; it is bound to {tmp_path}/metadata.sqlite" in message
        with RunRoot(tmp_path).lock() as database:
            assert database.label == f"{tmp_path}/metadata.sqlite"
    else:
        use(tmp_path, values)
        assert RunRoot(tmp_path).database.label.startswith(f"{database_server.kind}://")


def test_two_run_roots_cannot_share_a_database(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = settings(database_server.new_database())
    use(tmp_path / "a", values)
    use(tmp_path / "b")
    assert f"belongs to the run root {tmp_path / 'a'} on " in catch_error(tmp_path / "b", values)
    (tmp_path / "c").mkdir()
    with pytest.raises(RunRootError, match=f"belongs to the run root {tmp_path / 'a'} on "):
        use(tmp_path / "c", values)
    assert not (tmp_path / "c" / FILE).exists()


def test_a_copied_run_root_cannot_use_the_originals_database(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = settings(database_server.new_database())
    use(tmp_path / "a", values)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert f"{tmp_path / 'b'}: is a copy of {tmp_path / 'a'}, which has the same database" in catch_error(
        tmp_path / "b"
    )
    shutil.rmtree(tmp_path / "a")
    use(tmp_path / "b")
    use(tmp_path / "b", values)


def test_runs_of_another_product_are_left_alone(database_server: DatabaseServer, tmp_path: Path) -> None:
    values = database_server.new_database()
    use(tmp_path / "a", settings(values))
    execution(RunRoot(tmp_path / "a"))
    database_server.admin("DELETE FROM ContextProperty", database=values["database"])
    with pytest.raises(RunRootError, match="holds runs of another product; a run root needs a database of its own"):
        use(tmp_path / "b", settings(values))


def test_a_database_that_was_emptied_or_restored_behind_the_run_root(
    database_server: DatabaseServer, tmp_path: Path, oncall_at: Callable[[Path], str]
) -> None:
    values = database_server.new_database()
    use(tmp_path, settings(values))
    (tmp_path / "artifacts" / "Trainer" / "model" / "7").mkdir(parents=True)
    assert "which has artifacts of execution 7, and it ends at 0." in catch_error(tmp_path)
    database_server.admin("DELETE FROM ContextProperty", database=values["database"])
    assert "is not the database that this run root is bound to; it is nobody's" in oncall_at(tmp_path)


@pytest.fixture
def oncall_at() -> Callable[[Path], str]:
    """Return what `oncall` says of a run root that it cannot read."""
    from click.testing import CliRunner

    from oncall.__main__ import main

    def call(folder: Path) -> str:
        result = CliRunner().invoke(main, ["lineage", "1", "--run-root", str(folder)])
        assert (result.exit_code, result.output.count("\n")) == (6, 1)
        return result.output

    return call
