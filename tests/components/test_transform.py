"""Runs real TFT over a few rows; every expected value is computed by hand."""

import math
import tempfile
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from components.transform import preprocessing_fn
from schemas.features import FeatureSet

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "z": {"kind": "numeric", "missing": "mean"},
            "log": {"kind": "numeric", "scale": "log_z_score", "missing": 0.0},
            "unit": {"kind": "numeric", "scale": "min_max"},
            "raw": {"kind": "numeric", "scale": "identity", "buckets": {"kind": "boundaries", "boundaries": [1, 2]}},
            "quarter": {"kind": "numeric", "scale": "none", "buckets": {"kind": "quantiles", "count": 2}},
            "gain": {"kind": "numeric", "scale": "none", "buckets": {"kind": "nonzero_quantiles", "count": 2}},
            "learned": {"kind": "vocabulary", "max_size": 2, "min_count": 2, "missing": "unknown"},
            "listed": {"kind": "vocabulary_list", "values": ["a", "b"]},
            "grade": {"kind": "identity", "num_ids": 4, "missing": 3},
            "hashed": {"kind": "hash", "num_ids": 5},
        },
        "crosses": [{"of": ["listed", "raw"], "num_ids": 50}],
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
ROWS = [
    {"z": 1.0, "log": math.e - 1, "unit": 0.0, "raw": 0.5, "quarter": 1.0, "gain": 0.0, "learned": "x", "listed": "a", "grade": 0, "hashed": "p", "y": "yes"},
    {"z": 3.0, "unit": 5.0, "raw": 1.0, "quarter": 2.0, "gain": 0.0, "learned": "x", "listed": "b", "grade": 9, "hashed": "q", "y": "no"},
    {"log": 0.0, "unit": 10.0, "raw": 1.5, "quarter": 3.0, "gain": 7.0, "learned": "rare", "listed": "new", "hashed": "p", "y": "no"},
    {"z": 5.0, "log": math.e - 1, "unit": 5.0, "raw": 2.0, "quarter": 4.0, "gain": 9.0, "listed": "a", "grade": 2, "hashed": "", "y": "no"},
]  # fmt: skip
DTYPES = {"float": tf.float32, "int": tf.int64, "string": tf.string}


@pytest.fixture(scope="module")
def transformed() -> dict[str, list[Any]]:
    """The transformed rows by column."""
    spec = {name: tf.io.VarLenFeature(DTYPES[kind]) for name, kind in FEATURES.column_types.items()}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{name: [row[name]] if name in row else [] for name in spec} for row in ROWS]
    config = {"feature_set": FEATURES.model_dump_json()}
    with tempfile.TemporaryDirectory() as folder, tft_beam.Context(temp_dir=folder):
        (data, _), _ = (rows, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, custom_config=config)
        )
    return {name: [row[name] for row in data] for name in data[0]}


def test_a_z_score_uses_the_values_present_and_a_missing_one_becomes_their_mean(
    transformed: dict[str, list[Any]],
) -> None:
    spread = math.sqrt(8 / 3)
    np.testing.assert_allclose(transformed["z"], [-2 / spread, 0, 0, 2 / spread], rtol=1e-5, atol=1e-6)


def test_a_log_z_score_fills_before_it_scales(transformed: dict[str, list[Any]]) -> None:
    # Present are 1, 0, 1 after the logarithm: mean 2/3, variance 2/9; the missing value is 0.
    spread = math.sqrt(2 / 9)
    expected = [1 / 3 / spread, -2 / 3 / spread, -2 / 3 / spread, 1 / 3 / spread]
    np.testing.assert_allclose(transformed["log"], expected, rtol=1e-5)


def test_other_scales(transformed: dict[str, list[Any]]) -> None:
    np.testing.assert_allclose(transformed["unit"], [0, 0.5, 1, 0.5])
    np.testing.assert_allclose(transformed["raw"], [0.5, 1, 1.5, 2])


def test_buckets(transformed: dict[str, list[Any]]) -> None:
    assert [int(v) for v in transformed["raw_bucketized"]] == [0, 1, 1, 2]
    assert [int(v) for v in transformed["quarter_bucketized"]] == [0, 0, 1, 1]
    # Zero has a bucket of its own; 7 and 9 fall into the two of the non-zero values.
    assert [int(v) for v in transformed["gain_bucketized"]] == [0, 0, 1, 2]


def test_vocabularies(transformed: dict[str, list[Any]]) -> None:
    # 'x' is frequent enough; 'rare' and the filled 'unknown' are not, and share the only other id.
    assert transformed["learned"][0] == transformed["learned"][1] == 0
    assert transformed["learned"][2] == transformed["learned"][3] == 1
    assert [int(v) for v in transformed["listed"]] == [0, 1, 2, 0]


def test_identity_is_clipped_and_filled(transformed: dict[str, list[Any]]) -> None:
    assert [int(v) for v in transformed["grade"]] == [0, 3, 3, 2]


def test_hashes_and_crosses_depend_on_the_values_alone(transformed: dict[str, list[Any]]) -> None:
    assert transformed["hashed"][0] == transformed["hashed"][2] == int(tf.strings.to_hash_bucket_fast(["p"], 5)[0])
    expected = tf.strings.to_hash_bucket_fast(["a\x1f0", "b\x1f1", "new\x1f1", "a\x1f2"], 50).numpy().tolist()
    assert [int(v) for v in transformed["listed_X_raw"]] == expected


def test_all_ids_lie_below_their_declared_number(transformed: dict[str, list[Any]]) -> None:
    for column in FEATURES.id_columns:
        assert all(0 <= int(v) < column.num_ids for v in transformed[column.name]), column.name


def test_the_label_is_1_for_the_positive_value(transformed: dict[str, list[Any]]) -> None:
    assert [int(v) for v in transformed["y"]] == [1, 0, 0, 0]
    assert tft.__version__.startswith("1.21")
