"""The page of live quality: charts by week, slices beside the evaluation, drops, and what is missing."""

import json
import re
from pathlib import Path

from tests.oncall.run_roots import Runs
from tests.oncall.test_outcomes import write_version
from tests.oncall.web.conftest import Text
from tests.serving.outcomes.logs import join_labels, write_model


def name_log(runs: Runs, run: str, log: Path) -> None:
    """Name the request log in the config of a run on record."""
    file = runs.root.locate_record(run)
    document = json.loads(file.read_text())
    document["config"]["monitoring"] = {"request_log": str(log)}
    file.write_text(json.dumps(document))


def test_a_version_is_beside_its_evaluation(tmp_path: Path, runs: Runs, text: Text) -> None:
    runs.run("run-1", auc=0.99)
    assert "--log: is missing; name the folder of the request log" in text("/outcomes")
    write_model(tmp_path)
    join_labels(tmp_path, write_version(tmp_path, 1, shuffled=0))
    name_log(runs, "run-1", tmp_path / "log")
    page = text("/outcomes")
    assert "1,200 of 1,200 logged predictions have a label" in page
    assert "version 1: live AUC 0.9" in page
    assert "expected about 0.9900" in page
    assert "Version 1, the champion" in page
    assert "overall 1,200 0.9" in page
    assert "worse" in page
    assert "2026-W45" in page
    assert "side by side" not in page


def test_two_versions_are_side_by_side(tmp_path: Path, runs: Runs, text: Text) -> None:
    write_model(tmp_path)
    for version in (1, 2):
        runs.run(f"run-{version}", auc=0.92)
        join_labels(tmp_path, write_version(tmp_path, version, shuffled=0.3 * (version - 1)))
    name_log(runs, "run-2", tmp_path / "log")
    page = text("/outcomes")
    assert "Versions 1 and 2, side by side" in page
    assert "Predictions of the hours in which both answered, from 2026-11-02 00:00 to 2026-12-21 23:00 UTC" in page
    assert re.search(r"version rows AUC .* 1 1,200 0\.9\d+ 0\.9\d+ to 0\.9\d+ .*2, the champion 1,200 0\.7", page)
