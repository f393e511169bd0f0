from typing import Any

import pytest
from pydantic import ValidationError

from schemas.features import FeatureSet, IdColumn, NumberColumn, Numeric, escape_name

LABEL = {"column": "y", "positive": "yes", "negative": "no"}


def feature_set(features: dict[str, object], crosses: list[dict[str, object]] | None = None) -> FeatureSet:
    return FeatureSet.model_validate({"features": features, "crosses": crosses or [], "label": LABEL})


def test_every_kind_declares_its_number_of_ids() -> None:
    declared = feature_set(
        {
            "quantiles": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 4}},
            "mostly_zero": {"kind": "numeric", "buckets": {"kind": "nonzero_quantiles", "count": 4}},
            "given": {"kind": "numeric", "buckets": {"kind": "boundaries", "boundaries": [1, 2]}},
            "learned": {"kind": "vocabulary", "max_size": 10, "oov_ids": 2},
            "listed": {"kind": "vocabulary_list", "values": ["a", "b"]},
            "identity": {"kind": "identity", "num_ids": 7},
            "hashed": {"kind": "hash", "num_ids": 9},
        },
        [{"features": ["listed", "given"], "num_ids": 11}],
    )
    assert {c.name: c.num_ids for c in declared.id_columns} == {
        "quantiles_bucketized": 4,
        "mostly_zero_bucketized": 5,
        "given_bucketized": 3,
        "learned": 12,
        "listed": 3,
        "identity": 7,
        "hashed": 9,
        "listed_X_given": 11,
    }


def test_a_bucketized_number_gives_a_number_and_ids() -> None:
    buckets = {"kind": "quantiles", "count": 4}
    declared = feature_set({"age": {"kind": "numeric", "buckets": buckets, "embedding": 3, "wide": False}})
    assert declared.id_columns == (IdColumn("age_bucketized", 4, False, 3),)
    assert declared.number_columns == (NumberColumn("age", False),)


@pytest.mark.parametrize("column", [{"kind": "list"}, {"kind": "vector", "length": 2}])
def test_an_expression_takes_no_column_of_several_values(column: dict[str, Any]) -> None:
    size = {"kind": "numeric", "expression": "length(genres)", "missing": "mean"}
    label = {"column": "y", "positive": "yes", "negative": "no"}
    with pytest.raises(ValidationError) as raised:
        FeatureSet.model_validate({"features": {"genres": column, "size": size}, "label": label})
    assert (
        "features.size.expression: 'genres' has several values in each row; expected a column of one value, such as an "
        "input of strings"
    ) in str(raised.value)
    with pytest.raises(ValidationError, match="label.expression: 'genres' has several values in each row"):
        computed = {**label, "expression": "is_missing(genres)"}
        FeatureSet.model_validate({"features": {"genres": column}, "label": computed})
    # A list may be computed, and its strings are a column of one value.
    text = {"kind": "input", "type": "string"}
    size["expression"] = "length(genres)"
    tags = {"kind": "list", "expression": "genres"}
    declared = FeatureSet.model_validate({"features": {"genres": text, "tags": tags, "size": size}, "label": label})
    assert declared.list_delimiters == {"tags": "|"}


def test_raw_column_types_follow_the_kinds() -> None:
    declared = feature_set(
        {"n": {"kind": "numeric"}, "i": {"kind": "identity", "num_ids": 2}, "h": {"kind": "hash", "num_ids": 2}}
    )
    assert declared.column_types == {"n": "float", "i": "int", "h": "string", "y": "string"}


def test_the_weight_is_a_raw_column_of_numbers_and_no_input() -> None:
    weighted = FeatureSet(features={"n": Numeric(kind="numeric")}, label=LABEL, weight="w")  # type: ignore[arg-type]
    assert weighted.column_types == {"n": "float", "y": "string", "w": "float"}
    assert weighted.number_columns == (NumberColumn("n", True),)


@pytest.mark.parametrize(("weight", "use"), [("n", "a feature"), ("y", "the label")])
def test_a_weight_that_is_used_otherwise_is_rejected(weight: str, use: str) -> None:
    with pytest.raises(
        ValidationError, match=f"data.weight_column: '{weight}' is {use} too; .*: remove one of the two"
    ):
        FeatureSet(features={"n": Numeric(kind="numeric")}, label=LABEL, weight=weight)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "crosses", "message"),
    [
        (
            {"color": {"kind": "hash", "num_ids": 2}, "size": {"kind": "hash", "num_ids": 2}},
            [{"features": ["colour", "size"], "num_ids": 2}],
            "the cross colour_X_size uses 'colour', which is not a declared feature; did you mean 'color'?",
        ),
        (
            {"n": {"kind": "numeric"}, "h": {"kind": "hash", "num_ids": 2}},
            [{"features": ["n", "h"], "num_ids": 2}],
            "the cross n_X_h uses 'n', a numeric feature without buckets; give it buckets",
        ),
        ({"y": {"kind": "hash", "num_ids": 2}}, [], "'y' is the label; it cannot be a feature too"),
        (
            {
                "n": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 2}},
                "n_bucketized": {"kind": "hash", "num_ids": 2},
            },
            [],
            "two transformed columns would both be named 'n_bucketized'",
        ),
        (
            {"n": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 0}}},
            [],
            "Input should be greater than or equal to 2",
        ),
        (
            {"n": {"kind": "numeric", "buckets": {"kind": "boundaries", "boundaries": [2, 1]}}},
            [],
            "boundaries must be in ascending order without repeats",
        ),
        ({"n": {"kind": "numeric", "scale": "none"}}, [], "a numeric feature with scale 'none' needs buckets"),
        ({"v": {"kind": "vocabulary_list", "values": ["a", "a"]}}, [], "repeated: a"),
        ({"i": {"kind": "identity", "num_ids": 2, "missing": 2}}, [], "missing: 2 is not below num_ids: 2"),
    ],
)
def test_contradictions_are_refused(
    features: dict[str, object], crosses: list[dict[str, object]], message: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        feature_set(features, crosses)
    assert message in str(refused.value)


@pytest.mark.parametrize("names", [("a b", "a_b"), ("a_b", "A_b"), ("A/b", "a.B")])
def test_names_that_become_one_are_refused(names: tuple[str, str]) -> None:
    features = {name: {"kind": "hash", "num_ids": 2} for name in names}
    label = {"column": "y", "positive": "1", "negative": "0"}
    with pytest.raises(ValidationError, match="two inputs of the served model would both be named 'a_b'; rename one"):
        FeatureSet.model_validate({"features": features, "label": label})


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("age", "age"),
        ("a b.c/d", "a_b_c_d"),
        ("1st", "c_1st"),
        ("_x", "c__x"),
        ("class", "c_class"),
        ("été", "u00e9tu00e9"),
    ],
)
def test_safe_names_are_python_names_in_ascii(column: str, name: str) -> None:
    assert escape_name(column) == name
    assert name.isidentifier()


def test_missing_values_may_be_numbers_of_yaml() -> None:
    declared = Numeric.model_validate({"kind": "numeric", "missing_values": ["?", -999, float("nan")]})
    assert declared.missing_values == ("?", "-999", "nan")
