"""Runs of local_runner.py that the gate stops, and the reviews after which the next one passes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.registry import LocalRegistry
from tests.commands import parse_command
from tests.conftest import ROOT, census_rows, write_rows
from tests.run_commands import get_states, run_json, run_pipeline_command

pytestmark = pytest.mark.slow
Rows = list[list[str]]


def _with_new_category(rows: Rows) -> Rows:
    column = rows[0].index("workclass")
    return [
        rows[0],
        *([*r[:column], "Gig-economy", *r[column + 1 :]] if i % 20 == 0 else r for i, r in enumerate(rows[1:])),
    ]


def _with_age_out_of_range(rows: Rows) -> Rows:
    return [rows[0], *(["430", *row[1:]] for row in rows[1:21]), *rows[21:]]


def test_the_gate_stops_a_run_on_anomalies(small_census: Callable[..., Path], tmp_path: Path) -> None:
    summary = run_json(small_census(lambda rows: _with_age_out_of_range(_with_new_category(rows))), tmp_path / "run")
    assert summary["exit_code"] == 3
    assert "train: workclass: " in summary["error"]
    assert "train: age: Unexpectedly high value: 430>120" in summary["error"]
    assert get_states(summary)["Gate"] == "failed"
    assert "Transform" not in get_states(summary)
    assert LocalRegistry(tmp_path / "run" / "registry", "census-income").list_numbers() == []


def test_a_test_set_of_train_rows_is_not_judged(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config, root = small_census(), tmp_path / "run"
    write_rows(config.parent / "test.csv", census_rows("train", 3000))
    stopped = run_json(config, root)
    assert (stopped["exit_code"], stopped["pushed"]) == (3, "nothing")
    assert get_states(stopped)["Gate"] == "failed" and "Transform" not in get_states(stopped)
    assert "ROWS_SHARED_WITH_TRAIN" in stopped["error"] and "of 3,000 rows (" in stopped["error"]
    # Another margin needs no other examples.
    passed = run_json(config, root, "--set", "validation.train_overlap_margin=1", "--until", "Gate")
    assert (passed["exit_code"], passed["error"]) == (0, None)
    assert get_states(passed)["ExampleGen"] == "cached"
    assert passed["facts"]["ExampleGen"]["equal_rows"]["in_train"]["test"]["rows"] == 3000


def test_a_new_category_is_reviewed_and_accepted(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config, root = small_census(_with_new_category), tmp_path / "run"
    schema = tmp_path / "census.pbtxt"
    schema.write_text((ROOT / "schemas" / "census.pbtxt").read_text())
    of_run = ("--config", str(config), "--run-root", str(root), "--set", f"data.schema_file={schema}")
    stopped = run_json(config, root, "--set", f"data.schema_file={schema}")
    assert stopped["exit_code"] == 3
    assert "take it over into the schema (schema diff)" in stopped["error"]
    review = parse_command(stopped["next"][1])
    assert (review["command"], review["config_file"], review["run_root"]) == ("schema diff", str(config), root)
    assert review["settings"] == (f"data.schema_file={schema}",)
    (change,) = json.loads(run_pipeline_command("schema", "diff", *of_run, "--json"))["changes"]
    assert (change["kind"], change["name"]) == ("string_domain", "workclass")
    assert len(change["lines"]) == 1
    assert change["lines"][0].startswith("+ value: ")
    before = schema.read_text()
    assert "no changes" in run_pipeline_command("schema", "accept", *of_run, "--feature", "age")
    assert schema.read_text() == before
    assert "1 change taken over" in run_pipeline_command("schema", "accept", *of_run)
    assert schema.read_text().startswith("# The curated schema of UCI Adult")
    assert "no changes" in run_pipeline_command("schema", "diff", *of_run)
    # So many are new in `train` that it is skewed against `test`, which is another question.
    skewed = "validation.severities=[{anomaly: SKEW, severity: warn}]"
    accepted = run_json(config, root, "--set", f"data.schema_file={schema}", "--set", skewed, "--until", "Gate")
    assert (accepted["exit_code"], accepted["error"]) == (0, None)
    assert "[SKEW]" in accepted["facts"]["Gate"]["warnings"][0]
