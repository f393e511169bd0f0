"""JSON that every reader takes."""

import json

import pytest

from cli.strict_json import to_json


def test_numbers_that_are_not_finite_become_null() -> None:
    value = {"a": float("nan"), "b": [1.5, float("inf"), {"c": -float("inf")}], "d": ("NaN", None, True, 2)}
    read = json.loads(to_json(value), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [1.5, None, {"c": None}], "d": ["NaN", None, True, 2]}
