"""Raw values become the same typed ones wherever they come from, in every format of numbers."""

from typing import Any

import pyarrow as pa
import pytest

from schemas.tables.items import ItemFormat
from schemas.tables.number_format import NumberFormat
from schemas.tables.values import Rule, as_strings, convert, format_value

COMMAS = NumberFormat(",", ".", ("€",), percent=True)


def rule(**settings: Any) -> Rule:
    return Rule("price", **{"kind": "float", "numbers": COMMAS, **settings})


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("float", "1.108,5", 1108.5),
        ("float", " 1.108,5 € ", 1108.5),
        ("float", "-€1,5", -1.5),
        ("float", "50%", 0.5),
        ("float", "1,5e3", 1500.0),
        ("int", "1.108", 1108),
        ("int", "9.007.199.254.740.993", 9007199254740993),
        ("int", "5,0", 5),
        ("int", "200 %", 2),
    ],
)
def test_a_string_is_read_in_the_format(kind: Any, text: str, value: float) -> None:
    result = convert(pa.array([text]), rule(kind=kind))
    assert (result.values.to_pylist(), result.faults) == ([value], {})
    # What follows takes the strings for plain numbers.
    assert result.strings.cast(pa.float64()).to_pylist() == [float(value)]


@pytest.mark.parametrize("kind", ["float", "int"])
@pytest.mark.parametrize("text", ["1.5", "1,108.5", "$5", "five", "", "50%%"])
def test_a_string_in_another_format_is_a_fault(kind: Any, text: str) -> None:
    result = convert(pa.array([text, "5"]), rule(kind=kind, missing_values=()))
    assert result.values.to_pylist() == [None, 5]
    assert [fault.reason for fault in result.faults.values()] == [
        f"expected {'a finite number' if kind == 'float' else 'an integer'}, found '{text}'"
    ]


@pytest.mark.parametrize("kind", ["float", "int"])
def test_numbers_that_stand_for_missing_values(kind: Any) -> None:
    # YAML writes -999.0 of -999.0 whatever the format.
    for marker in ("-999", "-999,0", "-999.0", "-999 €"):
        result = convert(pa.array(["-999,00", "-999", "7", "NaN"]), rule(kind=kind, missing_values=(marker, "NaN")))
        assert (result.values.to_pylist(), result.faults) == ([None, None, 7, None], {})


def test_a_number_is_a_number_whatever_the_format() -> None:
    for number in (1.108, 1108, 0.5, -1e-7, 1e22, 3.5e38 / 2):
        string = format_value(number, rule())
        (value,) = convert(pa.array([string]), rule()).values.to_pylist()
        assert value == pytest.approx(number, rel=1e-7), string


def test_a_string_stays_a_string() -> None:
    assert convert(pa.array(["1.108,5"]), rule(kind="string")).values.to_pylist() == [b"1.108,5"]


def test_spaces_around_values_are_removed_and_a_list_remains_one() -> None:
    lists = as_strings(pa.array([[" a", "b"], ["c"], None]))
    rule = Rule("tags", "string", items=ItemFormat("|", max_items=4), strip_spaces=True)
    assert convert(lists, rule).strings.to_pylist() == [" a|b", "c", None]
    assert convert(pa.array([" a|b "]), rule).strings.to_pylist() == ["a|b"]
    faults = convert(lists, Rule("town", "string", strip_spaces=True)).faults
    assert faults[0].reason == "expected one value, found a list of 2; declare the column as a list or a vector"


def test_a_rule_survives_json() -> None:
    import json
    from dataclasses import asdict

    copy = Rule.from_json(json.loads(json.dumps(asdict(rule()))))
    assert convert(pa.array(["1.108,5 €"]), copy).values.to_pylist() == [1108.5]
