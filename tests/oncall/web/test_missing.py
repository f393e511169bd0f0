"""What is gone, damaged or unreadable is said in its place; the rest of the page is there, and nothing is a traceback."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.errors import DataError
from pipeline.run.local import record_rejection
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import FIRST, SECOND
from tests.oncall.web.conftest import Site, Text

pytestmark = pytest.mark.integration


def test_a_crashed_run(runs: Runs, text: Text) -> None:
    runs.run(FIRST, crashes_in="StatisticsGen", log="counting\n")
    shown = text(f"/runs/{FIRST}")
    assert "CRASHED in StatisticsGen" in shown
    assert "From its log counting" in shown
    assert f"python -m oncall resume {FIRST}" in shown
    assert "StatisticsGen cut off" in shown
    assert "Pusher not reached" in shown
    assert "The gate: not reached" in shown
    assert "The run did not reach it: Evaluator has not ended." in shown
    assert "The run did not reach it: StatisticsGen has not ended." in shown


def test_deleted_artifacts(runs: Runs, text: Text) -> None:
    made = runs.run(FIRST)
    shutil.rmtree(runs.root.artifacts)
    shown = text(f"/runs/{FIRST}")
    assert "SUCCEEDED" in shown
    assert "Evaluator complete in" in shown
    assert f"{made['StatisticsGen']['statistics'].uri}: holds no statistics; were they deleted?" in shown
    assert f"{made['Evaluator']['evaluation'].uri}: holds no summary.json that can be read; was it deleted?" in shown
    assert shown.count("its files are gone") > 12
    assert "NOT ok" not in text("/")


def test_a_run_that_was_refused_since(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    record_rejection(runs.root, "census-income", DataError("/data/train.csv: no such file"), ["local_runner.py"])
    for path in ("/", "/runs/latest"):
        shown = text(path)
        assert "no run was started, exit code 3: /data/train.csv: no such file" in shown
        assert "python local_runner.py --dry-run" in shown
    assert "NOT ok: 1 of 5 checks" in text("/")


def test_a_damaged_record(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    runs.root.record(FIRST).write_text('{"run_id": 3}')
    for path in ("/", f"/runs/{FIRST}"):
        shown = text(path)
        assert "UNKNOWN" in shown
        assert f"{FIRST}.json: is damaged: run_id: Input should be a valid string" in shown


@pytest.mark.parametrize("moment", ["1e300", "-1e300", '"inf"', '"nan"', "0"])
def test_a_record_with_impossible_times(moment: str, runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    file = runs.root.record(FIRST)
    file.write_text(re.sub(r'"(started|ended)": [\d.]+', rf'"\1": {moment}', file.read_text()))
    for path in ("/", f"/runs/{FIRST}"):
        assert FIRST in text(path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:20_000]), "is truncated (20,000 bytes of"),
        (lambda file: file.write_bytes(b""), "is empty; restore it from a backup"),
        (lambda file: file.write_bytes(b"no database " * 1000), "is not an SQLite database"),
        (lambda file: file.unlink(), "metadata.sqlite: there is none; is --run-root right?"),
    ],
)
def test_an_unreadable_database_takes_nothing_else_away(harm: object, said: str, runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Trainer", "ValueError: too small", 1))
    assert callable(harm)
    harm(runs.root.metadata)
    shown = site.get(f"/runs/{SECOND}")
    assert (shown.code, said in shown.text) == (200, True), shown.text
    assert "Trainer: ValueError: too small" in shown.text
    assert "Trainer failed in" in shown.text
    start = site.get("/")
    assert start.code == 200
    assert "Version 1 of census-income serves since" in start.text
    assert f"{SECOND} FAILED" in start.text
    artifact = site.get("/artifacts/1")
    assert (artifact.code, said in artifact.text) == (503, True)
    assert "<h1>Service Unavailable</h1>" in artifact.html


def test_a_locked_database_is_said_to_be_locked(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    with closing(sqlite3.connect(runs.root.metadata)) as database:
        database.execute("BEGIN EXCLUSIVE")
        shown = site.get(f"/runs/{FIRST}")
    assert shown.code == 200
    assert "is locked by another process; try again in a moment" in shown.text
    assert "SUCCEEDED" in shown.text


def test_no_registry_and_a_damaged_one(runs: Runs, text: Text) -> None:
    runs.run(FIRST, pushes=False)
    assert "No version of census-income serves." in text("/")
    runs.run(SECOND)
    (runs.registry.folder / "registry.json").write_text("{")
    for path in ("/", "/versions"):
        assert "registry.json: is damaged" in text(path), path


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe{[", b'{"metrics": 3}', b"[]", b'{"metrics": {"a": {"b": "c"}}}', None]
)
def test_no_damaged_file_is_a_traceback(content: bytes | None, runs: Runs, site: Site) -> None:
    """All files of a run, each damaged alone; and then all of them."""
    runs.run(FIRST)
    files = [f for f in sorted(runs.root.path.rglob("*")) if f.is_file() and f.name not in ("metadata.sqlite", "data")]
    assert {
        "summary.json",
        "FeatureStats.pb",
        "SchemaDiff.pb",
        "schema.pbtxt",
        "value",
        "registry.json",
        "release.json",
    } <= {file.name for file in files}
    for file in [*files, None]:
        harmed = {one: one.read_bytes() for one in ([file] if file is not None else files)}
        for one in harmed:
            _harm(one, content)
        for path in (f"/runs/{FIRST}", *(("/", "/versions", "/artifacts/v1") if _is_shared(file) else ())):
            got = site.get(path)
            assert got.code in (200, 404, 503), (file, path, got.text)
            assert "Traceback" not in got.text
        for one, before in harmed.items():
            one.write_bytes(before)


def _harm(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def _is_shared(file: Path | None) -> bool:
    return file is None or "registry" in file.parts or "records" in file.parts
