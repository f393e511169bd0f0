"""Inferred schemas, on statistics of a few rows."""

import pandas as pd
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.gate import describe
from components.schema import infer


def statistics(jobs: list[str | None]) -> statistics_pb2.DatasetFeatureStatisticsList:
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame({"job": jobs}))


TRAIN = statistics(["clerk", "cook"] * 100)


def test_categories_that_train_lacks_are_an_anomaly_above_one_percent_only() -> None:
    schema = infer(TRAIN, optional=frozenset())
    assert describe(tfdv.validate_statistics(statistics(["clerk"] * 199 + ["pilot"]), schema)) == []
    (line,) = describe(tfdv.validate_statistics(statistics(["clerk"] * 190 + ["pilot"] * 10), schema))
    assert line == "job: Examples contain values missing from the schema: pilot (~5%)."


def test_a_missing_value_is_an_anomaly_unless_it_is_declared() -> None:
    some_missing = statistics(["clerk"] * 199 + [None])
    (line,) = describe(tfdv.validate_statistics(some_missing, infer(TRAIN, optional=frozenset())))
    assert line.startswith("job: The feature was present in fewer examples than expected")
    assert describe(tfdv.validate_statistics(some_missing, infer(TRAIN, optional=frozenset({"job"})))) == []
    # Even where train itself has one.
    assert describe(tfdv.validate_statistics(some_missing, infer(some_missing, optional=frozenset()))) != []
