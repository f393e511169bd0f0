"""The pages in a real browser, made of hostile strings: nothing of theirs runs or is fetched, all can be read and reached."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from playwright.sync_api import Page
from tensorflow_metadata.proto.v0 import statistics_pb2

from oncall.local.run_store import LocalRunStore
from pipeline.run.records import RecordFile
from serving.registry import Candidate
from tests.browser import needs_browser, open_page
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import GRAPH, Runs
from tests.oncall.test_cli import FIRST, SECOND
from tests.oncall.traffic_logs import write_log
from tests.oncall.web.conftest import Site

pytestmark = [needs_browser, pytest.mark.proof]

BAD = """"'><script>document.title='owned'</script><img src=x onerror="document.title='owned'"><style>*{display:none}</style>"""
LONG = "x" * 300
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
PAGES = (
    "/",
    "/?text=%3Cscript%3E",
    "/?version=x",
    "/versions",
    f"/runs/{FIRST}",
    f"/runs/{SECOND}",
    "/trends",
    "/drift",
    "/outcomes",
    "/traffic",
    "/compare",
    f"/compare?a={FIRST}&b={SECOND}",
    f"/rows?run={FIRST}&slice=%3Cscript%3E",
    f"/live/{FIRST}",
    "/artifacts/v1",
    "/nothing",
)

# Of each text that is shown, what it has of WCAG's contrast; https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRAST = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const box = e.tagName === "g" ? e.querySelector("rect") : null;
      const color = parse(box ? getComputedStyle(box).fill : getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || ["title", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const ink = light(parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color)), paper = light(behind(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    found.push([ratio, walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""
OPEN = "document.querySelectorAll('details').forEach(e => e.open = true)"


@pytest.fixture
def hostile(runs: Runs, tmp_path: Path) -> Runs:
    """Two runs, the second failed, with hostile strings wherever a page takes one from."""
    made = runs.run(FIRST, log=BAD)
    runs.run(SECOND, fails=("Trainer", f"ValueError: {BAD} {LONG}\n{BAD}", 1), log=f"error: {BAD}\n{LONG}\n")
    store = LocalRunStore(runs.root.path)
    for run_id in (FIRST, SECOND):
        record = store.read_record(run_id)
        assert record is not None
        record.host, record.user, record.command = BAD, BAD, ["local_runner.py", BAD, LONG]
        record.config[BAD] = {BAD: [BAD, LONG]}
        record.config["features"] = {**record.config["features"], BAD: {"kind": "hash"}, LONG: {"kind": "numeric"}}
        record.config["monitoring"] = {"request_log": str(tmp_path / "log")}
        record.summary[BAD] = BAD
        RecordFile(runs.root, record)
    statistics = Path(made["StatisticsGen"]["statistics"].uri) / "Split-train" / "FeatureStats.pb"
    statistics.write_bytes(_statistics())
    metrics = {"overall": {"auc": 0.9}, BAD: {"auc": 0.8, BAD: 0.5}, LONG: {"auc": float("inf")}}
    summary = {"metrics": metrics, "failures": [BAD], "baseline": {"overall": {"auc": 0.91}}}
    summary |= {"intervals": {"overall": {"auc": [0.88, 0.92]}}, "plots": _plots()}
    summary |= {"changes": {"overall": {"auc": [-0.01, -0.02, -0.001]}}}
    (Path(made["Evaluator"]["evaluation"].uri) / "summary.json").write_text(json.dumps(summary))
    (Path(made["Gate"]["report"].uri)).write_text(json.dumps({"warnings": [BAD, LONG], "compared": {BAD: 1}}))
    _hostile_metadata(runs)
    runs.registry.push(
        Candidate("census-income", run_id=BAD, model_id=1, folder=Path(made["Trainer"]["model"].uri) / "Format-Serving")
    )
    runs.registry.roll_back(1, reason=f"{BAD} {LONG}")
    texts = [f"{BAD} {number % 3} {LONG}" for number in range(300)]
    rows = pa.table({BAD: texts, LONG: range(300)})
    write_log(tmp_path / "log", rows, outputs={BAD: texts}, errors=[BAD, LONG])
    return runs


def _plots() -> dict[str, Any]:
    confusion = {"classes": [BAD, LONG], "rows": [[3.0, 1.0], [2.0, 4.0]]}
    return {"roc": [[1, 1], [0.2, 0.9], [0, 0]], "calibration": [[0.1, 0.2], [0.9, 0.8]], "confusion": confusion}


def _statistics() -> bytes:
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    data = statistics.datasets.add(name=BAD, num_examples=10)
    text = data.features.add(name=BAD, type=statistics_pb2.FeatureNameStatistics.STRING).string_stats
    text.common_stats.num_non_missing = text.common_stats.tot_num_values = 10
    for value in (BAD, LONG, ""):
        text.rank_histogram.buckets.add(label=value, sample_count=3)
    number = data.features.add(name=LONG).num_stats
    number.common_stats.num_non_missing = 10
    number.min, number.max, number.mean = float("-inf"), float("inf"), float("nan")
    return statistics.SerializeToString()


def _hostile_metadata(runs: Runs) -> None:
    """Add one more component to the first run, whose name and artifact are hostile."""
    store = runs.store
    artifact = mlmd.Artifact(type_id=store.put_artifact_type(mlmd.ArtifactType(name=BAD)), uri=f"{BAD}://{LONG}")
    artifact.custom_properties[BAD].string_value = f"{BAD}\x00\x1b[31m\u202e{LONG}"
    execution = mlmd.Execution(
        type_id=store.put_execution_type(mlmd.ExecutionType(name=BAD)), last_known_state=mlmd.Execution.COMPLETE
    )
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    event.path.steps.add().key = BAD
    node = mlmd.Context(type_id=store.put_context_type(mlmd.ContextType(name="node")), name=f"census-income.{BAD}")
    run = store.get_context_by_type_and_name("pipeline_run", FIRST)
    store.put_execution(execution, [(artifact, event)], [run, node], True)


def _is_unharmed(page: Page) -> None:
    assert page.title() != "owned"
    assert page.locator("main script, main img, main style, main iframe").count() == 0
    assert page.locator("h1").is_visible()


def _has_no_faults(page: Page, wrong: list[str], path: str) -> None:
    # That the answer is a refusal is what the browser reports of it.
    assert [line for line in wrong if "404" not in line] == [], path
    _is_unharmed(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth"), path
    assert page.locator("main").count() == page.locator("h1").count() == 1
    texts = page.evaluate(CONTRAST)
    assert len(texts) > 5
    assert [text for text in texts if text[0] < 4.5] == [], path


@pytest.mark.parametrize(
    "context", [DESKTOP, PHONE, {**PHONE, "color_scheme": "dark"}], ids=["desktop", "phone", "dark"]
)
def test_every_page_is_whole_and_readable(context: dict[str, Any], hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/", **context) as (page, wrong):
        for path in PAGES:
            page.goto(site.url + path)
            page.evaluate(OPEN)
            _has_no_faults(page, wrong, path)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 28)"
        assert dark == (context.get("color_scheme") == "dark")


def test_ids_and_short_words_keep_on_one_line(hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/", **DESKTOP) as (page, _):
        cells = page.locator("section:last-of-type :is(th.id, td[data-is=pushed]), td[data-is=run]")
        lines = cells.evaluate_all(
            "all => all.map(e => { const r = document.createRange(); r.selectNodeContents(e);"
            " return [e.innerText, new Set([...r.getClientRects()].map(b => b.top)).size]; })"
        )
        assert [FIRST, 1] in lines and ["version 1", 1] in lines
        # The run of the hostile version is not an id.
        assert [text for text, number in lines if number > 1 and text != BAD] == []


def test_a_runs_page_has_all_its_parts(hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/runs/{FIRST}", **DESKTOP) as (page, _):
        page.evaluate(OPEN)
        assert page.locator(".timeline .bar").count() == 12
        steps = page.get_by_role("list", name="Timeline").get_by_role("listitem")
        assert [text.split()[0] for text in steps.all_inner_texts()] == [*GRAPH]
        # Its artifacts, and the hostile one; resolvers have none.
        assert page.locator("svg.lineage .box.artifact").count() == 14
        assert page.locator("svg.lineage .edge").count() > 20
        assert BAD in page.locator(".feature h3").all_text_contents()
        # A bar for each text; of the number nothing was counted.
        assert page.locator(".feature svg rect").count() == 3
        assert page.get_by_text("No value was counted.").count() == 1
        assert page.get_by_role("cell", name="0.9000 0.8800 to 0.9200 -0.0100 worse").count() == 1
        for heading in ("Components", "Metrics by slice", "Data and drift", "Lineage", "Config"):
            assert page.get_by_role("region", name=heading, exact=True).count() >= 1, heading
        page.get_by_text("The artifacts as a table").click()
        page.get_by_role("link", name="Model ").first.click()
        assert page.url.startswith(f"{site.url}/artifacts/")
        assert page.get_by_role("heading", name="Made from").is_visible()


def test_all_of_it_can_be_reached_by_keyboard(hostile: Runs, site: Site) -> None:
    focused = "document.activeElement"
    with open_page(f"{site.url}/runs/{SECOND}", **DESKTOP) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate(f"{focused}.textContent") == "Skip to the content"
        assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        assert page.evaluate(f"{focused}.id") == "main"
        seen: list[str] = []
        for _ in range(60):
            page.keyboard.press("Tab")
            name = page.evaluate(f"{focused}.tagName")
            seen.append(name)
            if name == "BODY":
                break
            visible = page.evaluate(
                f"(e => getComputedStyle(e).outlineStyle !== 'none' || !!e.closest('.lineage'))({focused})"
            )
            assert visible, page.evaluate(f"{focused}.outerHTML")
            if name == "SUMMARY":
                was_open = page.evaluate(f"{focused}.parentElement.open")
                page.keyboard.press("Enter")
                assert page.evaluate(f"{focused}.parentElement.open") is not was_open
        assert {"A", "a", "SUMMARY", "DIV"} <= set(seen)


def test_the_report_is_the_same_without_a_server(hostile: Runs, oncall: Oncall) -> None:
    for run_id in (FIRST, SECOND):
        assert oncall("report", run_id).exit_code == 0
        file = hostile.root.path / "reports" / f"run-{run_id}.html"
        for context in (DESKTOP, {**PHONE, "color_scheme": "dark"}):
            with open_page(f"file://{file}", offline=True, **context) as (page, wrong):
                _has_no_faults(page, wrong, str(file))
                assert page.get_by_role("heading", name="The serving version").is_visible()
                page.locator("svg.lineage a").first.click()
                assert page.locator(":target").count() == 1


def test_a_run_fits_three_screens(hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/runs/{FIRST}", viewport={"width": 1440, "height": 900}) as (page, _):
        assert page.evaluate("document.documentElement.scrollHeight") <= 3 * 900


def test_without_script_all_is_there_but_refresh_and_copy(hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/", **DESKTOP, java_script_enabled=False) as (page, _):
        assert page.locator("button.copy:visible").count() == 0
        page.get_by_label("state").select_option("FAILED")
        page.get_by_role("button", name="Filter").click()
        assert page.locator("th.id a").all_text_contents() == [SECOND]
        page.get_by_role("link", name="Compare").click()
        page.get_by_label("A: a run").fill(FIRST)
        page.get_by_label("B: a run").fill(SECOND)
        page.get_by_role("button", name="Compare").click()
        assert page.get_by_role("heading", name="What changed").is_visible()
        # Sections unfold without a script.
        page.get_by_text("Data: the features of train").click()


def test_every_page_leads_home(hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/", **DESKTOP) as (page, _):
        for path in PAGES:
            page.goto(site.url + path)
            page.get_by_role("link", name="On call", exact=True).click()
            assert page.url == f"{site.url}/", path


def test_a_command_is_copied(hostile: Runs, site: Site) -> None:
    with open_page(f"{site.url}/runs/{SECOND}", **DESKTOP, permissions=["clipboard-read", "clipboard-write"]) as (
        page,
        wrong,
    ):
        button = page.get_by_role("button", name="Copy the ID of the run")
        button.click()
        page.wait_for_function("text => document.querySelector('button.copy').textContent === text", arg="copied")
        assert page.evaluate("navigator.clipboard.readText()") == SECOND
        assert wrong == []


def test_a_running_run_refreshes_itself_and_shows_its_end(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    epoch = "epoch 2 of 6: loss 0.3, val_auc 0.9"
    with runs.root.lock():
        runs.run(SECOND, crashes_in="Trainer", log=f"epoch 1 of 6: loss 0.4, val_auc 0.8\n{BAD}\n")
        store = LocalRunStore(runs.root.path)
        record = store.read_record(SECOND)
        assert record is not None
        with open_page(f"{site.url}/runs/{SECOND}", **DESKTOP) as (page, wrong):
            assert "7 of 12 components have ended; in Trainer for" in page.locator("#live").inner_text()
            assert "epoch 1 of 6 has ended" in page.locator("#live").inner_text()
            assert BAD in page.locator("#live pre").inner_text()
            page.evaluate("window.unchanged = true")
            with runs.root.locate_log(SECOND).open("a") as log:
                log.write(f"{epoch}\n")
            page.get_by_text("epoch 2 of 6 has ended").wait_for()
            assert page.locator("#live svg.chart").count() == 2
            # Only this part was exchanged.
            assert page.evaluate("window.unchanged")
            file = RecordFile(runs.root, record)
            file.on_node_end("Trainer", "failed", "ValueError: no luck")
            file.end(exit_code=1, error="ValueError: no luck", reason="", summary={})
            page.get_by_role("heading", name="FAILED in Trainer, exit code 1").wait_for()
            assert page.locator("[data-refresh]").count() == 0
            assert wrong == []
