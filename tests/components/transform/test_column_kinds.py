"""Runs Transform over times, lists, texts, vectors and derived columns; other libraries give the expected values."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import QuantileTransformer, RobustScaler

from components.transform.component import BatchedTransformExecutor
from schemas.features import FeatureSet
from tests.components.transform.test_component import Place, read_columns

pytestmark = pytest.mark.integration

LABEL = {"column": "y", "positive": "yes", "negative": "no"}
Rows = list[dict[str, Any]]


def bag(columns: dict[str, np.ndarray], name: str, row: int) -> dict[int, float]:
    """Return the sum of the weights of each id of a row."""
    total: dict[int, float] = {}
    for id_, weight in zip(columns[name][row], columns[f"{name}_weights"][row], strict=True):
        if weight:
            total[int(id_)] = total.get(int(id_), 0.0) + float(weight)
    return total


PARTS = {"month": {}, "day_of_month": {}, "weekday": {}, "hour": {"cyclical": True}, "minute_of_day": {}}
AIRPORT = {"kind": "vocabulary", "max_size": 3, "missing": "?", "shared": "airport"}
GENRES = {"kind": "list", "max_values": 3}
CHARACTERS = {
    "word_ngrams": 1,
    "character_ngrams": [3],
    "weights": "counts",
    "tokens": {"kind": "hash", "num_ids": 5000},
}
FEATURES: dict[str, Any] = {
    "at": {"kind": "timestamp", "parts": PARTS, "missing": "own_id"},
    "fare": {"kind": "numeric", "missing": "mean"},
    "miles": {"kind": "input", "type": "number", "missing": "allowed"},
    "rate": {"kind": "numeric", "scale": "identity", "expression": "fare / miles", "missing": -1},
    "is_far": {"kind": "vocabulary_list", "values": ["false", "true"], "expression": "miles > 5", "missing": "?"},
    "late": {"kind": "identity", "num_ids": 2, "expression": "hour(at) >= 12", "missing": 0},
    "sum": {**GENRES, "combiner": "sum"},
    "mean": GENRES,
    "sqrtn": {**GENRES, "combiner": "sqrtn"},
    "text": {"kind": "text", "tokens": {"max_size": 1_000}},
    "characters": {"kind": "text", **CHARACTERS},
    "vector": {"kind": "vector", "length": 2, "missing": "zeros"},
    "origin": AIRPORT,
    "target": AIRPORT,
    "robust": {"kind": "numeric", "scale": "robust", "missing": 0.0, "missing_indicator": True},
    "normal": {"kind": "numeric", "scale": "quantile_normal"},
}
TEXTS = ["Free entry! FREE £1000 prize", "call me when free", "ok… 👍 ok", "Ça va? Привет мир", "the prize is yours"]
LOGNORMAL = np.random.default_rng(0).lognormal(size=2_000).astype(np.float32)
# 2024-02-29 13:45:30 was a Thursday.
FIRST_ROWS: Rows = [
    {"at": 1_709_214_330, "fare": 6.0, "miles": 3.0, "genres": "Action| Comedy", "characters": "abc 你好",
     "vector": "[1, 10]", "origin": "OSL", "target": "BER"},
    {"miles": 9.0, "genres": "Action", "characters": "ABC", "vector": "3,30", "origin": "OSL", "target": "NRT"},
    {"at": 0, "fare": 1.0, "miles": 0.0, "characters": "", "origin": "NRT", "target": "OSL"},
    {"genres": "||"},
]  # fmt: skip


TEXT_COLUMNS = ("sum", "mean", "sqrtn", "text", "characters")


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Return the transformed columns of all rows, from one analysis."""
    empty = {"y": "no", **dict.fromkeys(TEXT_COLUMNS, "")}
    rows: Rows = [{**empty, "normal": value, "robust": value} for value in LOGNORMAL]
    for row, values in zip(rows, FIRST_ROWS, strict=False):
        row.update({**values, **dict.fromkeys(("sum", "mean", "sqrtn"), values.get("genres", ""))})
    for row, text in zip(rows, TEXTS, strict=False):
        row["text"] = text
    del rows[-1]["robust"]
    features = FeatureSet.model_validate({"features": FEATURES, "label": LABEL})
    place = Place(tmp_path_factory.mktemp("columns"), features, {"train": [rows]})
    return read_columns(place.run(BatchedTransformExecutor, "made", ("train",)), "train")


def test_the_parts_of_a_time(columns: dict[str, np.ndarray]) -> None:
    assert columns["at_month"].tolist()[:2] == [1, 12]
    assert columns["at_day_of_month"].tolist()[:2] == [28, 31]
    assert columns["at_weekday"].tolist()[:2] == [3, 7]
    assert columns["at_hour"].tolist()[:2] == [13, 24]
    assert columns["at_minute_of_day"].tolist()[:2] == [825, 1_440]
    np.testing.assert_allclose(columns["at_hour_sin"][:2], [math.sin(2 * math.pi * 13 / 24), 0], atol=1e-6)
    np.testing.assert_allclose(columns["at_hour_cos"][:2], [math.cos(2 * math.pi * 13 / 24), 0], atol=1e-6)


def test_derived_columns(columns: dict[str, np.ndarray]) -> None:
    # The second row has no fare, the third divides by 0.
    np.testing.assert_allclose(columns["rate"][:3], [2, -1, -1])
    assert columns["is_far"].tolist()[:4] == [0, 1, 0, 2]
    assert columns["late"].tolist()[:3] == [1, 0, 0]


@pytest.mark.parametrize(("combiner", "weight"), [("sum", 1.0), ("mean", 0.5), ("sqrtn", 2**-0.5)])
def test_a_list_is_a_bag_of_ids(columns: dict[str, np.ndarray], combiner: str, weight: float) -> None:
    assert columns[combiner].shape == (2_000, 3)
    assert bag(columns, combiner, 0) == pytest.approx({0: weight, 1: weight})
    assert bag(columns, combiner, 1) == {0: 1.0}
    assert bag(columns, combiner, 2) == bag(columns, combiner, 3) == {}


def test_a_text_weighs_n_grams_as_scikit_learn_does(columns: dict[str, np.ndarray]) -> None:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"[^\s!…?]+")
    expected = vectorizer.fit_transform([*TEXTS, *[""] * (2_000 - len(TEXTS))])
    for row in range(len(TEXTS)):
        weights = sorted(bag(columns, "text", row).values())
        np.testing.assert_allclose(weights, sorted(expected[row].data), rtol=1e-5)
    # "free" is in two texts.
    assert set(bag(columns, "text", 0)) & set(bag(columns, "text", 1))


def test_character_n_grams_and_hashed_tokens(columns: dict[str, np.ndarray]) -> None:
    # abc, " ab", abc's three characters, "bc ", 你好, " 你好", "你好 ".
    assert sum(bag(columns, "characters", 0).values()) == 7
    assert set(bag(columns, "characters", 1)) < set(bag(columns, "characters", 0))
    assert bag(columns, "characters", 2) == {}


def test_a_vector_is_scaled_in_each_place(columns: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(columns["vector"][:3], [[-1, -1], [1, 1], [0, 0]], atol=1e-6)


def test_shared_ids_mean_the_same(columns: dict[str, np.ndarray]) -> None:
    # Of both columns together, OSL is in three rows and NRT in two; most rows have ?, the category of a missing value.
    assert columns["origin"].tolist()[:4] == [1, 1, 2, 0]
    assert columns["target"].tolist()[:4] == [3, 2, 1, 0]


def test_missing_indicators_and_scales_of_ranks(columns: dict[str, np.ndarray]) -> None:
    assert columns["robust_is_missing"].tolist() == [0] * 1_999 + [1]
    expected = RobustScaler().fit_transform(LOGNORMAL[:-1, None])[:, 0]
    np.testing.assert_allclose(columns["robust"][:-1], expected, atol=0.02, rtol=0.02)
    transformer = QuantileTransformer(output_distribution="normal", n_quantiles=256)
    expected = transformer.fit_transform(LOGNORMAL[:, None])[:, 0]
    middle = np.abs(expected) < 2
    np.testing.assert_allclose(columns["normal"][middle], expected[middle], atol=0.05)
