"""Metrics over runs, drift over runs, versions and two runs side by side."""

import json
import re
from pathlib import Path
from typing import Any

from oncall.local.run_store import LocalRunStore
from oncall.web.compare_page import find_side, read_comparison
from oncall.web.drift_page import read_drift
from oncall.web.options import PageOptions
from oncall.web.trends_page import read_trends
from tests.oncall.run_roots import Artifacts, Runs
from tests.oncall.test_cli import FIRST, SECOND
from tests.oncall.web.conftest import Site, Text
from tests.oncall.web.test_run_page import POLICY, _gate, _write, add_input, node

THIRD = "20260103T000000.000000"
CHANGED = {"training": {"epochs": 9}, "evaluation": {"split": "test"}}


def _write_summary(made: Artifacts, **sections: Any) -> None:
    (Path(made["Evaluator"]["evaluation"].uri) / "summary.json").write_text(json.dumps(sections))


def test_metrics_over_runs_mark_pushes_rollbacks_and_thresholds(runs: Runs, site: Site) -> None:
    first = runs.run(FIRST, auc=0.93)
    runs.run(SECOND, auc=0.95)
    runs.run(THIRD, cached=first, pushes=False)
    runs.registry.roll_back(reason="bad at noon")
    store = LocalRunStore(runs.root.path)
    trends = read_trends(store, PageOptions(), "overall")
    assert (trends.slices, trends.problem) == (["overall", "sex=Male"], "")
    # The newest first; the last one reused the evaluation of the first.
    assert [(run.run.run_id, run.version, run.is_reused) for run in trends.runs] == [
        (THIRD, None, True),
        (SECOND, 2, False),
        (FIRST, 1, False),
    ]
    auc = next(chart for chart in trends.charts if chart.title == "AUC")
    (name, _, _, dots), (_, is_bound, _, bounds), _ = auc.lines
    assert (name, [dot.value.y for dot in dots], is_bound) == ("auc", [0.93, 0.95, 0.93], True)
    # The bound of configs/census.yaml, in each run.
    assert [dot.value.y for dot in bounds] == [0.92, 0.92, 0.92]
    assert [(m.kind, m.label) for _, m, _ in auc.marks] == [("push", "v1"), ("push", "v2"), ("rollback", "↩ v1")]
    assert "bad at noon" in auc.marks[-1][1].title
    page = site.get("/trends?slice=sex%3DMale")
    assert "sex=Male: the newest 3 runs with metrics" in page.text
    assert f'href="/runs/{SECOND}" tabindex="-1" aria-label="{SECOND}: AUC 0.9400, pushed as version 2"' in page.html
    assert "No run has metrics of this slice." in site.get("/trends?slice=%3Cscript%3E").text
    assert "<script></" not in site.get("/trends?slice=%3Cscript%3E").html


def test_drift_over_runs_has_the_distances_of_each_gate(runs: Runs, text: Text) -> None:
    first, second, third = runs.run(FIRST), runs.run(SECOND), runs.run(THIRD)
    for made, share in ((first, 0.5), (second, 0.45), (third, 0.2)):
        _write(made, train={"Female": share, "Male": 1 - share}, test={"Female": 0.5, "Male": 0.5})
    _gate(runs, SECOND, second, first, POLICY)
    _gate(runs, THIRD, third, first, POLICY)
    drift = read_drift(LocalRunStore(runs.root.path))
    assert [run.run_id for run in drift.runs] == [FIRST, SECOND, THIRD]
    by_kind = {view.kind.partition(",")[0]: view for view in drift.features}
    assert (round(by_kind["drift"].last, 6), by_kind["drift"].threshold, by_kind["drift"].is_exceeded) == (
        0.3,
        0.1,
        True,
    )
    assert [round(dot.value.y or 0, 6) for dot in by_kind["drift"].chart.lines[0][3]] == [0.05, 0.3]
    # The nearest to its threshold comes first.
    assert drift.features[0].kind.startswith("drift")
    assert "drift, train against that of the pushed model: 0.3000, ABOVE 0.1" in text("/drift")


def test_a_difference_counts_by_its_interval(runs: Runs, text: Text) -> None:
    first, second = runs.run(FIRST), runs.run(SECOND)
    overall = {"auc": 0.93, "log_loss": 0.3, "recall": 0.6}
    _write_summary(first, metrics={"overall": {**overall, "auc": 0.9293}})
    differences = {"overall": {"auc": [0.0007, -0.002, 0.003], "log_loss": [0.02, 0.01, 0.03]}}
    intervals = {"overall": {"auc": [0.92, 0.94]}}
    _write_summary(second, metrics={"overall": overall}, changes=differences, intervals=intervals)
    query = f"/compare?a={FIRST}&b={SECOND}"
    # Without a common evaluation only intervals of both could tell.
    assert "within noise" not in text(query)
    add_input(runs, node(runs, SECOND, "Evaluator"), "baseline_model", first["Trainer"]["model"])
    page = text(query)
    assert "B was evaluated beside the model of A on the same rows" in page
    assert "0.9300 0.9200 to 0.9400" in page
    assert "change +0.0007 within noise same worse same" in page


def test_runs_are_compared_with_all_their_parts(runs: Runs, site: Site) -> None:
    first, second = runs.run(FIRST), runs.run(SECOND, rows=2000, overrides={"config": CHANGED})
    for made, share, age in ((first, 0.5, "0"), (second, 0.2, "2")):
        examples = made["ExampleGen"]["examples"]
        hashes = {"train": {"age": age * 16, "sex": "1" * 16}}
        examples.custom_properties["columns"].string_value = json.dumps(hashes)
        runs.store.put_artifacts([examples])
        _write(made, train={"Female": share, "Male": 1 - share})
        Path(made["Trainer"]["model_run"].uri, "history.json").write_text(
            json.dumps({"metrics": {"loss": [0.5, 0.4]}, "kept_epoch": 1})
        )
        _write_summary(made, metrics={"overall": {"auc": share}}, plots={"roc": [[0, 0], [1, 1]]})
    store = LocalRunStore(runs.root.path)
    sides = [find_side(store, PageOptions(), name) for name in ("v1", "v2")]
    assert [(side.run.run_id, side.title) for side in sides] == [(FIRST, "version 1"), (SECOND, "version 2")]
    comparison = read_comparison(store, *sides)
    sections = (comparison.metrics, comparison.curves, comparison.plots, comparison.changes, comparison.features)
    assert [section.problem for section in sections] == [""] * 5
    assert [name for name, *_ in comparison.curves.content[0].lines] == ["version 1, train", "version 2, train"]
    assert [path.name for path in comparison.plots.content.curves[0].paths] == ["version 1", "version 2"]
    assert comparison.changes.content.sections["config"]["training.epochs"] == [6, 9]
    sex = comparison.features.content[0]
    assert (sex.view.name, round(sex.distance, 6)) == ("sex", 0.3)
    moved = {value: (before, round(now, 6)) for value, before, now in sex.moved}
    assert moved == {"Female": (0.5, 0.2), "Male": (0.5, 0.8)}
    page = site.get("/compare?a=v1&b=v2").text
    assert "30.0% of the values moved" in page
    assert "columns of train: other values in age; the same in sex" in page
    # Other rows of train, the same of test.
    assert "Both were evaluated on the same rows, but not together" in page


def test_names_that_are_not_there_are_one_line(runs: Runs, site: Site) -> None:
    runs.run(FIRST)
    for query, message in {
        "a=v7&b=latest": "has no version 7 of a run; it has v1",
        "a=1999&b=latest": "has no run '1999'; the newest are: " + FIRST,
        "a=%3Cscript%3E&b=latest": "has no run '<script>'",
    }.items():
        page = site.get(f"/compare?{query}")
        assert (page.code, message in page.text) == (200, True), page.text
        assert not re.search(r"<script>[' ]", page.html)
    empty = site.get("/compare")
    assert f'<option value="{FIRST}">' in empty.html
    assert '<option value="v1">version 1, champion</option>' in empty.html


def test_versions_are_side_by_side(runs: Runs, text: Text) -> None:
    runs.run(FIRST, auc=0.93, overrides={"config": {"training": {"epochs": 6}, "name": "x"}})
    second = runs.run(SECOND, auc=0.94, overrides={"config": {"training": {"epochs": 9}, "name": "x"}})
    _write_summary(second, metrics={"overall": {"auc": 0.94}}, intervals={"overall": {"auc": [0.93, 0.95]}})
    page = text("/versions")
    assert "version 2 version 1 state champion previous compare with version 2 run" in page
    assert "auc 0.9400 0.9300 to 0.9500 0.9300" in page
    assert "Config keys in which they differ training.epochs 9 6" in page
    assert "name x" not in page
