"""Anomalies that are found in groups of columns, against TFDV's own of the whole table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.example_validator import executor
from tfx.types import standard_artifacts

from components.example_validator.component import ExampleValidator
from components.example_validator.validation import find_anomalies
from components.gate.component import read_anomalies
from tests.statistics import statistics_of

_COLUMNS, _ROWS = 130, 60


def statistics(seed: int = 0, *, without: tuple[int, ...] = ()) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Return statistics of numbers, whole numbers and strings by turns; some columns have missing values."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for number in set(range(_COLUMNS)) - set(without):
        name = f"column {number:03d}"
        match number % 3:
            case 0:
                columns[name] = random.normal(seed, 1, _ROWS).astype(np.float32)
            case 1:
                columns[name] = random.integers(0, 9 + seed, _ROWS)
            case _:
                columns[name] = random.choice(list("abcdefgh")[seed:], _ROWS)
        if number % 7 == 0:
            columns[name] = [None, *columns[name].tolist()[1:]]
    return statistics_of(columns)


def schema() -> schema_pb2.Schema:
    """Return a schema that many columns do not fit: bounds, domains, types, presence, names, environments."""
    inferred = tfdv.infer_schema(statistics())
    inferred.default_environment.extend(["TRAINING", "SERVING"])
    for number, feature in enumerate(inferred.feature):
        feature.drift_comparator.jensen_shannon_divergence.threshold = 0.05
        feature.skew_comparator.jensen_shannon_divergence.threshold = 0.05
        feature.presence.min_fraction = 1.0
        if feature.type == schema_pb2.FLOAT:
            feature.float_domain.max = 1.5
        if number % 11 == 0:
            feature.ClearField("type")
            feature.type = schema_pb2.INT
        if number % 13 == 0:
            feature.not_in_environment.append("SERVING")
        if number % 17 == 0:
            feature.lifecycle_stage = schema_pb2.DEPRECATED
        if number in (45, 60, 100):
            feature.name = f"renamed {number}"
    # One domain of several columns, in different groups.
    shared = [feature for feature in inferred.feature if feature.type == schema_pb2.BYTES]
    for feature in shared:
        feature.domain = "letters"
    inferred.string_domain.add(name="letters", value=["a", "b", "c"])
    inferred.string_domain.add(name="unused", value=["x"])
    inferred.dataset_constraints.min_examples_count = 1_000
    return inferred


def assert_equal(actual: anomalies_pb2.Anomalies, expected: anomalies_pb2.Anomalies) -> None:
    assert actual.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_anomalies_are_those_of_the_whole_table() -> None:
    data, expected = statistics(), tfdv.validate_statistics(statistics(), schema())
    # Every kind of anomaly that a column alone can have, and one of the data set.
    kinds = {reason.type for info in expected.anomaly_info.values() for reason in info.reason}
    assert {anomalies_pb2.AnomalyInfo.Type.Name(kind) for kind in kinds} >= {
        "SCHEMA_NEW_COLUMN",
        "SCHEMA_MISSING_COLUMN",
        "FLOAT_TYPE_BIG_FLOAT",
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "UNEXPECTED_DATA_TYPE",
        "FEATURE_TYPE_LOW_FRACTION_PRESENT",
    }
    assert len(expected.dataset_anomaly_info.reason) == 1
    assert len(expected.anomaly_info) > 60
    assert_equal(find_anomalies(data.datasets[0], schema()), expected)


@pytest.mark.parametrize("side", ["previous", "serving"])
def test_drift_and_skew_are_those_of_the_whole_table(side: str) -> None:
    before, now = statistics(1, without=(3, 50)), statistics(without=(20,))
    expected = tfdv.validate_statistics(now, schema(), **{f"{side}_statistics": before})
    assert len(expected.drift_skew_info) > 100
    assert_equal(find_anomalies(now.datasets[0], schema(), **{side: before.datasets[0]}), expected)


def test_data_without_rows_or_columns_is_judged_once() -> None:
    for data in (statistics_pb2.DatasetFeatureStatistics(), statistics_pb2.DatasetFeatureStatistics(num_examples=9)):
        whole = statistics_pb2.DatasetFeatureStatisticsList(datasets=[data])
        for description in (schema(), schema_pb2.Schema()):
            assert_equal(find_anomalies(data, description), tfdv.validate_statistics(whole, description))


def test_columns_that_are_made_of_others_stay_together() -> None:
    description = schema()
    description.weighted_feature.add(
        name="weighted",
        feature={"step": ["column 001"]},
        weight_feature={"step": ["column 120"]},
    )
    data = statistics()
    assert_equal(find_anomalies(data.datasets[0], description), tfdv.validate_statistics(data, description))


def test_the_artifact_is_that_of_the_stock_component(tmp_path: Path) -> None:
    data, description = standard_artifacts.ExampleStatistics(), standard_artifacts.Schema()
    data.uri, description.uri = str(tmp_path / "statistics"), str(tmp_path / "schema")
    data.split_names, data.span = '["train", "eval"]', 3
    for seed, split in enumerate(("train", "eval")):
        folder = tmp_path / "statistics" / f"Split-{split}"
        folder.mkdir(parents=True)
        (folder / "FeatureStats.pb").write_bytes(statistics(seed).SerializeToString())
    (tmp_path / "schema").mkdir()
    tfdv.write_schema_text(schema(), str(tmp_path / "schema" / "schema.pbtxt"))
    ours, theirs = (standard_artifacts.ExampleAnomalies() for _ in range(2))
    ours.uri, theirs.uri = str(tmp_path / "ours"), str(tmp_path / "theirs")
    ExampleValidator.test_call(statistics=data, schema=description, anomalies=ours, code_fingerprint="")
    executor.Executor().Do({"statistics": [data], "schema": [description]}, {"anomalies": [theirs]}, {})
    assert (ours.split_names, ours.span) == (theirs.split_names, 3)
    blessed = executor.ARTIFACT_PROPERTY_BLESSED_KEY
    assert ours.get_json_value_custom_property(blessed) == theirs.get_json_value_custom_property(blessed)
    for split in ("train", "eval"):
        assert_equal(read_anomalies(f"{ours.uri}/Split-{split}"), read_anomalies(f"{theirs.uri}/Split-{split}"))


def test_bounds_are_shares_of_rows_whatever_the_weights() -> None:
    text = """num_examples: 100 weighted_num_examples: 1000 features { path { step: "x" } type: FLOAT num_stats {
      common_stats { num_non_missing: 50 num_missing: 50 min_num_values: 1 max_num_values: 1 tot_num_values: 50
        weighted_common_stats { num_non_missing: 990 num_missing: 10 tot_num_values: 990 } } } }"""
    weighted = text_format.Parse(text, statistics_pb2.DatasetFeatureStatistics())
    schema = text_format.Parse('feature { name: "x" type: FLOAT presence { min_fraction: 0.6 } }', schema_pb2.Schema())
    assert list(find_anomalies(weighted, schema).anomaly_info) == ["x"]
