"""The filter of runs, by the query string of the first page."""

import re
import time

import pytest

from cli.state_files import write_atomically
from oncall.local.run_store import LocalRunStore
from oncall.run_store import Run
from oncall.web.run_filter import RunFilter
from oncall.web.run_index import RunIndex
from pipeline.run.records import RunRecord
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import FIRST, SECOND
from tests.oncall.web.conftest import Site

THIRD = "20260103T000000.000000"


@pytest.fixture
def three(runs: Runs) -> Runs:
    """Make a push, a run with another config that pushes nothing, and a crash."""
    runs.run(FIRST, overrides={"started": _day("2026-01-01")})
    config = {"training": {"epochs": 9, "batch_size": 128}, "features": {"pet": {"sensitive": True, "values": ["cat"]}}}
    overrides = {"started": _day("2026-01-02"), "config": config, "user": "ada"}
    runs.run(SECOND, overrides=overrides, pushes=False, fails=("Trainer", "ValueError: no luck", 1))
    runs.run(THIRD, overrides={"started": _day("2026-01-03")}, crashes_in="Trainer")
    return runs


def _day(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d")) + 3600


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=FAILED", [SECOND]),
        ("state=CRASHED", [THIRD]),
        ("since=2026-01-02", [THIRD, SECOND]),
        ("until=2026-01-02", [SECOND, FIRST]),
        ("since=2026-01-02&until=2026-01-02", [SECOND]),
        ("version=1", [FIRST]),
        ("version=v1", [FIRST]),
        ("version=7", []),
        ("config=training.epochs%3D9", [SECOND]),
        ("config=epochs%3D9", [SECOND]),
        ("config=epochs", [THIRD, SECOND, FIRST]),
        ("config=pochs%3D9", []),
        # A masked value is not found by asking for it.
        ("config=values%3Dcat", []),
        ("text=no+luck", [SECOND]),
        ("text=ADA", [SECOND]),
        ("text=20260103", [THIRD]),
        ("text=%3Cscript%3E", []),
        ("state=&since=&config=+", [THIRD, SECOND, FIRST]),
    ],
)
def test_runs_are_selected(query: str, expected: list[str], three: Runs, site: Site) -> None:
    page = site.get(f"/?{query}")
    assert page.code == 200
    table = page.html.partition('id="runs"')[2]
    assert re.findall(r'<th scope="row" role="rowheader" class="id"><a href="/runs/([^"]*)">', table) == expected
    if not expected:
        assert "No run matches." in page.text
    assert "<script>alert" not in page.html


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("state=GOOD", "state 'GOOD': expected one of RUNNING, SUCCEEDED"),
        ("since=2026-13-01", "since '2026-13-01': expected a day such as 2026-11-24"),
        ("until=%3Cscript%3E", "until '<script>': expected a day such as 2026-11-24"),
        ("version=best", "version 'best': expected a number such as 3"),
    ],
)
def test_a_value_that_cannot_be_understood_is_one_line(query: str, message: str, three: Runs, site: Site) -> None:
    page = site.get(f"/?{query}")
    assert (page.code, message in page.text) == (200, True)
    assert "<script>'" not in page.html


def test_the_form_keeps_the_filter_and_so_do_the_pages(runs: Runs, site: Site) -> None:
    for number in range(27):
        runs.run(f"20260101T{number:06d}.000000", until="ExampleGen")
    page = site.get("/?text=2026&config=epochs")
    assert 'name="text" type="search" size="18" value="2026"' in page.html
    assert 'href="/?config=epochs&amp;text=2026&amp;page=2#runs"' in page.html
    assert "page 2 of 2, 27 runs" in site.get("/?config=epochs&text=2026&page=2").text


def test_an_empty_filter_reads_no_record() -> None:
    assert RunFilter.parse({"page": "3", "state": " "}).values == {}


def test_a_record_is_read_again_only_if_it_was_written(
    three: Runs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    get_run = LocalRunStore.get_run

    def count(store: LocalRunStore, run_id: str) -> Run:
        reads.append(run_id)
        return get_run(store, run_id)

    monkeypatch.setattr(LocalRunStore, "get_run", count)
    index, selection = RunIndex(), RunFilter(text="grace")

    def select() -> list[str]:
        store = LocalRunStore(three.root.path)
        return [run_id for run_id in (THIRD, SECOND, FIRST) if selection.is_match(index.read(store, run_id))]

    assert select() == []
    assert reads == [THIRD, SECOND, FIRST]
    # The end of a crashed run is known only while nothing holds the lock.
    assert select() == []
    assert reads[3:] == [THIRD]
    file = three.root.locate_record(FIRST)
    record = RunRecord.model_validate_json(file.read_bytes()).model_copy(update={"user": "Grace"})
    write_atomically(file, record.model_dump_json(indent=1))
    assert select() == [FIRST]
    assert reads[4:] == [THIRD, FIRST]
    file.unlink()
    assert select() == []
