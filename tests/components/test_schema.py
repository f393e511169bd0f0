"""Inferred schemas, on statistics of a few rows."""

import pandas as pd
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from components.anomalies import listed
from components.schema import infer


def statistics(jobs: list[str | None]) -> statistics_pb2.DatasetFeatureStatisticsList:
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame({"job": jobs}))


def described(found: anomalies_pb2.Anomalies) -> list[str]:
    return [str(anomaly) for anomaly in listed(found, "train")]


TRAIN = statistics(["clerk", "cook"] * 100)


def test_categories_that_train_lacks_are_an_anomaly_above_one_percent_only() -> None:
    schema = infer(TRAIN, optional=frozenset())
    assert described(tfdv.validate_statistics(statistics(["clerk"] * 199 + ["pilot"]), schema)) == []
    (line,) = described(tfdv.validate_statistics(statistics(["clerk"] * 190 + ["pilot"] * 10), schema))
    assert line.startswith("train: job: Examples contain values missing from the schema: pilot (~5%). [")


def test_a_missing_value_is_an_anomaly_unless_it_is_declared() -> None:
    some_missing = statistics(["clerk"] * 199 + [None])
    (line,) = described(tfdv.validate_statistics(some_missing, infer(TRAIN, optional=frozenset())))
    assert line.startswith("train: job: The feature was present in fewer examples than expected")
    assert described(tfdv.validate_statistics(some_missing, infer(TRAIN, optional=frozenset({"job"})))) == []
    # Even where train itself has one.
    assert described(tfdv.validate_statistics(some_missing, infer(some_missing, optional=frozenset()))) != []
