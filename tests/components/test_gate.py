"""The gate's reading of anomalies, on statistics of real rows."""

import pandas as pd
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.gate import _skew, describe

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
    return describe(tfdv.validate_statistics(statistics, SCHEMA))


def test_data_that_fits_has_no_anomaly() -> None:
    assert anomalies([20.0, 30.0], ["clerk", "cook"]) == []


def test_a_number_out_of_range_is_named() -> None:
    (line,) = anomalies([20.0, 200.0], ["clerk", "cook"])
    assert line.startswith("age: Unexpectedly high value: 200>120")


def test_a_new_category_is_an_anomaly_above_its_share_and_none_below() -> None:
    (line,) = anomalies([20.0] * 10, ["clerk"] * 8 + ["pilot"] * 2)
    assert line.startswith("job: ")
    assert "pilot" in line
    assert anomalies([20.0] * 20, ["clerk"] * 19 + ["pilot"]) == []


def test_skew_beyond_the_comparator_is_named_and_less_is_not() -> None:
    def statistics(jobs: list[str]) -> object:
        return tfdv.generate_statistics_from_dataframe(
            pd.DataFrame({"age": [1.0] * len(jobs), "job": jobs}).astype({"age": "float32"})
        )

    train = statistics(["clerk"] * 5 + ["cook"] * 5)
    (line,) = describe(_skew(train, statistics(["clerk"] * 9 + ["cook"]), SCHEMA))
    assert line.startswith("job: The Linfty distance between training and serving is 0.4")
    assert describe(_skew(train, statistics(["clerk"] * 6 + ["cook"] * 4), SCHEMA)) == []
