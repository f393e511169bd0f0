"""The page of live traffic: findings first, histograms of both sides, and why there is nothing to show."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.oncall.run_roots import Runs
from tests.oncall.traffic_logs import HOUR, replace, rows_of_test, set_log, train, write_log
from tests.oncall.web.conftest import Site, Text

FIRST = "20260101T000000.000000"


@pytest.fixture
def log(runs: Runs, tmp_path: Path) -> Path:
    train(runs.run(FIRST))
    set_log(runs, FIRST, tmp_path / "log")
    return tmp_path / "log"


def test_findings_come_first_and_both_sides_are_drawn(runs: Runs, log: Path, text: Text, site: Site) -> None:
    rows = rows_of_test(600)
    rows = replace(rows, "hours_per_week", pc.multiply(rows.column("hours_per_week"), 4))
    rows = replace(rows, "education", pa.array([*["Bootcamp"] * 30, *rows.column("education").to_pylist()[30:]]))
    random = np.random.default_rng(0)
    write_log(log, rows, outputs={"probability": random.beta(4, 2, 600)}, errors=["age: expected a number"] * 2)
    write_log(log, rows_of_test(300), name="2", ago=80 * HOUR, outputs={"probability": random.beta(2, 4, 300)})
    page = text("/traffic")
    assert (
        "hours_per_week, education differ from the training data; probability differs from earlier predictions" in page
    )
    assert "education : new values in 5.0% of the rows: 'Bootcamp' (30)" in page
    assert "training: 32,561 rows live: 600 rows" in page
    assert "rejected 2 of no version: age: expected a number" in page
    assert "compared with the first day of version 1 in the log" in page
    html = site.get("/traffic").html
    assert html.index("<h3>hours_per_week</h3>") < html.index("<h3>education</h3>") < html.index("<h3>age</h3>")
    picture = html[html.index("<h3>hours_per_week</h3>") : html.index("<h3>education</h3>")]
    assert picture.count('class="c0 linear"') == picture.count('class="c1 linear"') > 5
    assert "NOT ok" in text("/") and "live traffic NOT ok 600 rows of version 1" in text("/")
    assert '<a href="/traffic" aria-current="page">Live traffic</a>' in html


def test_the_window_and_the_version_are_chosen_in_the_form(log: Path, text: Text) -> None:
    write_log(log, rows_of_test(300), ago=50 * HOUR)
    assert "no rows of version 1 since" in text("/traffic")
    assert "300 rows of version 1 since" in text("/traffic?since=3d&version=1")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "there is no such folder; a server writes one with --log-requests"),
        ("?since=soon", "--since soon: expected a duration such as"),
        ("?version=first", "version 'first': is not a number; expected one such as 2"),
        ("?version=9", "has no version 9; its versions: 1"),
    ],
)
def test_what_cannot_be_shown_is_one_line(log: Path, text: Text, query: str, message: str) -> None:
    assert message in text(f"/traffic{query}")
