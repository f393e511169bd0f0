"""Pages report missing, damaged and unreadable parts in place; the rest is complete, and nothing is a traceback."""

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
    page = text(f"/runs/{FIRST}")
    assert "CRASHED in StatisticsGen" in page
    assert "From its log counting" in page
    assert f"python -m oncall resume {FIRST}" in page
    assert "StatisticsGen cut off" in page
    assert "Pusher not reached" in page
    assert "The gate: not reached" in page
    assert "The run did not reach it: Evaluator has not ended." in page
    assert "The run did not reach it: StatisticsGen has not ended." in page


def test_deleted_artifacts(runs: Runs, text: Text) -> None:
    made = runs.run(FIRST)
    shutil.rmtree(runs.root.artifacts)
    page = text(f"/runs/{FIRST}")
    assert "SUCCEEDED" in page
    assert "Evaluator complete in" in page
    assert f"{made['StatisticsGen']['statistics'].uri}: holds no statistics; were they deleted?" in page
    assert f"{made['Evaluator']['evaluation'].uri}: holds no summary.json that can be read; was it deleted?" in page
    assert page.count("its files are gone") > 12
    assert "NOT ok" not in text("/")


def test_a_run_that_was_refused_since(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    record_rejection(runs.root, "census-income", DataError("/data/train.csv: no such file"), ["local_runner.py"])
    for path in ("/", "/runs/latest"):
        page = text(path)
        assert "no run was started, exit code 3: /data/train.csv: no such file" in page
        assert "python local_runner.py --dry-run" in page
    assert "NOT ok: 1 of 6 checks" in text("/")


def test_a_damaged_record(runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    runs.root.locate_record(FIRST).write_text('{"run_id": 3}')
    for path in ("/", f"/runs/{FIRST}"):
        page = text(path)
        assert "UNKNOWN" in page
        assert f"{FIRST}.json: is damaged: run_id: Input should be a valid string" in page


@pytest.mark.parametrize("moment", ["1e300", "-1e300", '"inf"', '"nan"', "0"])
def test_a_record_with_impossible_times(moment: str, runs: Runs, text: Text) -> None:
    runs.run(FIRST)
    file = runs.root.locate_record(FIRST)
    file.write_text(re.sub(r'"(started|ended)": [\d.]+', rf'"\1": {moment}', file.read_text()))
    for path in ("/", f"/runs/{FIRST}"):
        assert FIRST in text(path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:20_000]), "is truncated (20,000 bytes of"),
        (lambda file: file.write_bytes(b""), "is empty; restore it from a backup"),
        (lambda file: file.write_bytes(b"no database " * 1000), "is not an SQLite database"),
        (lambda file: file.unlink(), "metadata.sqlite: there is none; is --run-root right?"),
    ],
)
def test_an_unreadable_database_takes_nothing_else_away(harm: object, message: str, runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Trainer", "ValueError: too small", 1))
    assert callable(harm)
    harm(runs.root.metadata)
    page = site.get(f"/runs/{SECOND}")
    assert (page.code, message in page.text) == (200, True), page.text
    assert "Trainer: ValueError: too small" in page.text
    assert "Trainer failed in" in page.text
    start = site.get("/")
    assert start.code == 200
    assert "Version 1 of census-income serves since" in start.text
    assert f"{SECOND} FAILED" in start.text
    artifact = site.get("/artifacts/1")
    assert (artifact.code, message in artifact.text) == (503, True)
    assert "<h1>Service Unavailable</h1>" in artifact.html


def test_a_locked_database_is_said_to_be_locked(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    with closing(sqlite3.connect(runs.root.metadata)) as database:
        database.execute("BEGIN EXCLUSIVE")
        page = site.get(f"/runs/{FIRST}")
    assert page.code == 200
    assert "is locked by another process; try again in a moment" in page.text
    assert "SUCCEEDED" in page.text


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
        harmed = {harmed_file: harmed_file.read_bytes() for harmed_file in ([file] if file is not None else files)}
        for harmed_file in harmed:
            _harm(harmed_file, content)
        for path in (f"/runs/{FIRST}", *(("/", "/versions", "/artifacts/v1") if _is_shared(file) else ())):
            got = site.get(path)
            assert got.code in (200, 404, 503), (file, path, got.text)
            assert "Traceback" not in got.text
        for harmed_file, before in harmed.items():
            harmed_file.write_bytes(before)


def _harm(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def _is_shared(file: Path | None) -> bool:
    return file is None or "registry" in file.parts or "records" in file.parts
