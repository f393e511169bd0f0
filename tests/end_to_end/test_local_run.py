"""Whole runs of local_runner.py on a few thousand real census rows, in a process of their own.

Tests of the output, the start and the end of a process start it as a user does, by `local_runner`. The other runs fork
from a process that has TFX loaded, by `run_json`.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from serving.registry import LocalRegistry, content_hash
from tests import forked
from tests.commands import parse_command
from tests.conftest import ROOT, census_rows, write_rows
from tests.run_commands import get_states, read_summary, run_json, run_pipeline_command

pytestmark = pytest.mark.slow
Rows = list[list[str]]


def local_runner(config: Path, run_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "local_runner.py"), "--config", str(config), "--run-root", str(run_root)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=600)


def test_a_model_is_pushed_answered_from_the_cache_and_retrained_when_a_feature_changes(
    small_census: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, root = small_census(), tmp_path / "run"
    registry = LocalRegistry(root / "registry", "census-income")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))

    first = read_summary(local_runner(config, root, "--json"))
    # Components, TFX and TensorFlow leave nothing in the machine's folder for temporary files, nor in the run's own.
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (root / "temp").exists()
    assert (first["exit_code"], first["error"]) == (0, None)
    assert set(get_states(first).values()) == {"complete"}
    assert sum(first["facts"]["ExampleGen"]["rows"].values()) == 4500
    assert first["facts"]["Evaluator"]["metrics"]["overall"]["example_count"] == 1500
    assert first["facts"]["InfraValidator"]["golden_requests"] == 16
    assert first["facts"]["Pusher"]["version"] == 1
    assert first["facts"]["Gate"]["history"] is False
    assert registry.numbers() == [1]
    assert first["facts"]["Pusher"]["content_hash"] == content_hash(registry.folder / "1")
    _check_parity(first, root)

    second = run_json(config, root)
    assert second["exit_code"] == 0
    # The resolver is asked again each time; the gate and the pusher are never reused from the cache.
    expected = ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Trainer", "Evaluator")
    assert get_states(second) == {
        **dict.fromkeys((*expected, "InfraValidator"), "cached"),
        "History": "complete",
        "Gate": "complete",
        "Baseline": "complete",
        "Pusher": "complete",
    }
    assert second["pushed"] == "nothing: version 1 holds this very model already"
    assert registry.numbers() == [1]

    third = run_json(config, root, "--set", "features.age.buckets.count=8")
    assert third["exit_code"] == 0
    assert get_states(third)["ExampleGen"] == "cached"
    assert [get_states(third)[node] for node in ("Transform", "Trainer", "Evaluator")] == ["complete"] * 3
    assert third["facts"]["Baseline"]["model_id"] is not None
    # The baseline is measured on the same rows, which are those that it was blessed on.
    summaries = sorted(root.glob("artifacts/Evaluator/evaluation/*/summary.json"), key=lambda f: int(f.parent.name))
    blessed, compared = (json.loads(summary.read_text()) for summary in summaries)
    assert blessed["baseline"] == {}
    assert compared["baseline"] == blessed["metrics"] != compared["metrics"]
    assert registry.numbers() == [1, 2]

    registry.rollback()
    rerun = run_json(config, root, "--set", "features.age.buckets.count=8")
    assert rerun["pushed"] == "nothing: version 2 holds this very model already"
    assert rerun["serving"] == f"version 1 of census-income, pushed by run {first['run_id']}"
    assert registry.labels() == {"champion": 1, "previous": 2}

    # Files of the serving version are changed: no version before it is whole, and its run pushes the model again.
    for version in (1, 2):
        (registry.folder / str(version) / "saved_model.pb").write_bytes(b"changed")
    assert registry.pushed_by(1) == first["run_id"]
    again = read_summary(forked.run("oncall", "resume", first["run_id"], "--run-root", str(root), "--json"))
    assert (again["exit_code"], again["facts"]["Pusher"]["version"], registry.champion()) == (0, 3, 3)
    assert get_states(again)["Trainer"] == "cached"
    assert content_hash(registry.folder / "3") == first["facts"]["Pusher"]["content_hash"]

    before = content_hash(registry.folder / "2")
    unblessed = run_json(
        config, root, "--set", "evaluation.thresholds=[{metric: auc, lower_bound: 0.999, slice_by: [sex]}]"
    )
    assert unblessed["exit_code"] == 4
    assert unblessed["facts"]["Evaluator"]["blessed"] is False
    failures = unblessed["facts"]["Evaluator"]["failures"]
    assert [failure.split(":")[0] for failure in failures] == ["auc on sex=Female", "auc on sex=Male"]
    named = f"the model is not blessed: {failures[0]} (and 1 more); it is not pushed"
    assert unblessed["error"] == named
    assert all(failure.endswith("must be at least 0.999") for failure in failures)
    assert registry.numbers() == [1, 2, 3]
    assert content_hash(registry.folder / "2") == before

    older = [row for i, row in enumerate(census_rows("train", 9000)) if i == 0 or int(row[0]) > 45]
    write_rows(config.parent / "train.csv", older)
    drifted = run_json(config, root, "--set", "validation.drift.default.threshold=0.1")
    assert drifted["exit_code"] == 3
    (line,) = [
        line for line in drifted["error"].splitlines() if "the pushed model: age: Jensen-Shannon distance" in line
    ]
    assert ", at most 0.1; moved most: " in line
    assert get_states(drifted)["Gate"] == "failed"
    _check_page(config, root, drifted["run_id"])


def _check_page(config: Path, root: Path, run_id: str) -> None:
    """Check that the page of statistics marks the drift that stopped the run, and loads nothing."""
    path = Path(run_pipeline_command("stats", run_id, "--config", str(config), "--run-root", str(root)).strip())
    assert path == root / "reports" / f"stats-{run_id}.html"
    page = path.read_text(encoding="utf-8")
    age = page[page.index('data-name="age"') : page.index('data-name="capital_gain"')]
    assert 'class="flag drift"' in age
    assert "train against that of the pushed model: Jensen-Shannon" in age
    assert page.count("<section") == 14
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def _check_parity(summary: dict[str, Any], root: Path) -> None:
    """Training-time, evaluated and served predictions are one: same rows, same probabilities."""
    import tensorflow as tf

    from serving.model.signatures import PROBABILITY

    served = tf.saved_model.load(summary["facts"]["Pusher"]["path"])
    (examples,) = (root / "artifacts" / "ExampleGen" / "examples").glob("*/Split-test/*")
    records = next(iter(tf.data.TFRecordDataset(str(examples), "GZIP").batch(2000)))
    by_example = served.signatures["serving_examples"](records)[PROBABILITY].numpy()
    labels = next(iter(served.signatures["true_label"](records).values())).numpy()

    named = {spec.name: spec for spec in served.signatures["serving_default"].structured_input_signature[1].values()}
    parsed = [tf.train.Example.FromString(r).features.feature for r in records.numpy()]
    fill = {tf.string: b"", tf.float32: float("nan"), tf.int64: -1}
    kinds = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}

    def value(features: Any, name: str, dtype: tf.DType) -> Any:
        values = getattr(features[name], kinds[dtype]).value if name in features else ()
        return values[0] if values else fill[dtype]

    columns = {n: tf.constant([value(f, n, s.dtype) for f in parsed], s.dtype) for n, s in named.items()}
    answer = served.signatures["serving_default"](**columns)
    by_name = answer[PROBABILITY].numpy()
    assert set(answer["model_version"].numpy()) == {b"1"}
    np.testing.assert_allclose(by_name, by_example, atol=1e-6)

    # What Evaluator measured is what the served model predicts.
    likely = np.where(labels == 1, by_example, 1 - by_example)
    measured = summary["facts"]["Evaluator"]["metrics"]["overall"]
    assert measured["log_loss"] == pytest.approx(-np.log(likely).mean(), abs=1e-5)
    assert measured["accuracy"] == pytest.approx(((by_example > 0.5) == labels).mean(), abs=1e-9)

    # What Trainer saw on eval is what the served model predicts there: raw rows in, no skew.
    (eval_examples,) = (root / "artifacts" / "ExampleGen" / "examples").glob("*/Split-eval/*")
    eval_records = next(iter(tf.data.TFRecordDataset(str(eval_examples), "GZIP").batch(2000)))
    eval_probability = served.signatures["serving_examples"](eval_records)[PROBABILITY].numpy()
    eval_labels = next(iter(served.signatures["true_label"](eval_records).values())).numpy()
    eval_likely = np.where(eval_labels == 1, eval_probability, 1 - eval_probability)
    assert summary["facts"]["Trainer"]["metrics"]["log_loss"] == pytest.approx(-np.log(eval_likely).mean(), abs=1e-5)


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
    assert LocalRegistry(tmp_path / "run" / "registry", "census-income").numbers() == []


def test_a_ragged_row_stops_the_run_in_one_line(small_census: Callable[..., Path], tmp_path: Path) -> None:
    config = small_census(lambda rows: [*rows[:100], rows[100][:5], *rows[101:]])
    done = local_runner(config, tmp_path / "run", "--quiet")
    assert (done.returncode, done.stdout) == (3, "")
    what, why, *_ = done.stderr.splitlines()
    assert what.startswith("census-income: no run was started; exit code 3, on ")
    file = config.parent / "train.csv"
    assert why.startswith(f"why      {file}:101: expected 15 fields, found 5: ")
    assert LocalRegistry(tmp_path / "run" / "registry", "census-income").numbers() == []


AWKWARD_NAMES = {"age": "1st.age (années)", "sex": "class", "native_country": "国/country", "income": "income?"}


def _use_awkward_names(value: Any) -> Any:
    """Return a config, or a part of one, with awkward column names."""
    if isinstance(value, dict):
        return {_use_awkward_names(key): _use_awkward_names(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_use_awkward_names(item) for item in value]
    return AWKWARD_NAMES.get(value, value)


def test_a_quiet_run_with_awkward_column_names_and_an_inferred_schema_prints_nothing(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    for name in ("train.csv", "test.csv"):
        header, newline, rows = (config.parent / name).read_text().partition("\n")
        (config.parent / name).write_text(",".join(map(_use_awkward_names, header.strip().split(","))) + newline + rows)
    config.write_text(yaml.safe_dump(_use_awkward_names(yaml.safe_load(config.read_text())), allow_unicode=True))
    done = local_runner(config, root, "--quiet", "--set", "data.schema_file=null", "--set", "push.version=7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert LocalRegistry(root / "registry", "census-income").numbers() == [7]
    (log,) = (root / "logs").iterdir()
    assert "epoch 1 of 3" in log.read_text()


def test_ctrl_c_leaves_nothing_running_and_the_next_run_succeeds(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    command = [sys.executable, str(ROOT / "local_runner.py"), "--config", str(config), "--run-root", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Transform started" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command continues from the cache" in output
    with sqlite3.connect(root / "metadata.sqlite") as database:
        running = database.execute("select count(*) from Execution where last_known_state in (1, 2)").fetchone()
    assert running == (0,)
    rerun = run_json(config, root, "--until", "Transform")
    assert (rerun["exit_code"], get_states(rerun)["ExampleGen"], get_states(rerun)["Transform"]) == (
        0,
        "cached",
        "complete",
    )


def test_a_removed_feature_makes_the_last_blessed_model_incomparable(
    small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    assert run_json(config, root)["exit_code"] == 0
    edited = yaml.safe_load(config.read_text())
    del edited["features"]["race"], edited["data"]["schema_file"]
    edited["data"]["ignored_columns"].append("race")
    edited["evaluation"]["slice_by"] = [["sex"]]
    config.write_text(yaml.safe_dump(edited, sort_keys=False))
    refused = run_json(config, root)
    assert refused["exit_code"] == 1
    assert "cannot be compared: it reads 'race', which is not a feature any more; to continue" in refused["error"]
    alone = run_json(config, root, "--set", "evaluation.change_thresholds=[]")
    assert (alone["exit_code"], alone["pushed"][:9]) == (0, "version 2")


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
