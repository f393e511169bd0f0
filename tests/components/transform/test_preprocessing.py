"""Runs Transform over a few rows; every expected value is computed by hand."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from components.transform.component import BatchedTransformExecutor
from components.transform.preprocessing import ENCODERS, compute_cross_ids, escape_cross_field
from schemas.features import KINDS, Cross, FeatureSet, Input, Timestamp
from tests.components.transform.test_component import Place, read_columns

pytestmark = pytest.mark.integration

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
        "crosses": [{"features": ["listed", "raw"], "num_ids": 50}],
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
ROWS = [
    {"z": 1.0, "log": math.e - 1, "unit": 0.0, "raw": 0.5, "quarter": 1.0, "gain": 0.0, "learned": "x", "listed": "a", "grade": 0, "hashed": "p", "y": "yes"},
    {"z": 3.0, "unit": 5.0, "raw": 1.0, "quarter": 2.0, "gain": 0.0, "learned": "x", "listed": "b", "grade": 9, "hashed": "q", "y": "no"},
    {"log": 0.0, "unit": 10.0, "raw": 1.5, "quarter": 3.0, "gain": 7.0, "learned": "rare", "listed": "new", "hashed": "p", "y": "no"},
    {"z": 5.0, "log": math.e - 1, "unit": 5.0, "raw": 2.0, "quarter": 4.0, "gain": 9.0, "listed": "a", "grade": 2, "hashed": "", "y": "no"},
]  # fmt: skip


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the transformed rows by column."""
    place = Place(tmp_path_factory.mktemp("made"), FEATURES, {"train": [ROWS]})
    return read_columns(place.run(BatchedTransformExecutor, "made", ("train",)), "train")


def test_each_kind_of_feature_has_an_encoder() -> None:
    # The parts of a timestamp have encoders, and an input has no transformed column.
    assert {*ENCODERS, Timestamp, Input} == set(KINDS.values())


def test_a_z_score_uses_the_values_present_and_a_missing_one_becomes_their_mean(
    transformed: dict[str, Any],
) -> None:
    spread = math.sqrt(8 / 3)
    np.testing.assert_allclose(transformed["z"], [-2 / spread, 0, 0, 2 / spread], rtol=1e-5, atol=1e-6)


def test_a_log_z_score_fills_before_it_scales(transformed: dict[str, Any]) -> None:
    # Present are 1, 0, 1 after the logarithm: mean 2/3, variance 2/9; the missing value is 0.
    spread = math.sqrt(2 / 9)
    expected = [1 / 3 / spread, -2 / 3 / spread, -2 / 3 / spread, 1 / 3 / spread]
    np.testing.assert_allclose(transformed["log"], expected, rtol=1e-5)


def test_other_scales(transformed: dict[str, Any]) -> None:
    np.testing.assert_allclose(transformed["unit"], [0, 0.5, 1, 0.5])
    np.testing.assert_allclose(transformed["raw"], [0.5, 1, 1.5, 2])


def test_buckets(transformed: dict[str, Any]) -> None:
    assert [int(v) for v in transformed["raw_bucketized"]] == [0, 1, 1, 2]
    assert [int(v) for v in transformed["quarter_bucketized"]] == [0, 0, 1, 1]
    # Zero has a bucket of its own; 7 and 9 fall into the two of the non-zero values.
    assert [int(v) for v in transformed["gain_bucketized"]] == [0, 0, 1, 2]


def test_vocabularies(transformed: dict[str, Any]) -> None:
    # 'x' is frequent enough; 'rare' and the filled 'unknown' are not, and share the only other id.
    assert transformed["learned"][0] == transformed["learned"][1] == 0
    assert transformed["learned"][2] == transformed["learned"][3] == 1
    assert [int(v) for v in transformed["listed"]] == [0, 1, 2, 0]


def test_identity_is_clipped_and_filled(transformed: dict[str, Any]) -> None:
    assert [int(v) for v in transformed["grade"]] == [0, 3, 3, 2]


def test_hashes_and_crosses_depend_on_the_values_alone(transformed: dict[str, Any]) -> None:
    assert transformed["hashed"][0] == transformed["hashed"][2] == int(tf.strings.to_hash_bucket_fast(["p"], 5)[0])
    expected = tf.strings.to_hash_bucket_fast(["a\x1f0", "b\x1f1", "new\x1f1", "a\x1f2"], 50).numpy().tolist()
    assert [int(v) for v in transformed["listed_X_raw"]] == expected


def test_all_ids_lie_below_their_declared_number(transformed: dict[str, Any]) -> None:
    for column in FEATURES.id_columns:
        assert all(0 <= int(v) < column.num_ids for v in transformed[column.name]), column.name


def test_the_label_is_1_for_the_positive_value(transformed: dict[str, Any]) -> None:
    assert [int(v) for v in transformed["y"]] == [1, 0, 0, 0]
    assert tft.__version__.startswith("1.21")


def _transform(
    features: dict[str, Any], rows: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what rows become that are asked for, in a graph that was learned from other rows."""
    feature_set = FeatureSet.model_validate({"features": features, "label": {"kind": "regression", "column": "y"}})
    splits = {name: [[{"y": 0.0, **row} for row in part]] for name, part in (("train", rows), ("eval", asked))}
    with tempfile.TemporaryDirectory() as folder:
        columns = read_columns(Place(Path(folder), feature_set, splits).run(BatchedTransformExecutor, "made"), "eval")
    return [{name: column[row] for name, column in columns.items()} for row in range(len(asked))]


def test_a_category_with_a_line_break_and_the_empty_one_are_learned_like_any() -> None:
    categories = ["plain", "two\nlines", "two\r\nlines", "two\rlines", "", "C:\\new", "C:\new", "\\e", "\\"]
    # The most frequent first, so that the ids are known.
    rows = [{"v": category} for n, category in enumerate(categories) for _ in range(len(categories) - n)]
    asked = [{"v": category} for category in [*categories, "two lines"]]
    learned = _transform({"v": {"kind": "vocabulary", "max_size": 20}}, rows, asked)
    assert [int(row["v"]) for row in learned] == [*range(len(categories)), len(categories)]


def test_moments_of_large_numbers_do_not_overflow() -> None:
    values = np.array([1.0, -1.0] * 499 + [np.float32(9.96921e36)] * 2)
    logarithms = np.sign(values) * np.log1p(np.abs(values))
    scales = {"z_score": values, "log_z_score": logarithms}
    features = {scale: {"kind": "numeric", "scale": scale} for scale in [*scales, "min_max"]}
    rows = [dict.fromkeys(features, float(value)) for value in values]
    low, high = _transform(features, rows, [rows[0], rows[-1]])
    for scale, numbers in scales.items():
        expected = (numbers - numbers.mean()) / numbers.std()
        np.testing.assert_allclose([low[scale], high[scale]], expected[[0, -1]], rtol=1e-6)
    np.testing.assert_allclose([low["min_max"], high["min_max"]], [0, 1], atol=1e-6)


def test_a_range_wider_than_float32_is_scaled() -> None:
    learned = _transform(
        {"x": {"kind": "numeric", "scale": "min_max"}}, [{"x": -3e38}, {"x": 3e38}], [{"x": 0.0}, {"x": 3e38}]
    )
    assert [float(row["x"]) for row in learned] == [0.5, 1]


def test_numbers_far_from_zero_keep_their_z_scores() -> None:
    # Neighbours in float32, a thousand times each: a mean in float32 is off by more than their distance.
    low, high = 16_777_214.0, 16_777_215.0
    learned = _transform({"x": {"kind": "numeric"}}, [{"x": low}, {"x": high}] * 1000, [{"x": low}, {"x": high}])
    np.testing.assert_allclose([float(row["x"]) for row in learned], [-1, 1], rtol=1e-6)


def test_a_constant_has_no_spread_whatever_rounding_makes_of_its_mean() -> None:
    features = {scale: {"kind": "numeric", "scale": scale} for scale in ("z_score", "log_z_score")}
    same, other = dict.fromkeys(features, 0.1), dict.fromkeys(features, 0.2)
    learned = _transform(features, [same] * 997, [same, other])
    for scale in features:
        assert float(learned[0][scale]) == pytest.approx(0, abs=1e-9)
        assert 0 < float(learned[1][scale]) <= 0.11


def test_a_raw_id_of_minus_one_is_out_of_range_and_not_missing() -> None:
    learned = _transform({"g": {"kind": "identity", "num_ids": 4, "missing": 3}}, [{"g": 1}], [{"g": -1}, {}, {"g": 4}])
    assert [int(row["g"]) for row in learned] == [0, 3, 3]


def test_crossed_categories_cannot_run_into_each_other() -> None:
    texts = {"a": tf.constant(["x\x1fy", "x", "x\x1e", "x\x1e\x1f"]), "b": tf.constant(["z", "y\x1fz", "\x1fz", "z"])}
    cross = Cross(features=("a", "b"), num_ids=1_000_000)
    ids = compute_cross_ids(cross, {name: escape_cross_field(text) for name, text in texts.items()})
    assert len({*ids.numpy().tolist()}) == 4
