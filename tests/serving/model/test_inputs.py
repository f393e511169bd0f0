"""Rows of JSON become columns, or an error that names the feature."""

import math
from typing import Any

import numpy as np
import pytest

from schemas.data import ReadOptions
from schemas.features import MISSING, FeatureSet, Numeric
from serving.model.inputs import RequestError, build_inputs, convert_columns, convert_rows, count_out_of_range
from tests.serving.models import FEATURES, ROW

INPUTS = build_inputs(FEATURES, ReadOptions(missing_values=("", "?"), other_columns=("id", "first name")))
MISSING_INT = MISSING["int"]


def test_inputs_are_those_that_the_features_declare() -> None:
    assert [(declared.name, declared.kind, declared.required) for declared in INPUTS.values()] == [
        ("color", "string", True),
        ("size", "float", True),
        ("shop_name", "string", False),
        ("rank", "int", False),
        ("weight", "float", False),
    ]


def test_rows_become_columns_and_what_may_be_missing_is_filled_in() -> None:
    columns = convert_rows(INPUTS, [ROW, {"color": "red", "size": 3}, {**ROW, "rank": None, "weight": None}])
    assert columns["color"] == ["green", "red", "green"]
    assert columns["size"] == [2.5, 3, 2.5]
    assert columns["shop_name"] == ["north", "", "north"]
    assert columns["rank"] == [2, MISSING_INT, MISSING_INT]
    assert columns["weight"][0] == 1.0
    assert math.isnan(columns["weight"][1]) and math.isnan(columns["weight"][2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "instances[1]: 'colour' is unknown; did you mean 'color'?"),
        ({"size": None}, "instances[1]: size: the value is missing"),
        ({"size": "?"}, "instances[1]: size: the value is missing"),
        ({"color": ""}, "instances[1]: color: the value is missing"),
        ({"size": math.nan}, "instances[1]: size: expected a finite number, found 'nan'"),
        ({"size": "NaN"}, "instances[1]: size: expected a finite number, found 'NaN'"),
        ({"size": math.inf}, "instances[1]: size: expected a finite number, found 'inf'"),
        ({"size": "old"}, "instances[1]: size: expected a finite number, found 'old'"),
        ({"size": True}, "instances[1]: size: expected a finite number, found the boolean true"),
        ({"size": [1, 2]}, "instances[1]: size: expected a finite number, found a list: '[1, 2]'"),
        ({"size": [[1]]}, "instances[1]: size: expected a finite number, found a list: '[1]'"),
        ({"size": [None]}, "instances[1]: size: the value is missing"),
        ({"size": 1e39}, "instances[1]: size: expected a number that float32 can hold, found '1e+39'"),
        ({"size": "1e400"}, "instances[1]: size: expected a number that float32 can hold, found '1e400'"),
        ({"size": 10**400}, "instances[1]: size: expected a number that float32 can hold, found '1000"),
        ({"rank": 1.5}, "instances[1]: rank: expected an integer, found '1.5'"),
        ({"rank": "0x10"}, "instances[1]: rank: expected an integer, found '0x10'"),
        ({"rank": 2**63}, "instances[1]: rank: expected an integer of 64 bits, found"),
        ({"rank": 1e300}, "instances[1]: rank: expected an integer of 64 bits, found"),
        ({"rank": -(2**63)}, "instances[1]: rank: expected an integer of 64 bits, found '-9223372036854775808'"),
        ({"color": True}, "instances[1]: color: expected a string, found the boolean true; send the string that the"),
        ({"color": {"b64": "%"}}, "instances[1]: color: b64 is not base64"),
        ({"color": {"b64": "/w=="}}, "instances[1]: color: expected a string, found bytes that are not UTF-8"),
        ({"color": {"a": 1}}, "instances[1]: color: expected a string, found an object"),
    ],
)
def test_a_value_that_does_not_fit_is_rejected_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        convert_rows(INPUTS, [ROW, {**ROW, **change}])
    assert message in str(refused.value)


def test_columns_of_one_value_a_row_are_columns_of_values() -> None:
    flat = convert_rows(INPUTS, [ROW, {**ROW, "rank": None}])
    nested = [{name: [value] for name, value in row.items()} for row in (ROW, {**ROW, "rank": None})]
    np.testing.assert_equal(convert_rows(INPUTS, nested), flat)
    columns = {name: [row[name] for row in nested] for name in ROW}
    np.testing.assert_equal(convert_columns(INPUTS, columns), flat)


def test_a_required_value_that_is_left_out_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"^instances\[0\]: size: the value is missing"):
        convert_rows(INPUTS, [{"color": "red"}])


def test_whole_floats_are_integers_and_bytes_may_come_as_base64() -> None:
    columns = convert_rows(INPUTS, [{**ROW, "rank": 3.0, "color": {"b64": "cmVk"}}])
    assert columns["rank"] == [3] and isinstance(columns["rank"][0], int)
    assert columns["color"] == ["red"]


def test_strings_and_numbers_are_converted_as_in_a_file() -> None:
    row = {"color": 85711, "size": " 2.5 ", "shop_name": 0.1, "rank": "3.0", "weight": "?"}
    columns = convert_rows(INPUTS, [row, {**row, "size": "+5.", "rank": "-0", "shop_name": "?", "color": 5.0}])
    assert columns["color"] == ["85711", "5"]
    assert columns["size"] == [2.5, 5.0]
    assert columns["shop_name"] == ["0.1", ""]
    assert columns["rank"] == [3, 0]
    assert math.isnan(columns["weight"][0])


def test_a_model_of_parquet_takes_booleans_as_parquet_has_them() -> None:
    inputs = build_inputs(FEATURES, ReadOptions(format="parquet"))
    assert convert_rows(inputs, [{**ROW, "color": True}])["color"] == ["true"]


def test_a_column_reads_nan_as_missing_if_it_says_so() -> None:
    features = FEATURES.model_copy(
        update={
            "features": {**FEATURES.features, "weight": Numeric(kind="numeric", missing=0.0, missing_values=("NaN",))}
        }
    )
    columns = convert_rows(build_inputs(features, ReadOptions()), [{**ROW, "weight": v} for v in (math.nan, "nan", 1)])
    assert [math.isnan(value) for value in columns["weight"]] == [True, True, False]


def test_other_columns_of_the_training_table_are_accepted() -> None:
    assert convert_rows(INPUTS, [{**ROW, "id": 7, "first name": None, "first_name": [1]}]) == convert_rows(
        INPUTS, [ROW]
    )
    assert convert_columns(INPUTS, {**{k: [v] for k, v in ROW.items()}, "id": [7]}) == convert_rows(INPUTS, [ROW])
    with pytest.raises(RequestError, match=r"instances\[0\]: 'idd' is unknown; did you mean 'id'\?"):
        convert_rows(INPUTS, [{**ROW, "idd": 7}])


def test_a_feature_that_decides_on_splits_is_named_once() -> None:
    features = FeatureSet.model_validate(
        {"features": {"day": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
    )
    inputs = build_inputs(features, ReadOptions(other_columns=("y", "day")))
    with pytest.raises(RequestError, match="'month' is unknown; expected one of: day, y$"):
        convert_rows(inputs, [{"day": 1, "month": 2}])


def test_the_datas_own_names_of_columns_will_do() -> None:
    own = {key.replace("shop_name", "shop name"): value for key, value in ROW.items()}
    assert convert_rows(INPUTS, [own]) == convert_rows(INPUTS, [ROW])
    assert convert_columns(INPUTS, {name: [value] for name, value in own.items()}) == convert_rows(INPUTS, [ROW])
    with pytest.raises(RequestError, match=r"instances\[0\]: shop_name: is given twice, as 'shop name' too"):
        convert_rows(INPUTS, [{**own, "shop_name": "south"}])
    with pytest.raises(RequestError, match=r"'shop nam' is unknown; did you mean 'shop name'\?"):
        convert_rows(INPUTS, [{**ROW, "shop nam": "south"}])


def test_ids_out_of_range_are_counted_and_missing_ones_are_not() -> None:
    columns = convert_rows(INPUTS, [{**ROW, "rank": rank} for rank in (-1, 0, 3, 4, None, 2**62)])
    assert columns["rank"] == [-1, 0, 3, 4, MISSING_INT, 2**62]
    assert count_out_of_range(INPUTS, columns) == {"rank": 3}


def test_texts_that_are_cut_are_counted() -> None:
    label = {"column": "bought", "positive": "yes", "negative": "no"}
    features = {"note": {"kind": "text", "max_tokens": 3}}
    inputs = build_inputs(FeatureSet.model_validate({"features": features, "label": label}), ReadOptions())
    columns = convert_rows(inputs, [{"note": note} for note in ("a b", "a b c", None, "")])
    assert count_out_of_range(inputs, columns) == {"note": 1}


def test_columns_are_checked_alike() -> None:
    columns = convert_columns(INPUTS, {"color": ["red", "blue"], "size": [1.0, 2.0], "rank": [1, None]})
    assert columns["rank"] == [1, MISSING_INT]
    assert columns["shop_name"] == ["", ""]
    for wrong, message in (
        ({"color": ["red"], "size": [1, 2]}, "the inputs have different numbers of rows: color 1, size 2"),
        ({"color": "red", "size": 1}, "color: expected a list of values, one a row, found str"),
        ({"color": ["red"], "size": [1], "x": [1]}, "'x' is unknown"),
        ({"color": ["red"]}, "instances[0]: size: the value is missing"),
    ):
        with pytest.raises(RequestError) as refused:
            convert_columns(INPUTS, wrong)
        assert message in str(refused.value)
