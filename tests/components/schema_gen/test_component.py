"""Inferred schemas, on statistics of a few rows."""

import pandas as pd
import pyarrow as pa
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.example_validator.anomalies import list_anomalies
from components.schema_gen.component import infer
from schemas.features import ColumnType


def statistics(jobs: list[str | None]) -> statistics_pb2.DatasetFeatureStatisticsList:
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame({"job": jobs}))


def format_anomalies(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    return [str(anomaly) for anomaly in list_anomalies(anomalies, "train")]


TRAIN = statistics(["clerk", "cook"] * 100)
TYPES: dict[str, ColumnType] = {"job": "string"}


def test_categories_that_train_lacks_are_an_anomaly_above_one_percent_only() -> None:
    schema = infer(TRAIN, TYPES, optional=frozenset())
    assert format_anomalies(tfdv.validate_statistics(statistics(["clerk"] * 199 + ["pilot"]), schema)) == []
    (line,) = format_anomalies(tfdv.validate_statistics(statistics(["clerk"] * 190 + ["pilot"] * 10), schema))
    assert line.startswith("train: job: Examples contain values missing from the schema: pilot (~5%). [")


def test_a_missing_value_is_an_anomaly_unless_it_is_declared() -> None:
    some_missing = statistics(["clerk"] * 199 + [None])
    (line,) = format_anomalies(tfdv.validate_statistics(some_missing, infer(TRAIN, TYPES, optional=frozenset())))
    assert line.startswith("train: job: The feature was present in fewer examples than expected")
    assert (
        format_anomalies(tfdv.validate_statistics(some_missing, infer(TRAIN, TYPES, optional=frozenset({"job"})))) == []
    )
    # Even where train itself has one.
    assert (
        format_anomalies(tfdv.validate_statistics(some_missing, infer(some_missing, TYPES, optional=frozenset()))) != []
    )


def compute_statistics(columns: dict[str, pa.Array]) -> statistics_pb2.DatasetFeatureStatisticsList:
    batch = pa.RecordBatch.from_arrays([pa.array(column) for column in columns.values()], list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


def test_the_declared_types_hold_whatever_the_values_look_like() -> None:
    train = compute_statistics(
        {
            "empty number": pa.nulls(50),
            "empty id": pa.nulls(50),
            "code": pa.array([["0150"], ["0151"]] * 25),
            "id": pa.array([[1], [2]] * 25, pa.large_list(pa.int64())),
        }
    )
    types: dict[str, ColumnType] = {
        "empty number": "float",
        "empty id": "int",
        "code": "string",
        "id": "int",
        "absent": "float",
    }
    schema = infer(train, types, optional=["absent", "empty number"])
    assert {feature.name: schema_pb2.FeatureType.Name(feature.type) for feature in schema.feature} == {
        "empty number": "FLOAT",
        "empty id": "INT",
        "code": "BYTES",
        "id": "INT",
        "absent": "FLOAT",
    }
    assert {feature.name: feature.presence.min_fraction for feature in schema.feature} == {
        "empty number": 0,
        "empty id": 1,
        "code": 1,
        "id": 1,
        "absent": 0,
    }
    assert [(domain.name, list(domain.value)) for domain in schema.string_domain] == [("code", ["0150", "0151"])]


def test_strings_that_were_integers_in_train_may_be_other_strings_later() -> None:
    train = compute_statistics({"code": pa.array([["0150"], ["0151"]] * 100)})
    schema = infer(train, {"code": "string"}, optional=[])
    few = compute_statistics({"code": pa.array([["0150"]] * 199 + [["0150a"]])})
    assert format_anomalies(tfdv.validate_statistics(few, schema)) == []
    (line,) = format_anomalies(
        tfdv.validate_statistics(compute_statistics({"code": pa.array([["0150"], ["0150a"]] * 25)}), schema)
    )
    assert "0150a" in line
