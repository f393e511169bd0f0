"""The markup of every page: whole, escaped, without anything of another host, and with a way home."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from markupsafe import escape
from tensorflow_metadata.proto.v0 import statistics_pb2

from oncall.local.run_store import LocalRunStore
from oncall.web import rendering
from oncall.web.run_page import read_run_page
from oncall.web.sections import Section
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import FIRST, SECOND
from tests.oncall.traffic_logs import set_log, write_log
from tests.oncall.web.conftest import Site

BAD = "<script>alert('x')</script>"
PAGES = (
    "/",
    "/?text=%22%3E%3Cscript%3Ealert('x')&state=FAILED",
    f"/runs/{FIRST}",
    f"/runs/{SECOND}",
    f"/live/{FIRST}",
    "/trends",
    "/trends?slice=%3Cscript%3Ealert",
    "/drift",
    "/outcomes",
    "/traffic",
    "/traffic?since=%3Cscript%3Ealert('x')&version=%22%3E%3Cscript%3Ealert('x')",
    "/compare",
    f"/compare?a={FIRST}&b={SECOND}",
    "/compare?a=%22%3E%3Cscript%3Ealert('x')&b=%22%3E%3Cscript%3Ealert('x')",
    "/versions",
    f"/rows?run={FIRST}&slice=%3Cscript%3Ealert",
    "/artifacts/1",
    "/artifacts/v1",
    "/nothing%3Cscript%3E",
)
# https://html.spec.whatwg.org/multipage/syntax.html#void-elements
_VOID = {"meta", "link", "input", "br"}


class _Checker(HTMLParser):
    """Collects the faults of a document, and its IDs, references and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self._open.append(tag)
        self._read(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(tag, attrs)

    def _read(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len({*names}) < len(names):
            self.faults.append(f"{tag}: an attribute twice: {names}")
        for name, value in attrs:
            if name.startswith("on") or name == "style":
                self.faults.append(f"{tag}: {name}={value}")
            if name == "id":
                self.ids.append(value or "")
            if name in ("aria-labelledby", "for", "list") or (name == "href" and (value or "").startswith("#")):
                self.references.append((value or "").removeprefix("#"))
            elif name in ("href", "src", "action", "data-refresh"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing at {self.getpos()}")

    def finish(self) -> "_Checker":
        self.close()
        self.faults += [f"<{tag}> is open" for tag in self._open]
        self.faults += [f"id '{name}' twice" for name in {*self.ids} if self.ids.count(name) > 1]
        self.faults += [f"'{name}' is not an id" for name in self.references if name not in self.ids]
        return self


def _check(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    return checker.finish()


@pytest.fixture
def odd_runs(runs: Runs, tmp_path: Path) -> Runs:
    """Make two runs with a column, a slice, a config key and traffic named like a script."""
    for run_id in (FIRST, SECOND):
        made = runs.run(run_id, overrides={"config": {"features": {BAD: {"kind": run_id}}, "training": {"epochs": 3}}})
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        column = statistics.datasets.add(name="train", num_examples=9).features.add(name=BAD)
        column.type = statistics_pb2.FeatureNameStatistics.STRING
        common = column.string_stats.common_stats
        common.num_non_missing = common.tot_num_values = 9
        column.string_stats.rank_histogram.buckets.add(label=BAD, sample_count=9)
        file = Path(made["StatisticsGen"]["statistics"].uri) / "Split-train" / "FeatureStats.pb"
        file.write_bytes(statistics.SerializeToString())
        summary = {
            "metrics": {"overall": {"auc": 0.9, BAD: 1.0}, f"sex={BAD}": {"auc": 0.8}},
            "plots": {"roc": [[0, 0], [1, 1]], "confusion": {"classes": [BAD, "b"], "rows": [[1, 2], [3, 4]]}},
        }
        (Path(made["Evaluator"]["evaluation"].uri) / "summary.json").write_text(json.dumps(summary))
    runs.registry.roll_back(1, reason=BAD)
    rows = pa.table({BAD: [f"{BAD} {number % 3}" for number in range(300)]})
    write_log(log := tmp_path / "log", rows, outputs={BAD: [0.5] * 300}, errors=[BAD])
    set_log(runs, SECOND, log)
    return runs


def test_every_page_is_whole_escaped_and_leads_home(odd_runs: Runs, site: Site) -> None:
    for path in PAGES:
        html = site.get(path).html
        checker = _check(html)
        assert checker.faults == [], path
        # Each address is this server's.
        assert [a for a in checker.addresses if not re.match(r"/(?!/)|data:,$", a)] == [], path
        assert "/" in checker.addresses
        # The page's own script is the only one.
        assert html.count("<script>") == html.count("</script>") == 1, path
        assert "alert('" not in html


def test_a_column_named_like_a_script_is_shown_as_it_is(odd_runs: Runs, site: Site) -> None:
    for path in (f"/runs/{FIRST}", f"/compare?a={FIRST}&b={SECOND}", "/traffic"):
        assert f"<h3>{escape(BAD)}</h3>" in site.get(path).html


def test_a_file_has_no_script_and_its_policy_allows_none(odd_runs: Runs) -> None:
    view = read_run_page(LocalRunStore(odd_runs.root.path), FIRST)
    not_read = Section(problem="not read")
    html = rendering.render("run.html.j2", offline=True, root=Path(), view=view, checks=not_read, registry=not_read)
    checker = _check(html)
    assert (checker.faults, checker.addresses) == ([], ["data:,"])
    assert "<script" not in html
    assert "script-src" not in html and "form-action &#39;none&#39;" in html


def test_a_running_run_has_the_parts_that_refresh(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    with runs.root.lock():
        runs.run(SECOND, crashes_in="Trainer", log="epoch 3 of 9: loss 0.3, val_auc 0.9\n")
        page = site.get(f"/runs/{SECOND}")
        live = site.get(f"/live/{SECOND}")
    for got in (page, live):
        assert got.html.count(f'id="live" data-refresh="/live/{SECOND}"') == 1
        assert "7 of 12 components have ended; in Trainer for" in got.text
        assert re.search(r"\(usually \d+\.\d s\), epoch 3 of 9 has ended", got.text)
        assert "Last lines of its log epoch 3 of 9: loss 0.3, val_auc 0.9" in got.text
        assert _check(got.html).faults == []
    # It has ended: nothing refreshes any more.
    assert "data-refresh" not in site.get(f"/runs/{FIRST}").html.partition("<script>")[0]
