"""Labels are read in any spelling of their class: as tools write the same number or boolean."""

import pyarrow as pa
import pytest

from schemas.tables.values import Rule, convert


def labels(values: list[str | None], *classes: str) -> tuple[list[str | None], list[str]]:
    """Return the converted strings, and the faults."""
    column = convert(pa.array(values, pa.string()), Rule("y", "string", classes=classes))
    strings = column.strings.to_pylist()
    bad = column.values.to_pylist()
    assert [s.encode() if s is not None else None for i, s in enumerate(strings) if i not in column.faults] == [
        b for i, b in enumerate(bad) if i not in column.faults
    ]
    return strings, [fault.reason for fault in column.faults.values()]


@pytest.mark.parametrize("value", ["1", "1.0", "1.", "+1", " 1.00 ", "1e0"])
def test_a_number_is_its_class_however_it_is_written(value: str) -> None:
    assert labels(["0", value, None], "0", "1") == (["0", "1", None], [])


@pytest.mark.parametrize("value", ["True", "true", "TRUE"])
def test_a_boolean_is_its_class_in_any_case(value: str) -> None:
    assert labels([value, "false"], "false", "true") == (["true", "false"], [])


@pytest.mark.parametrize(
    ("value", "classes"), [("01", ("0", "1")), ("yes", ("no", "Yes")), ("2", ("0", "1")), ("nan", ("0", "1"))]
)
def test_other_strings_are_no_class(value: str, classes: tuple[str, ...]) -> None:
    strings, faults = labels([value], *classes)
    assert strings == [value]
    assert faults == [f"expected {' or '.join(map(repr, classes))}, found {value!r}"]


def test_two_classes_of_one_meaning_are_only_what_they_are() -> None:
    assert labels(["1", "1.0", "2.0"], "1", "1.0", "2")[0] == ["1", "1.0", "2"]
    assert labels(["1.00"], "1", "1.0", "2")[1] == ["expected '1' or '1.0' or '2', found '1.00'"]
