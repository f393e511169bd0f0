"""Rows of JSON become columns, or a refusal that names the feature."""

import math
from typing import Any

import pytest

from serving.inputs import Input, RequestError, check_columns, columns_of, declared_inputs
from tests.serving.models import FEATURES, ROW

INPUTS = declared_inputs(FEATURES)


def test_inputs_are_those_that_the_features_declare() -> None:
    assert [(one.name, one.kind, one.required) for one in INPUTS.values()] == [
        ("color", "string", True),
        ("size", "float", True),
        ("shop_name", "string", False),
        ("rank", "int", False),
        ("weight", "float", False),
    ]


def test_rows_become_columns_and_what_may_be_missing_is_filled_in() -> None:
    columns = columns_of(INPUTS, [ROW, {"color": "red", "size": 3}, {**ROW, "rank": None, "weight": None}])
    assert columns["color"] == ["green", "red", "green"]
    assert columns["size"] == [2.5, 3, 2.5]
    assert columns["shop_name"] == ["north", "", "north"]
    assert columns["rank"] == [2, -1, -1]
    assert columns["weight"][0] == 1.0
    assert math.isnan(columns["weight"][1]) and math.isnan(columns["weight"][2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "instances[1]: 'colour' is unknown; did you mean 'color'?"),
        ({"size": None}, "instances[1]: size: is missing, and the model was trained without missing values of it"),
        ({"color": ""}, "instances[1]: color: is missing, and the model was trained"),
        ({"size": math.nan}, "instances[1]: size: is missing"),
        ({"size": "2.5"}, "instances[1]: size: expected a number, found '2.5'"),
        ({"size": True}, "instances[1]: size: expected a number, found 'True'"),
        ({"size": [1]}, "instances[1]: size: expected a number, found '[1]'"),
        ({"size": 1e39}, "instances[1]: size: 1e+39 is out of the range of float32"),
        ({"size": math.inf}, "instances[1]: size: inf is out of the range of float32"),
        ({"rank": 1.5}, "instances[1]: rank: expected an integer, found '1.5'"),
        ({"rank": 2**63}, "is out of the range of int64"),
        ({"rank": "1"}, "instances[1]: rank: expected an integer, found '1'"),
        ({"color": 3}, "instances[1]: color: expected a text, found '3'"),
        ({"color": {"b64": "%"}}, "instances[1]: color: b64 is not base64"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        columns_of(INPUTS, [ROW, {**ROW, **change}])
    assert message in str(refused.value)


def test_a_required_value_that_is_left_out_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"^instances\[0\]: size: is missing"):
        columns_of(INPUTS, [{"color": "red"}])


def test_whole_floats_are_integers_and_bytes_may_come_as_base64() -> None:
    columns = columns_of(INPUTS, [{**ROW, "rank": 3.0, "color": {"b64": "cmVk"}}])
    assert columns["rank"] == [3] and isinstance(columns["rank"][0], int)
    assert columns["color"] == [b"red"]


def test_the_datas_own_names_of_columns_will_do() -> None:
    own = {key.replace("shop_name", "shop name"): value for key, value in ROW.items()}
    assert columns_of(INPUTS, [own]) == columns_of(INPUTS, [ROW])
    assert check_columns(INPUTS, {name: [value] for name, value in own.items()}) == columns_of(INPUTS, [ROW])
    with pytest.raises(RequestError, match=r"instances\[0\]: shop_name: is given twice, as 'shop name' too"):
        columns_of(INPUTS, [{**own, "shop_name": "south"}])
    with pytest.raises(RequestError, match=r"'shop nam' is unknown; did you mean 'shop name'\?"):
        columns_of(INPUTS, [{**ROW, "shop nam": "south"}])


def test_minus_one_is_a_missing_id() -> None:
    assert columns_of(INPUTS, [{**ROW, "rank": -1}])["rank"] == [-1]
    # As in training, where none may be missing, it is a number like others, clipped into the range of ids.
    assert columns_of({"rank": Input("rank", "rank", "int", True)}, [{"rank": -1}])["rank"] == [-1]


def test_columns_are_checked_alike() -> None:
    columns = check_columns(INPUTS, {"color": ["red", "blue"], "size": [1.0, 2.0], "rank": [1, None]})
    assert columns["rank"] == [1, -1]
    assert columns["shop_name"] == ["", ""]
    for wrong, message in (
        ({"color": ["red"], "size": [1, 2]}, "the inputs have different numbers of rows: color 1, size 2"),
        ({"color": "red", "size": 1}, "color: expected a list of values, one a row, found str"),
        ({"color": ["red"], "size": [1], "x": [1]}, "'x' is unknown"),
        ({"color": ["red"]}, "instances[0]: size: is missing"),
    ):
        with pytest.raises(RequestError) as refused:
            check_columns(INPUTS, wrong)
        assert message in str(refused.value)
