"""The gate's reading of anomalies, on statistics of real rows."""

import datetime
import json
from typing import Any

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from components.config import Comparison, Evaluation, Validation
from components.example_gen.component import LABELS_PROPERTY
from components.example_validator.anomalies import list_anomalies, mask_values
from components.example_validator.validation import find_anomalies
from components.gate.anomaly_rows import Concerned
from components.gate.comparison import Side, compute_shifts
from components.gate.component import _find_few_rows
from components.gate.derived_ids import find_derived_out_of_range
from components.policy import Anomaly, judge
from components.sensitive_statistics import mark_sensitive
from schemas.features import BinaryLabel, FeatureSet, RegressionLabel
from tests.statistics import statistics_of

SCHEMA = text_format.Parse(
    """
    feature { name: "age" type: FLOAT presence { min_fraction: 1 min_count: 1 } value_count { min: 1 max: 1 }
      float_domain { min: 0 max: 120 disallow_nan: true } }
    feature { name: "job" type: BYTES domain: "job" presence { min_fraction: 1 min_count: 1 } value_count { min: 1 max: 1 }
      distribution_constraints { min_domain_mass: 0.9 } skew_comparator { infinity_norm { threshold: 0.2 } } }
    string_domain { name: "job" value: "clerk" value: "cook" }
    """,
    schema_pb2.Schema(),
)


def anomalies(ages: list[float], jobs: list[str]) -> list[str]:
    statistics = tfdv.generate_statistics_from_dataframe(
        pd.DataFrame({"age": ages, "job": jobs}).astype({"age": "float32"})
    )
    return [str(anomaly) for anomaly in list_anomalies(tfdv.validate_statistics(statistics, SCHEMA), "train")]


def test_derived_ids_that_the_model_would_clip_are_counted() -> None:
    fares = {"kind": "identity", "num_ids": 3, "missing": 0, "expression": "floor(age)"}
    features = FeatureSet.model_validate(
        {
            "features": {
                "age": {"kind": "numeric"},
                "tens": fares,
                "level": {**fares, "expression": "age"},
                "size": {"kind": "identity", "num_ids": 2},
            },
            "label": {"column": "job", "positive": "cook", "negative": "clerk"},
        }
    )
    statistics = {
        # The reader of the files counts those of `size`.
        "train": statistics_of({"tens": [0, 1, 2] * 5, "level": [0, 1, 2] * 5, "size": [7] * 15}),
        "test": statistics_of({"tens": [-1, 0, 2, 3, 9, None], "level": [0] * 6, "size": [7] * 6}),
    }
    (anomaly,) = find_derived_out_of_range(features, statistics)
    assert (anomaly.where, anomaly.feature, anomaly.kind) == ("test", "tens", "ID_OUT_OF_RANGE")
    assert anomaly.text == (
        "3 of 5 values of tens = floor(age) are outside of [0, 3), and would be clipped into it; raise "
        "features.tens.num_ids, or correct the expression"
    )
    assert judge([anomaly], Validation(), today=datetime.date(2026, 1, 1)).warnings == [str(anomaly)]


def test_data_that_fits_has_no_anomaly() -> None:
    assert anomalies([20.0, 30.0], ["clerk", "cook"]) == []


def test_a_number_out_of_range_is_named() -> None:
    (line,) = anomalies([20.0, 200.0], ["clerk", "cook"])
    assert line.startswith("train: age: Unexpectedly high value: 200>120")


def test_a_new_category_is_an_anomaly_above_its_share_and_none_below() -> None:
    (line,) = anomalies([20.0] * 10, ["clerk"] * 8 + ["pilot"] * 2)
    assert line.startswith("train: job: ")
    assert "pilot" in line
    assert anomalies([20.0] * 20, ["clerk"] * 19 + ["pilot"]) == []


def statistics(ages: list[float], jobs: list[str]) -> Any:
    frame = pd.DataFrame({"age": ages, "job": jobs}).astype({"age": "float32"})
    return tfdv.generate_statistics_from_dataframe(frame)


@pytest.mark.parametrize(
    ("kind", "ages", "jobs", "rows_text"),
    [
        ("FLOAT_TYPE_BIG_FLOAT", [20.0] * 9 + [200.0], ["cook"] * 10, "1 of 10 rows"),
        ("FLOAT_TYPE_BIG_FLOAT", [20.0] * 1999 + [200.0], ["cook"] * 2000, "1 of 2,000 rows"),
        ("FLOAT_TYPE_BIG_FLOAT", [200.0] * 10, ["cook"] * 10, "10 of 10 rows"),
        ("FLOAT_TYPE_SMALL_FLOAT", [20.0] * 1500 + [-5.0] * 500, ["cook"] * 2000, "500 of 2,000 rows"),
        ("FLOAT_TYPE_BIG_FLOAT", [i / 100 for i in range(14_000)], ["cook"] * 14_000, "about 1,999 of 14,000 rows"),
        ("ENUM_TYPE_UNEXPECTED_STRING_VALUES", [20.0] * 10, ["cook"] * 7 + ["pilot"] * 2 + ["x"], "3 of 10 rows"),
        (
            "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
            [20.0] * 10,
            [["cook", "x"]] * 3 + [["cook"]] * 7,
            "3 of 13 values in 10 rows",
        ),
        ("FEATURE_TYPE_LOW_FRACTION_PRESENT", [20.0] * 10, ["cook"] * 9 + [None], "1 of 10 rows have none"),
        ("SCHEMA_NEW_COLUMN", [20.0] * 10, ["cook"] * 10, ""),
    ],
)
def test_how_many_rows_an_anomaly_is_about(kind: str, ages: list[float], jobs: list[Any], rows_text: str) -> None:
    name = "age" if kind.startswith("FLOAT") else "job"
    assert Concerned(statistics_of({"age": ages, "job": jobs}), SCHEMA).describe_rows(kind, name) == rows_text


def test_distances_name_measure_value_threshold_and_what_moved() -> None:
    before = statistics([float(i) for i in range(100)], ["clerk"] * 50 + ["cook"] * 50)
    now = statistics([float(i + 50) for i in range(100)], ["clerk"] * 90 + ["cook"] * 10)
    comparison = Comparison.model_validate({"default": {"measure": "jensen_shannon", "threshold": 0.1}})
    job, age = sorted(
        compute_shifts(before, now, SCHEMA, comparison, "skew"), key=lambda shift: shift.feature, reverse=True
    )
    # The schema's own comparator goes before the config's.
    assert str(job) == (
        "L-infinity distance 0.4000, at most 0.2; moved most: 'clerk' 50.0% to 90.0%, 'cook' 50.0% to 10.0%"
    )
    assert job.exceeded and age.exceeded
    assert (age.measure, age.threshold) == ("Jensen-Shannon", 0.1)
    # Half of the rows are beyond all that was there before.
    assert age.moved[0][0] == "above 99"
    assert age.moved[0][2] == pytest.approx(0.5, abs=0.02)
    # The schema has no comparator for drift, so that the config's holds for both.
    assert {shift.measure for shift in compute_shifts(before, now, SCHEMA, comparison, "drift")} == {"Jensen-Shannon"}
    assert compute_shifts(before, now, SCHEMA, Comparison(), "drift") == []
    assert not any(shift.exceeded for shift in compute_shifts(before, before, SCHEMA, comparison, "skew"))


def test_distances_are_those_that_tfdv_itself_measures() -> None:
    before = statistics([float(i) for i in range(100)], ["clerk"] * 50 + ["cook"] * 50)
    now = statistics([float(i * i) for i in range(100)], ["clerk"] * 90 + ["cook"] * 10)
    schema = schema_pb2.Schema()
    schema.CopyFrom(SCHEMA)
    for feature in schema.feature:
        feature.drift_comparator.jensen_shannon_divergence.threshold = 0.1
    skew = tfdv.validate_statistics(now, schema, serving_statistics=before).drift_skew_info
    drift = tfdv.validate_statistics(now, schema, previous_statistics=before).drift_skew_info
    theirs = {f"drift {i.path.step[0]}": i.drift_measurements[0].value for i in drift}
    theirs |= {f"skew {i.path.step[0]}": i.skew_measurements[0].value for i in skew}
    sides: tuple[Side, ...] = ("drift", "skew")
    ours = {
        f"{side} {s.feature}": s.value
        for side in sides
        for s in compute_shifts(before, now, schema, Comparison(), side)
    }
    assert set(ours) == {"drift age", "drift job", "skew job"}
    assert ours == theirs


DAY = datetime.date(2026, 11, 24)
NEW_JOB = Anomaly("train", "job", "ENUM_TYPE_UNEXPECTED_STRING_VALUES", "pilot 20%")
DRIFTED = Anomaly("train against that of the pushed model", "age", "DRIFT", "far")


@pytest.mark.parametrize(
    ("policy", "stops", "warnings"),
    [
        ({}, 2, 0),
        ({"severities": [{"anomaly": "DRIFT", "severity": "warn"}]}, 1, 1),
        ({"severities": [{"anomaly": "DRIFT", "severity": "ignore"}]}, 1, 0),
        ({"severities": [{"anomaly": "DRIFT", "features": ["job"], "severity": "ignore"}]}, 2, 0),
        (
            {
                "severities": [
                    {"anomaly": "DRIFT", "severity": "ignore"},
                    {"anomaly": "DRIFT", "features": ["age"], "severity": "stop"},
                ]
            },
            2,
            0,
        ),
    ],
)
def test_severities(policy: dict[str, Any], stops: int, warnings: int) -> None:
    verdict = judge([NEW_JOB, DRIFTED], Validation.model_validate(policy), today=DAY)
    assert (len(verdict.stops), len(verdict.warnings)) == (stops, warnings)


def test_an_allowance_passes_until_its_last_day_and_says_why() -> None:
    allowed = {"feature": "job", "anomaly": NEW_JOB.kind, "until": "2026-11-24", "reason": "merger, see #12"}
    policy = Validation.model_validate({"allowed": [allowed]})
    (line,) = judge([NEW_JOB], policy, today=DAY).warnings
    assert line.endswith("[ENUM_TYPE_UNEXPECTED_STRING_VALUES]; allowed until 2026-11-24: merger, see #12")
    (line,) = judge([NEW_JOB], policy, today=DAY + datetime.timedelta(days=1)).stops
    assert line.endswith("; was allowed until 2026-11-24: merger, see #12")
    assert len(judge([DRIFTED], policy, today=DAY).stops) == 1


def test_too_few_rows_to_bless_a_model_are_said_before_one_is_trained() -> None:
    label = BinaryLabel(column="bought", positive="yes", negative="no")
    evaluation = Evaluation.model_validate({"split": "test", "thresholds": [{"metric": "auc", "lower_bound": 0.5}]})
    examples = standard_artifacts.Examples()
    labels = {"train": {"no": 90, "yes": 30}, "test": {"no": 12, "yes": 6}}
    examples.set_string_custom_property(LABELS_PROPERTY, json.dumps(labels))
    (anomaly,) = _find_few_rows(examples, evaluation, label)
    (line,) = judge([anomaly], Validation(), today=DAY).warnings
    assert line == (
        "test: bought: rows of test: 18, must be at least 20 (evaluation.min_rows); give 'test' more rows; no model will "
        "be blessed on so few [TOO_FEW_ROWS]"
    )
    stop = Validation.model_validate({"severities": [{"anomaly": "TOO_FEW_ROWS", "severity": "stop"}]})
    assert judge([anomaly], stop, today=DAY).stops == [line]
    assert _find_few_rows(examples, evaluation.model_copy(update={"min_rows": 18}), label) == []


def test_the_rows_of_a_regression_are_counted_too() -> None:
    label = RegressionLabel(kind="regression", column="price")
    evaluation = Evaluation.model_validate({"split": "test", "thresholds": [{"metric": "rmse", "upper_bound": 5}]})
    examples = standard_artifacts.Examples()
    examples.set_string_custom_property(LABELS_PROPERTY, json.dumps({"test": {"rows": 7, "mean": 1.0, "std": 2.0}}))
    (anomaly,) = _find_few_rows(examples, evaluation, label)
    assert (anomaly.where, anomaly.feature, anomaly.text[:16]) == ("test", "price", "rows of test: 7,")


def test_of_a_sensitive_column_neither_anomalies_nor_shifts_show_values() -> None:
    before = statistics_of({"age": [20.0] * 9 + [30.0], "job": ["clerk"] * 9 + ["cook"]})
    now = statistics_of({"age": [987654.0] * 9 + [-987654.0], "job": ["CANARY"] * 10})
    for feature in now.datasets[0].features:
        mark_sensitive(feature)
    anomalies_of_split = find_anomalies(now.datasets[0], SCHEMA)
    mask_values(anomalies_of_split, now.datasets[0])
    lines = [str(anomaly) for anomaly in list_anomalies(anomalies_of_split, "train")]
    assert {line.partition(": <masked>")[0] for line in lines} == {
        "train: age: Out-of-range values",
        "train: job: Unexpected string values",
    }
    comparison = Comparison.model_validate({"default": {"threshold": 0.1}})
    moved = [str(shift) for shift in compute_shifts(before, now, SCHEMA, comparison, "drift")]
    assert len(moved) == 2 and all("moved most: <masked> 0.0% to " in line for line in moved)
    assert not any(value in f"{lines} {moved} {anomalies_of_split}" for value in ("987", "CANARY", "clerk"))
