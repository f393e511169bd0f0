"""Kinds of features: transformed columns, categories and ids that each declares."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.features import KINDS, BaseFeature, Feature, FeatureSet, IdColumn, NumberColumn

QUANTILES = {"kind": "quantiles", "count": 3}
DECLARATIONS: dict[str, tuple[dict[str, Any], list[int], int]] = {
    "numeric": ({"buckets": QUANTILES}, [3], 1),
    "vocabulary": ({"max_size": 4, "oov_ids": 2}, [6], 0),
    "vocabulary_list": ({"values": ["a", "b"]}, [3], 0),
    "vocabulary_file": ({"file": "f", "values": ["a", "b"]}, [3], 0),
    "identity": ({"num_ids": 5}, [5], 0),
    "hash": ({"num_ids": 7}, [7], 0),
}
# Kinds whose columns differ in more than their number.
OTHER_COLUMNS: dict[str, tuple[dict[str, Any], list[IdColumn], list[NumberColumn]]] = {
    "timestamp": ({"parts": {"hour": {}}}, [], []),
    "input": ({"type": "string"}, [], []),
    "vector": ({"length": 3}, [], [NumberColumn("a_b", True, "number", width=3)]),
    "list": (
        {"max_values": 4, "tokens": {"max_size": 9}},
        [IdColumn("a_b", 10, True, 2, 4, "a_b_weights")],
        [NumberColumn("a_b_weights", False, "none", 4)],
    ),
    "text": (
        {"max_tokens": 5, "weights": "counts", "tokens": {"kind": "hash", "num_ids": 7}},
        [IdColumn("a_b", 7, True, 2, 5, "a_b_weights")],
        [NumberColumn("a_b_weights", False, "none", 5)],
    ),
}


def test_a_kind_is_registered_by_the_name_that_a_config_uses() -> None:
    assert {*KINDS} == {*DECLARATIONS, *OTHER_COLUMNS}


@pytest.mark.parametrize("kind", DECLARATIONS)
def test_a_kind_declares_its_transformed_columns(kind: str) -> None:
    settings, num_ids, numbers = DECLARATIONS[kind]
    feature: BaseFeature = TypeAdapter(Feature).validate_python({"kind": kind, "embedding": 2, **settings})
    assert type(feature) is KINDS[kind]
    suffix = "_bucketized" if kind == "numeric" else ""
    assert feature.list_id_columns("a b") == tuple(IdColumn(f"a_b{suffix}", count, True, 2) for count in num_ids)
    assert feature.list_number_columns("a b") == (NumberColumn("a_b", True),) * numbers
    assert feature.categories == tuple(settings.get("values", ()))
    assert feature.raw_num_ids == (5 if kind == "identity" else None)


@pytest.mark.parametrize("kind", OTHER_COLUMNS)
def test_a_kind_of_several_values_declares_their_width(kind: str) -> None:
    settings, ids, numbers = OTHER_COLUMNS[kind]
    feature: BaseFeature = TypeAdapter(Feature).validate_python({"kind": kind, "embedding": 2, **settings})
    assert (list(feature.list_id_columns("a b")), list(feature.list_number_columns("a b"))) == (ids, numbers)


def test_the_parts_of_a_time_are_features() -> None:
    settings = {"parts": {"hour": {"embedding": 2, "cyclical": True}, "year": {}}, "missing": "own_id"}
    feature: BaseFeature = TypeAdapter(Feature).validate_python({"kind": "timestamp", **settings})
    parts = feature.expand("at")
    assert [*parts] == ["at.hour", "at.hour.sin", "at.hour.cos", "at.year"]
    assert parts["at.hour"].list_id_columns("at.hour") == (IdColumn("at_hour", 25, True, 2),)
    assert parts["at.year"].list_number_columns("at.year") == (NumberColumn("at_year", True),)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"x": {"kind": "numeric", "expression": "y + 1"}}, "declare under `missing` what the value is then"),
        ({"x": {"kind": "numeric", "expression": "y + 1", "missing": 0}}, "there is no column 'y'"),
        ({"x": {"kind": "numeric", "expression": "1 + 1", "missing": 0}}, "uses no column"),
        (
            {"x": {"kind": "hash", "num_ids": 2, "expression": "z * 2", "missing": "?"}, "z": {"kind": "numeric"}},
            "expected a string",
        ),
        ({"x": {"kind": "input", "type": "number"}}, "no expression uses this input"),
        ({"x": {"kind": "timestamp"}}, "has no parts"),
        ({"x": {"kind": "timestamp", "parts": {"hours": {}}}}, "did you mean 'hour'"),
        ({"x": {"kind": "timestamp", "format": "time_of_day", "parts": {"month": {}}}}, "needs a date"),
        ({"x": {"kind": "timestamp", "format": "%d.%m", "parts": {"month": {}}}}, "needs a year and a month"),
        ({"x": {"kind": "timestamp", "time_zone": "Mars", "parts": {"month": {}}}}, "is not in the tz database"),
        ({"x": {"kind": "text", "tokens": {"kind": "hash", "num_ids": 9}}}, "'tf_idf' needs learned tokens"),
        ({"x": {"kind": "list", "embedding": "one_hot"}}, "'one_hot' is for one id in each row"),
        ({"x": {"kind": "numeric", "missing_indicator": True}}, "needs `missing`"),
        (
            {n: {"kind": "vocabulary", "max_size": s, "shared": "place"} for n, s in (("x", 5), ("z", 6))},
            "features.z.shared: 'place' is also of 'x', which has another max_size",
        ),
    ],
)
def test_a_declaration_that_cannot_be_is_one_line(features: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + re.escape(message)):
        FeatureSet.model_validate(
            {"features": features, "label": {"column": "label", "positive": "a", "negative": "b"}}
        )
