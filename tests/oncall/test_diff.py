"""`diff` and `anomalies`: what changed between two runs, what is unusual in one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.policy import ADVICE, Verdict
from oncall import evaluations
from oncall.diff import find_number_changes, flatten
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import FINGERPRINT, Runs

FIRST, SECOND = "20260101T000000.000000", "20260102T000000.000000"
Document = Callable[..., Any]


def test_all_that_changed_between_two_runs_is_named(runs: Runs, document: Document, oncall: Oncall) -> None:
    runs.run(FIRST, auc=0.92, mean=38.0, rows=3000, overrides={"code": {"trainer": "a"}, "packages": {"keras": "3.1"}})
    runs.run(SECOND, auc=0.90, mean=45.0, rows=2000, overrides={"code": {"trainer": "b"}, "packages": {"keras": "3.2"}})
    record = runs.root.locate_record(SECOND)
    record.write_text(record.read_text().replace('"epochs": 6', '"epochs": 7'))
    diff = document("diff", FIRST, SECOND)
    assert diff["config"] == {"training.epochs": [6, 7]}
    assert diff["code"] == {"trainer": ["a", "b"]}
    assert diff["packages"] == {"keras": ["3.1", "3.2"]}
    assert diff["data"] == {"rows of train": [3000, 2000], "content of train": ["000000000bb8", "0000000007d0"]}
    assert diff["statistics"] == {"train age mean": [38.0, 45.0]}
    gain = "overall: gain over linear"
    assert diff["metrics"] == {
        "overall: auc": [0.92, 0.90],
        "sex=Male: auc": [0.91, 0.89],
        gain: [pytest.approx(0.02), pytest.approx(0)],
    }
    assert [*diff["metrics"]][:2] == ["overall: auc", gain]
    assert diff["intervals"] == {
        "overall: auc": [pytest.approx([0.916, 0.924]), pytest.approx([0.896, 0.904])],
        gain: [pytest.approx([0.01, 0.03]), pytest.approx([-0.01, 0.01])],
    }
    assert (diff["schema"], diff["anomalies"]) == ({}, {})
    output = oncall("diff", FIRST, SECOND).output
    assert "config     training.epochs: 6 -> 7" in output
    assert "metrics    overall: auc: 0.92 [0.916, 0.924] -> 0.9 [0.896, 0.904]\n" in output
    assert "metrics    overall: gain over linear: 0.02 [0.01, 0.03] -> 0 [-0.01, 0.01]\n" in output
    assert "the same   schema, anomalies" in output


def test_the_evaluation_of_a_run_is_read_once(runs: Runs, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    read_files: list[Path] = []
    read_file = evaluations._read_file
    monkeypatch.setattr(evaluations, "_read_file", lambda folder: read_files.append(folder) or read_file(folder))
    folders = [Path(runs.run(run_id)["Evaluator"]["evaluation"].uri) for run_id in (FIRST, SECOND)]
    document("diff", FIRST, SECOND)
    assert read_files == folders


def test_a_run_is_the_same_as_the_one_that_answered_it(runs: Runs, document: Document) -> None:
    first = runs.run(FIRST)
    runs.run(SECOND, cached=first, pushes=False)
    diff = document("diff", FIRST, "latest")
    assert [name for name, changes in diff.items() if changes and name not in ("from", "to")] == []


def test_a_file_that_was_written_anew_is_no_new_data_and_one_with_other_values_is(
    runs: Runs, document: Document, oncall: Oncall
) -> None:
    runs.run(FIRST)
    examples = runs.run(SECOND)["ExampleGen"]["examples"]
    properties = examples.custom_properties

    def put(fingerprint: str, **content: str) -> None:
        properties["input_fingerprint"].string_value = fingerprint
        properties["content"].string_value = json.dumps(content)
        runs.store.put_artifacts([examples])

    put(FINGERPRINT.replace("1795556447", "1795556448"), **json.loads(properties["content"].string_value))
    assert "the same   data, config, code, " in oncall("diff", FIRST, SECOND).output
    put(FINGERPRINT, train="1", test="0" * 12)
    assert "data       content of train: 000000000bb8 -> 1\n" in oncall("diff", FIRST, SECOND).output
    put(FINGERPRINT.replace("398782", "398783"), train="1", test="0" * 12)
    assert document("diff", FIRST, SECOND)["data"]["bytes read for train"] == [398782, 398783]
    # Of runs before there was a name of the content, only the files' times are known.
    put(f"{FINGERPRINT}\nsplit:test")
    assert document("diff", FIRST, SECOND)["data"]["files"] == [None, f"{FINGERPRINT}; split:test"]


def test_of_a_run_that_ended_early_one_line_says_what_it_did_not_make(
    runs: Runs, document: Document, oncall: Oncall
) -> None:
    runs.run(FIRST)
    stop = "train: age: 430>120 [OUT_OF_RANGE]"
    error = Verdict([stop], ["train: sex: new [NEW]"]).format_error()
    runs.run(SECOND, fails=("Gate", error, 3))
    diff = document("diff", FIRST, SECOND)
    assert diff["metrics"] == {}
    assert diff["missing"] == {"metrics": f"{SECOND} has none: it did not finish Evaluator"}
    assert diff["anomalies"]["gate"] == ["passed", "STOPPED the run"]
    output = oncall("diff", FIRST, SECOND).output.splitlines()
    assert output[1:] == [
        "anomalies  gate: passed -> STOPPED the run",
        "anomalies  gone: train: age: a little old",
        f"anomalies  new: {stop}",
        "anomalies  new: train: sex: new [NEW]",
        f"metrics    {SECOND} has none: it did not finish Evaluator",
        "the same   data, config, code, schema, statistics, packages",
    ]
    # The other way round, too.
    assert document("diff", SECOND, FIRST)["missing"] == diff["missing"]


def test_files_that_are_gone_are_no_change(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    made = runs.run(SECOND)
    for node, output in (("Evaluator", "evaluation"), ("StatisticsGen", "statistics")):
        shutil.rmtree(made[node][output].uri)
    diff = document("diff", FIRST, SECOND)
    assert diff["missing"] == dict.fromkeys(("statistics", "metrics"), f"the files of {SECOND} are gone")
    assert (diff["statistics"], diff["metrics"]) == ({}, {})


def test_what_may_differ_by_chance_is_not_shown() -> None:
    old = {"train age mean": 100.0, "train age missing": 0.1, "overall: auc": 0.92}
    assert find_number_changes(old, {"train age mean": 101.0, "train age missing": 0.104, "overall: auc": 0.9203}) == {}
    assert set(
        find_number_changes(old, {"train age mean": 103.0, "train age missing": 0.106, "overall: auc": 0.9206})
    ) == set(old)


def test_a_metric_that_became_undefined_is_a_change(runs: Runs, oncall: Oncall, document: Document) -> None:
    runs.run(FIRST)
    second = runs.run(SECOND)
    summary = Path(second["Evaluator"]["evaluation"].uri) / "summary.json"
    undefined = {**json.loads(summary.read_text()), "intervals": {}}
    summary.write_text(json.dumps(undefined).replace("0.92", "null", 1))
    # JSON knows no NaN.
    assert document("diff", FIRST, SECOND)["metrics"] == {"overall: auc": [0.92, None]}
    assert "metrics    overall: auc: 0.92 [0.916, 0.924] -> undefined\n" in oncall("diff", FIRST, SECOND).output


def test_nested_values_are_named_by_their_dotted_keys() -> None:
    assert flatten({"a": {"b": [1, 2], "c": [{"d": 1}]}, "e": {}, "f": None}) == {
        "a.b": [1, 2],
        "a.c.0.d": 1,
        "f": None,
    }


def test_anomalies_are_those_of_the_validator_and_what_the_gate_made_of_them(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    anomalies = document("anomalies", "latest")
    assert anomalies["gate"] == "passed"
    assert anomalies["warnings"] == ["train: age: a little old"]
    assert anomalies["compared"] == {"SKEW": 14, "DRIFT": 0}
    assert anomalies["validator"] == [
        "train: workclass: Examples contain values missing from the schema: Gig (~5%). "
        "[ENUM_TYPE_UNEXPECTED_STRING_VALUES]"
    ]


def test_a_gate_that_stopped_says_by_what_and_what_to_do(runs: Runs, oncall: Oncall, document: Document) -> None:
    verdict = Verdict(["train: age: 430>120", "train: sex: new"], ["train: job: a little old"])
    runs.run(SECOND, fails=("Gate", verdict.format_error(), 3))
    anomalies = document("anomalies", SECOND)
    assert anomalies["gate"] == "STOPPED the run"
    assert (anomalies["stops"], anomalies["advice"]) == (verdict.stops, ADVICE)
    lines = oncall("anomalies", SECOND).output.splitlines()
    assert lines[2:5] == ["stopped by train: age: 430>120", "stopped by train: sex: new", f"do         {ADVICE}"]


def test_a_gate_that_failed_otherwise_says_its_error_and_gives_no_advice_on_data(
    runs: Runs, document: Document
) -> None:
    runs.run(SECOND, fails=("Gate", "Gate: ValueError: no", 1))
    anomalies = document("anomalies", SECOND)
    assert (anomalies["stops"], anomalies["advice"]) == (["Gate: ValueError: no"], "")


def test_a_run_that_ended_before_the_gate_has_no_verdict(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST, fails=("StatisticsGen", "no", 1))
    output = oncall("anomalies", FIRST).output
    assert "gate       not reached" in output
    assert "validator  was not reached, or its files are gone" in output
    assert "cause      StatisticsGen: no" in output


def test_damaged_files_are_named(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    file = runs.root.artifacts / "ExampleValidator" / "anomalies"
    (damaged,) = file.glob("*/Split-train/SchemaDiff.pb")
    damaged.write_bytes(b"\xff\xff\xff")
    (line,) = document("anomalies", FIRST)["validator"]
    assert line.startswith(f"train: {damaged}: cannot be read: ")
