"""Live metrics of logged predictions: by version, week and slice, beside the evaluation's, and a drop in `check`."""

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.metric_counts import BinaryCounts
from schemas.metrics import METRICS
from serving.request_log.shards import ShardDescription
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.serving.outcomes.logs import FEATURES, START, build_rows, join_labels, write_labels, write_log, write_model

ROWS = 1_200
DESCRIPTION = ShardDescription(model="census-income", sample=0.5, key="person", masked=("race",))


def predict(seed: int, shuffled: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return labels and their true probabilities, a share of which is shuffled."""
    generator = np.random.default_rng(seed)
    probabilities = 1 / (1 + np.exp(-generator.normal(-2.4, 3.2, size=ROWS)))
    labels = generator.random(ROWS) < probabilities
    rows = generator.permutation(ROWS)[: int(ROWS * shuffled)]
    probabilities[rows] = probabilities[generator.permutation(rows)]
    return labels, probabilities.astype(np.float32)


def write_version(folder: Path, version: int, shuffled: float, sexes: Sequence[str] = ("Male", "Female")) -> Path:
    """Write predictions of a version and a file of their labels, in seven weeks; return the labels' file."""
    labels, predictions = predict(version, shuffled)
    columns = {
        "sex": pa.array([sexes[row % len(sexes)] for row in range(ROWS)]),
        "_prediction_probability": pa.array(predictions),
    }
    keys = [f"{version}-{row}" for row in range(ROWS)]
    write_log(folder, str(version), build_rows(keys, version=version, columns=columns), DESCRIPTION)
    lines = [f"{key},{'>50K' if label else '<=50K'}" for key, label in zip(keys, labels, strict=True)]
    return write_labels(folder / f"labels-{version}.csv", "person,income", *lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path)
    return tmp_path


@pytest.fixture
def good(folder: Path, runs: Runs) -> Path:
    """Return the log of a version whose live quality is that of its evaluation."""
    runs.run("run-1", auc=0.92)
    join_labels(folder, write_version(folder, 1, shuffled=0))
    return folder / "log"


def read_check(document: Callable[..., Any], *arguments: object) -> Any:
    checks = document("check", *arguments)["checks"]
    return next(entry for entry in checks if entry["name"] == "live quality")


def find(document: Any, **group: Any) -> Any:
    names = {"version": 1, "week": "", "slice": "overall", **group}
    return next(entry for entry in document["groups"] if {name: entry[name] for name in names} == names)


def test_values_are_those_of_the_evaluator_and_stand_beside_the_evaluation(
    good: Path, document: Callable[..., Any]
) -> None:
    report = document("outcomes", "--log", good)
    labels, predictions = predict(1, 0)
    counts = BinaryCounts()
    counts.add(labels.astype(int), predictions)
    overall = find(report)
    assert overall["rows"] == ROWS
    for name in ("auc", "log_loss", "recall"):
        assert overall["metrics"][name]["value"] == pytest.approx(METRICS[name].compute(counts))
        low, high = overall["metrics"][name]["interval"]
        assert low < overall["metrics"][name]["value"] < high
    assert overall["metrics"]["auc"]["offline"] == 0.92
    weeks = [entry["week"] for entry in report["groups"] if entry["week"]]
    assert weeks == [f"2026-W{week}" for week in range(45, 53)][: len(weeks)]
    assert sum(entry["rows"] for entry in report["groups"] if entry["week"]) == ROWS
    assert find(report, slice="sex=Male")["rows"] == ROWS // 2
    assert "the log has a sample of 0.5 of the requests; rows are those of the sample" in report["notes"]
    assert "no slices by race: column 'race' is sensitive and was not logged" in report["notes"]
    assert report["drops"] == {"1": []}


def test_a_fallen_quality_is_a_drop_in_the_report_and_in_check(
    folder: Path, runs: Runs, oncall: Oncall, document: Callable[..., Any]
) -> None:
    runs.run("run-1", auc=0.92)
    join_labels(folder, write_version(folder, 1, shuffled=0))
    log = folder / "log"
    assert read_check(document, "--log", log)["ok"]
    runs.run("run-2", auc=0.92)
    join_labels(folder, write_version(folder, 2, shuffled=0.6))
    report = document("outcomes", "--log", log)
    assert report["drops"]["1"] == []
    drop = report["drops"]["2"][0]
    assert drop["metric"] == "auc"
    assert drop["text"].startswith("live AUC 0.6")
    assert "expected about 0.9200, as on test" in drop["text"]
    assert oncall("check", "--log", log).exit_code == 1
    check = read_check(document, "--log", log)
    assert not check["ok"]
    assert check["message"].startswith("version 2: live AUC 0.6")
    assert check["todo"].endswith(f"--log {log}")
    text = oncall("outcomes", "--log", log).stdout
    assert "worse      version 2, last 28 days: live AUC 0.6" in text


def test_two_versions_are_compared_in_the_time_in_which_both_answered(
    folder: Path, runs: Runs, oncall: Oncall, document: Callable[..., Any]
) -> None:
    """The champion's easier rows from before, and a request by a clock that was wrong, do not count."""
    for run in ("run-1", "run-2"):
        runs.run(run)
    hours = datetime.timedelta(hours=1)
    rows = {1: START, 2: START + 100 * hours}
    lines = []
    for version, start in rows.items():
        keys = [f"{version}-{number}" for number in range(200)]
        predictions = np.linspace(0, 1, 200, dtype=np.float32)
        write_log(
            folder,
            str(version),
            build_rows(keys, start=start, version=version, columns={"_prediction_probability": pa.array(predictions)}),
        )
        # Until then the label is what the first version predicts, and afterwards the opposite.
        for number, key in enumerate(keys):
            is_later = start + number * hours >= rows[2]
            lines.append(f"{key},{'>50K' if (number % 100 >= 50) != is_later else '<=50K'}")
    write_log(folder, "0", build_rows(["old"], start=START - 9 * hours, version=2))
    lines.append("old,>50K")
    join_labels(folder, write_labels(folder / "labels.csv", "person,income", *lines))
    (pair,) = document("outcomes", "--log", folder / "log")["side_by_side"]
    first, second = pair["groups"]
    assert [(group["version"], group["rows"]) for group in pair["groups"]] == [(1, 100), (2, 100)]
    assert (first["metrics"]["auc"]["value"], second["metrics"]["auc"]["value"]) == (0.0, 0.0)
    text = " ".join(oncall("outcomes", "--log", folder / "log").stdout.split())
    assert "together AUC in the hours in which both answered: version 1 0.0000" in text


def test_a_week_of_one_class_is_named(folder: Path, runs: Runs, oncall: Oncall, document: Callable[..., Any]) -> None:
    runs.run("run-1")
    write_log(folder, "1", build_rows(["a", "b", "c"]))
    join_labels(folder, write_labels(folder / "labels.csv", "person,income", "a,<=50K", "b,<=50K"))
    report = document("outcomes", "--log", folder / "log")
    auc = find(report, week="2026-W45")["metrics"]["auc"]
    assert (auc["value"], auc["interval"]) == (None, None)
    assert auc["undefined"] == "no row of 2026-W45 has the class '>50K'"
    assert "no row of 2026-W45 has the class '>50K'" in " ".join(
        oncall("outcomes", "--log", folder / "log").stdout.split()
    )


def test_a_log_without_labels_and_a_foreign_folder_are_named(
    folder: Path, runs: Runs, oncall: Oncall, document: Callable[..., Any]
) -> None:
    runs.run("run-1")
    result = oncall("outcomes", "--log", folder / "nowhere")
    assert (result.exit_code, "there is no such folder" in result.stderr) == (3, True)
    log = write_log(folder, "1", build_rows(["a"]))
    result = oncall("outcomes", "--log", log)
    assert (result.exit_code, "no labels were joined yet; join a file of them: python -m" in result.stderr) == (3, True)
    check = read_check(document, "--log", log)
    assert (check["ok"], "no prediction of the champion has a label yet" in check["message"]) == (True, True)
    result = oncall("check", "--log", folder / "nowhere")
    assert (result.exit_code, "there is no such folder" in result.stdout) == (1, True)
    tensors = build_rows(["a"]).rename_columns({"age": "examples"}).drop_columns(["job"])
    write_log(folder, "1", tensors)
    result = oncall("outcomes", "--log", log)
    message = "requests-1.parquet: has the tensors of a model of your own (examples), expected columns of the training"
    assert (result.exit_code, message in result.stderr, "_request_key" in result.stderr) == (3, True, True)
    (log / "outcomes").mkdir()
    (log / "outcomes" / "summary.json").write_text("{")
    result = oncall("outcomes", "--log", log)
    assert (result.exit_code, "summary.json: is damaged; remove it and join again" in result.stderr) == (3, True)


def test_labels_without_the_weights_of_the_model_are_named(
    tmp_path: Path, runs: Runs, document: Callable[..., Any]
) -> None:
    runs.run("run-1")
    write_model(tmp_path, FEATURES.model_copy(update={"weight": "hours"}))
    labels = write_version(tmp_path, 1, shuffled=0)
    join_labels(tmp_path, labels)
    notes = document("outcomes", "--log", tmp_path / "log")["notes"]
    assert (
        f"the evaluation is weighted by hours; without weights, and so of weight 1, are the rows of {labels}" in notes
    )


def test_the_config_may_name_the_log(good: Path, runs: Runs, oncall: Oncall) -> None:
    result = oncall("outcomes")
    assert (result.exit_code, "--log: is missing; name the folder of the request log" in result.stderr) == (2, True)
    record = runs.root.locate_record("run-1")
    document = json.loads(record.read_text())
    document["config"]["monitoring"] = {"request_log": str(good)}
    record.write_text(json.dumps(document))
    assert "1,200 of 1,200 predictions have a label" in oncall("outcomes").stdout
    assert "live quality" in oncall("check").stdout


def test_newer_shards_are_named(good: Path, document: Callable[..., Any]) -> None:
    write_log(good.parent, "9", build_rows(["z"]))
    notes = document("outcomes", "--log", good)["notes"]
    assert f"1 shard is newer than the join; join again: python -m serving.outcomes --log {good}" in notes


def test_a_log_of_another_model_is_named(good: Path, oncall: Oncall) -> None:
    write_log(good.parent, "9", build_rows(["z"]), ShardDescription(model="flights", sample=1.0))
    message = "is of the model 'flights', expected 'census-income'"
    result = oncall("outcomes", "--log", good)
    assert (result.exit_code, message in result.stderr) == (3, True)
    result = oncall("check", "--log", good)
    assert (result.exit_code, "live quality" in result.stdout and message in " ".join(result.stdout.split())) == (
        1,
        True,
    )
