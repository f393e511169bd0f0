"""The filter of runs, by the query string of the first page."""

import re
import time

import pytest

from oncall.web.run_filter import RunFilter
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
