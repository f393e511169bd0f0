"""`traffic` and the check of it: what moved, what was rejected, and what cannot be judged."""

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.oncall.traffic_logs import HOUR, census, replace, rows_of_test, set_log, train, write_log

FIRST, SECOND = "20260101T000000.000000", "20260102T000000.000000"
Document = Callable[..., Any]


@pytest.fixture
def log(runs: Runs, tmp_path: Path) -> Path:
    """Return the folder of a log whose config has it; the champion was trained on census."""
    train(runs.run(FIRST))
    folder = tmp_path / "log"
    set_log(runs, FIRST, folder)
    return folder


def test_rows_of_the_training_data_s_distribution_are_no_finding(oncall: Oncall, log: Path) -> None:
    write_log(log, rows_of_test(3000))
    result = oncall("traffic")
    assert result.exit_code == 0, result.output
    first, *rest = result.output.splitlines()
    assert first.startswith("traffic    3,000 rows of version 1 since ")
    assert first.endswith("UTC: no feature differs from the training data by more than chance")
    assert f"log        {log}; it has 10 % of the requests" in rest
    assert f"run        {FIRST}, whose train split has 32,561 rows" in rest
    check = oncall("check")
    assert (check.exit_code, "live traffic │ 3,000 rows of version 1" in check.output) == (0, True), check.output


def test_what_moved_comes_first_with_its_direction(document: Document, oncall: Oncall, log: Path) -> None:
    rows = rows_of_test(1000)
    rows = replace(rows, "hours_per_week", pc.multiply(rows.column("hours_per_week"), 4))
    planted = pa.array([*["Bootcamp"] * 30, *rows.column("education").to_pylist()[30:]])
    rows = replace(rows, "education", planted)
    rows = replace(rows, "age", pa.array([None] * 50 + rows.column("age").to_pylist()[50:], pa.float32()))
    write_log(log, rows)
    report = document("traffic")
    assert oncall("traffic").exit_code == 1
    assert report["verdict"].endswith(": hours_per_week, education, age differ from the training data")
    kinds = {
        feature["feature"]: [finding["kind"] for finding in feature["findings"]] for feature in report["features"][:4]
    }
    assert kinds["education"] == ["new values"]
    assert kinds["hours_per_week"] == ["out of range", "distance"]
    assert kinds["age"] == ["missing"]
    assert sum(map(bool, kinds.values())) == 3
    assert "education: new values in 3.0% of the rows: 'Bootcamp' (30)" in report["findings"]
    assert "age: missing 0.0% -> 5.0%" in report["findings"]
    (moved,) = (text for text in report["findings"] if text.startswith("hours_per_week: median up from 40 to 160; "))
    assert "Jensen-Shannon distance 0." in moved
    (education,) = (feature for feature in report["features"] if feature["feature"] == "education")
    assert education["new_values"] == [{"value": "'Bootcamp'", "count": 30}]
    check = oncall("check")
    assert check.exit_code == 1
    assert "live traffic │ 1,000 rows of version 1" in check.output
    assert "try        python -m oncall traffic --run-root" in check.output


def test_rejections_other_versions_and_clocks_are_counted(document: Document, oncall: Oncall, log: Path) -> None:
    reasons = ["age: expected a number", *["sex: is missing"] * 2]
    write_log(log, rows_of_test(300), errors=reasons, would_answer=1)
    write_log(log, rows_of_test(40), name="2", version=2, sample=1.0, errors=reasons[1:], would_answer=2)
    write_log(log, rows_of_test(0), name="6", errors=["version N is not served"])
    write_log(log, rows_of_test(7), name="3", ago=-3 * HOUR, key="persn")
    write_log(log, rows_of_test(5), name="5", key="persn")
    write_log(log, rows_of_test(500), name="4", ago=30 * HOUR)
    report = document("traffic")
    assert report["rows"] == {"1": 305, "2": 40}
    assert report["keyless"] == {"persn": 5}
    assert [(each["version"], each["reason"], each["requests"]) for each in report["rejections"]] == [
        (1, "sex: is missing", 2),
        (2, "sex: is missing", 2),
        (1, "age: expected a number", 1),
        (None, "version N is not served", 1),
    ]
    assert (report["future_rows"], report["samples"]) == (7, [0.1, 1.0])
    output = oncall("traffic").output
    assert "rows       version 1: 305, version 2: 40" in output
    assert "key        5 rows have no value of 'persn' (--log-key), by which labels are joined" in output
    assert "rejected   version 1: 3, version 2: 2, no version: 1" in output
    assert "2 of version 2: sex: is missing" in output
    assert "1 of no version: version N is not served" in output
    assert "clock      7 rows have times after now, up to " in output
    assert document("traffic", "--since", "2d")["rows"] == {"1": 805, "2": 40}
    since = (datetime.datetime.now(datetime.UTC) - 29 * HOUR).isoformat()
    assert document("traffic", "--since", since)["rows"] == {"1": 305, "2": 40}


def test_rejected_requests_are_a_finding_but_no_drift(
    document: Document, oncall: Oncall, runs: Runs, log: Path
) -> None:
    """A missing value that the model does not take is a rejected request, and in no other number."""
    write_log(log, rows_of_test(950), errors=["age: the value is missing"] * 50)
    report = document("traffic")
    finding = "rejected requests: 50 of 1,000 (5.0%), 50 of them: age: the value is missing"
    assert (report["findings"], report["has_moved"]) == ([finding], False)
    set_log(runs, FIRST, log, max_rejected=0.06)
    assert document("traffic")["findings"] == []
    set_log(runs, FIRST, log, max_rejected=0.05)
    check = oncall("check")
    assert (check.exit_code, finding in " ".join(check.output.split())) == (1, True)
    # A client of which no request is answered is seen, too.
    write_log(log, rows_of_test(0), errors=["body is not JSON"] * 200)
    assert document("traffic")["findings"][0].startswith("rejected requests: 200 of 200 (100.0%)")
    write_log(log, rows_of_test(0), errors=["body is not JSON"] * 199)
    assert document("traffic")["findings"] == []


def test_few_rows_and_none_are_not_judged(oncall: Oncall, document: Document, runs: Runs, log: Path) -> None:
    rows = rows_of_test(150)
    write_log(log, replace(rows, "age", pc.multiply(rows.column("age"), 100)))
    result = oncall("traffic")
    assert result.exit_code == 0
    assert "150 rows of version 1 since" in result.output
    assert "nothing is judged below 200 (monitoring.min_rows)" in result.output
    set_log(runs, FIRST, log, min_rows=100)
    assert oncall("traffic").exit_code == 1
    assert oncall("check").exit_code == 1
    result = oncall("traffic", "--since", "5m")
    assert (result.exit_code, document("traffic", "--since", "5m")["is_judged"]) == (0, False)
    assert result.output.startswith("traffic    no rows of version 1 since ")
    assert result.output.splitlines()[0].endswith("UTC: nothing is judged")


def test_a_masked_column_is_named_and_not_judged(document: Document, log: Path) -> None:
    rows = rows_of_test(500)
    write_log(log, rows.drop_columns(["race"]), masked=("race",))
    report = document("traffic")
    assert report["not_judged"] == {"sensitive, and not logged (--log-sensitive of the server logs them)": "race"}
    assert "race" not in {feature["feature"] for feature in report["features"]}
    # It is logged since then, and the window has no older rows.
    write_log(log, rows.drop_columns(["race"]), masked=("race",), ago=30 * HOUR)
    write_log(log, rows, name="2")
    report = document("traffic")
    assert (report["not_judged"], len(report["features"])) == ({}, rows.num_columns)


def test_predictions_are_compared_with_the_first_day_of_the_version(document: Document, log: Path) -> None:
    random = np.random.default_rng(0)
    for name, hours, shift in (("1", 80, 0.0), ("2", 40, 0.3), ("3", 1, 0.3)):
        outputs = {
            "probability": np.clip(random.beta(1, 3, 500) + shift, 0, 1).astype(np.float32),
            "model_version": ["1"] * 500,
        }
        write_log(log, rows_of_test(500), name=name, ago=hours * HOUR, outputs=outputs)
    report = document("traffic")
    (output,) = report["outputs"]
    assert output["feature"] == "probability"
    assert output["compared_with"].startswith("the first day of version 1 in the log, until ")
    messages = {finding["kind"]: finding["message"] for finding in output["findings"]}
    assert messages["distance"].startswith("median up from 0.2")
    assert report["verdict"].endswith("UTC: probability differs from earlier predictions")


def test_predictions_are_compared_with_the_evaluation_if_it_kept_them(
    document: Document, runs: Runs, log: Path
) -> None:
    outputs = {"probability": np.full(300, 0.9, np.float32), "predicted_label": [">50K"] * 300}
    write_log(log, rows_of_test(300), outputs=outputs)
    assert document("traffic")["outputs"] == []
    (summary,) = runs.root.artifacts.glob("Evaluator/evaluation/*/summary.json")
    values = summary.read_text().removesuffix("}").replace('"weight_column": "fnlwgt", ', "")
    plots = (
        '"plots": {"predictions": [[0.1, 0.2, 5000], [0.8, 0.9, 2000]],'
        ' "confusion": {"classes": ["<=50K", ">50K"], "rows": [[4800, 400], [200, 1600]]}}'
    )
    summary.write_text(f"{values}, {plots}}}")
    outputs_found = document("traffic")["outputs"]
    assert {feature["compared_with"] for feature in outputs_found} == {f"the evaluation of run {FIRST}"}
    messages = {feature["feature"]: feature["findings"][0]["message"] for feature in outputs_found}
    assert messages["predicted_label"].startswith("moved most: '<=50K' 71.4% -> 0.0%; '>50K' 28.6% -> 100.0%")
    assert messages["probability"].startswith("median up from 0.2 to 0.9; 71% of the values moved")


def test_values_of_sensitive_columns_are_not_printed(oncall: Oncall, runs: Runs, log: Path) -> None:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    from components.sensitive_statistics import mark_sensitive

    (file,) = runs.root.artifacts.glob("StatisticsGen/statistics/*/Split-train/FeatureStats.pb")
    statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes())
    for feature in statistics.datasets[0].features:
        if feature.path.step[0] in ("race", "age"):
            mark_sensitive(feature)
    file.write_bytes(statistics.SerializeToString())
    rows = replace(rows_of_test(400), "race", pa.array(["Martian"] * 400))
    write_log(log, replace(rows, "age", pa.array([4321.0] * 400, pa.float32())))
    output = oncall("traffic").output
    assert "race" in output and "age: " in output
    for secret in ("Martian", "White", "4321", "38"):
        assert secret not in output.split("finding", 1)[1], secret


def test_another_version_is_judged_by_its_own_training_data(document: Document, runs: Runs, log: Path) -> None:
    train(runs.run(SECOND, auc=0.93))
    set_log(runs, SECOND, log)
    write_log(log, rows_of_test(300), version=2)
    assert document("traffic")["version"] == 2
    first = document("traffic", "--version", 1)
    assert first["verdict"].endswith("UTC: nothing is judged; version 2 has 300")


@pytest.mark.parametrize("since", ["yesterday", "0d", "3y", "-1d", "2026-13-01", "2999-01-01"])
def test_an_unknown_start_is_one_line(oncall: Oncall, log: Path, since: str) -> None:
    write_log(log, rows_of_test(10))
    result = oncall("traffic", f"--since={since}")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.startswith(f"error: --since {since}: ")


def test_without_a_log_the_flag_is_named(oncall: Oncall, runs: Runs, tmp_path: Path) -> None:
    train(runs.run(FIRST))
    result = oncall("traffic")
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("name its folder with --log, or set monitoring.request_log in the config")
    assert "live traffic" not in oncall("check").output
    write_log(tmp_path / "log", rows_of_test(300))
    assert "live traffic │ 300 rows" in oncall("check", "--log", tmp_path / "log").output
    assert oncall("traffic", "--log", tmp_path / "log").exit_code == 0


def damage(runs: Runs, log: Path, what: str) -> None:
    rows = rows_of_test(300)
    match what:
        case "missing folder":
            shutil.rmtree(log)
        case "foreign file":
            (log / "requests-2.parquet").write_bytes(b"PAR1")
        case "other format":
            write_log(log, rows, name="2", format=9)
        case "other model":
            write_log(log, rows, name="2", model="flights")
        case "other columns":
            write_log(log, rows.drop_columns(["age"]), name="2")
        case "tensors":
            examples = pa.table({"examples": pa.array([b"1"] * 300)})
            write_log(log, examples, name="2")
        case "other type":
            write_log(log, replace(rows, "age", pa.array(["old"] * 300)), name="2")
        case "removed statistics":
            shutil.rmtree(next(runs.root.artifacts.glob("StatisticsGen/statistics/*")))
        case "no version":
            shutil.rmtree(runs.registry.folder)
            runs.registry.folder.mkdir()


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("missing folder", 3, "there is no such folder; a server writes one with --log-requests"),
        ("foreign file", 3, "requests-2.parquet: is not a shard of a request log"),
        ("other format", 3, "requests-2.parquet: has format 9; this program reads format 1"),
        ("other model", 3, "is of the model 'flights', expected 'census-income'; name another folder"),
        (
            "other columns",
            3,
            "requests-2.parquet: has no column 'age'; the comparison with the training data of version",
        ),
        (
            "tensors",
            3,
            "requests-2.parquet: has the tensors of a model of your own (examples), expected columns of the training",
        ),
        (
            "other type",
            3,
            "requests-2.parquet: column 'age': expected the type float of the training data, found string",
        ),
        ("removed statistics", 3, "version 1: the statistics of its training data cannot be read ("),
        ("no version", 3, "no version serves, so there is no training data to compare with"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    oncall: Oncall, runs: Runs, log: Path, what: str, code: int, message: str
) -> None:
    write_log(log, rows_of_test(300))
    damage(runs, log, what)
    result = oncall("traffic")
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1), result.output
    assert message in result.stderr
    assert result.stdout == ""
    if what != "no version":
        check = oncall("check")
        assert (check.exit_code, "live traffic" in check.output) == (1, True)
        assert message[:60] in check.output


def test_a_version_of_another_tool_and_an_unknown_one_are_named(oncall: Oncall, runs: Runs, log: Path) -> None:
    write_log(log, rows_of_test(10))
    result = oncall("traffic", "--version", 7)
    assert (result.exit_code, "has no version 7; its versions: 1" in result.stderr) == (2, True)
    runs.root.locate_record(FIRST).unlink()
    result = oncall("traffic", "--log", log, "--registry", runs.root.path / "registry", "--model", "census-income")
    assert (result.exit_code, f"version 1: was pushed by run {FIRST}, which is not on record" in result.stderr) == (
        3,
        True,
    )


def test_the_rows_of_census_are_as_many_as_its_files_have() -> None:
    assert (census().train.num_examples, census().rows.num_rows) == (32561, 16281)
