"""Which strings stand for a missing value: everywhere, in one column, in the label."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from components.profile import Column
from pipeline.init.missing import MissingValues, find_missing
from pipeline.init.notes import Notes
from pipeline.init.table import with_missing

NUMBERS = [f"{number % 89}.5" for number in range(200)]


def find(requested: Sequence[str] = (), notes: Notes | None = None, **columns: Sequence[Any]) -> MissingValues:
    table = {name: Column(name, pa.array([str(value) for value in values])) for name, values in columns.items()}
    return find_missing(table, "y", requested, notes or Notes())


def with_fill(fill: str, numbers: Sequence[str] = NUMBERS, times: int = 6) -> list[str]:
    return [*numbers[times:], *[fill] * times]


def test_a_marker_of_one_column_is_a_category_of_another() -> None:
    grades = ["+", "-", "0"] * 67
    found = find(size=with_fill("-"), grade=grades[:200], y=["a", "b"] * 100)
    assert found.of("size") == ["", "-"]
    assert found.of("grade") == [""]
    assert found.anywhere == [""]


def test_a_marker_without_a_conflict_is_declared_once() -> None:
    found = find(size=with_fill("NA"), city=["NA", "Oslo"] * 100, y=["a", "b"] * 100)
    assert (found.anywhere, found.of_columns) == (["", "NA"], {})


def test_nan_among_strings_is_missing_there_and_an_error_among_numbers() -> None:
    found = find(city=["nan", "Oslo"] * 100, size=NUMBERS, y=["a", "b"] * 100)
    assert found.anywhere == [""]
    assert found.of("city") == ["", "nan"]


@pytest.mark.parametrize(
    ("fill", "numbers"),
    [
        ("-999", NUMBERS),
        ("9999.0", NUMBERS),
        ("1e+20", NUMBERS),
        ("9.969209968386869e+36", NUMBERS),
        ("-99", [str(number % 40) for number in range(200)]),
        ("-9999", [str(number % 40 - 20) for number in range(200)]),
    ],
)
def test_fill_values_far_from_all_others_are_missing(fill: str, numbers: list[str]) -> None:
    notes = Notes()
    found = find(notes=notes, spend=with_fill(fill, numbers), other=[fill] * 100 + ["5"] * 100, y=["a", "b"] * 100)
    assert found.of("spend") == ["", fill]
    assert found.of("other") == [""]
    (note,) = [note for note in notes.texts() if "spend" in note]
    assert "in 6 rows and " in note and note.endswith(": declared as missing (missing_values)")


@pytest.mark.parametrize(
    "values",
    [
        # 99 beside 97 and 98, a cap at 99999 beside 41310, one -999, half of the rows, and an age of 999 days.
        with_fill("99", [str(number % 99) for number in range(200)]),
        with_fill("99999", [str(number * 210 % 41_311) for number in range(200)]),
        with_fill("-999", NUMBERS, times=1),
        with_fill("999", [str(number % 28) for number in range(200)], times=150),
        with_fill("100000", NUMBERS),
    ],
)
def test_numbers_that_may_be_natural_are_kept(values: list[str]) -> None:
    assert find(x=values, y=["a", "b"] * 100).of("x") == [""]


def test_minus_one_among_positive_numbers_is_only_noted() -> None:
    notes = Notes()
    assert find(notes=notes, days=with_fill("-1"), y=["a", "b"] * 100).of("days") == [""]
    (note,) = notes.texts()
    assert note.endswith("if -1 stands for a missing value, add --missing-value -1")


def test_a_fill_value_of_several_columns_is_one_note() -> None:
    notes = Notes()
    find(notes=notes, p=with_fill("-1"), q=with_fill("-1"), r=with_fill("-999"), y=["a", "b"] * 100)
    assert len(notes.texts()) == 2
    assert "; so are 'q': if -1 stands" in notes.texts()[0]


def test_a_label_of_numbers_has_fill_values_too() -> None:
    assert find(x=NUMBERS, y=with_fill("-999")).of_label == ["", "-999"]


def test_a_number_stands_for_its_value_however_it_is_written() -> None:
    column = Column("x", pa.array(["-999", "-999.0", "1", "2"]))
    assert with_missing(column, ["", "-999"]).texts.to_pylist() == [None, None, "1", "2"]


def test_a_class_may_be_called_na() -> None:
    notes = Notes()
    continents = ["AF", "AS", "EU", "NA"] * 50
    found = find(notes=notes, size=NUMBERS, y=continents)
    assert found.of_label == [""]
    (note,) = notes.texts()
    assert "label 'y': 'NA' in 50 rows is a class" in note and "--missing-value NA" in note
    # Also beside numbers that are missing so, if all classes are written alike.
    assert find(size=with_fill("NA"), y=continents).of_label == [""]
    assert find(["NA"], size=NUMBERS, y=continents).of_label == ["", "NA"]


def test_a_label_is_missing_as_numbers_of_the_table_are() -> None:
    notes = Notes()
    found = find(notes=notes, size=with_fill("NA"), y=["paid", "late", "late", "NA"] * 50)
    assert found.of_label == ["", "NA"]
    assert "stands for a missing label: these rows are left out" in notes.texts()[0]
    assert find(size=NUMBERS, y=["paid", "late", "late", "?"] * 50).of_label == ["", "?"]
    assert find(size=NUMBERS, y=with_fill("NA")).of_label == ["", "NA"]
