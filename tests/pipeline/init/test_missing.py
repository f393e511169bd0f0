"""Which strings stand for a missing value: everywhere, in one column, in the label."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from pipeline.init.missing import MissingValues, find_missing
from pipeline.init.notes import Notes
from pipeline.init.table import mark_missing
from pipeline.profile.columns import Column

NUMBERS = [f"{number % 89}.5" for number in range(200)]


def find(requested: Sequence[str] = (), notes: Notes | None = None, **columns: Sequence[Any]) -> MissingValues:
    table = {name: Column(name, pa.array([str(value) for value in values])) for name, values in columns.items()}
    return find_missing(table, "y", requested, notes or Notes())


def with_fill(fill: str, numbers: Sequence[str] = NUMBERS, times: int = 6) -> list[str]:
    return [*numbers[times:], *[fill] * times]


def test_a_marker_of_one_column_is_a_category_of_another() -> None:
    grades = ["+", "-", "0"] * 67
    missing = find(size=with_fill("-"), grade=grades[:200], y=["a", "b"] * 100)
    assert missing.list_strings("size") == ["", "-"]
    assert missing.list_strings("grade") == [""]
    assert missing.anywhere == [""]


def test_a_marker_without_a_conflict_is_declared_once() -> None:
    missing = find(size=with_fill("NA"), city=["NA", "Oslo"] * 100, y=["a", "b"] * 100)
    assert (missing.anywhere, missing.of_columns) == (["", "NA"], {})


def test_nan_among_strings_is_missing_there_and_an_error_among_numbers() -> None:
    missing = find(city=["nan", "Oslo"] * 100, size=NUMBERS, y=["a", "b"] * 100)
    assert missing.anywhere == [""]
    assert missing.list_strings("city") == ["", "nan"]


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
    missing = find(notes=notes, spend=with_fill(fill, numbers), other=[fill] * 100 + ["5"] * 100, y=["a", "b"] * 100)
    assert missing.list_strings("spend") == ["", fill]
    assert missing.list_strings("other") == [""]
    (note,) = [note for note in notes.texts if "spend" in note]
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
    assert find(x=values, y=["a", "b"] * 100).list_strings("x") == [""]


def test_minus_one_among_positive_numbers_is_only_noted() -> None:
    notes = Notes()
    assert find(notes=notes, days=with_fill("-1"), y=["a", "b"] * 100).list_strings("days") == [""]
    (note,) = notes.texts
    assert note.endswith("if -1 stands for a missing value, add --missing-value -1")


def test_a_fill_value_of_several_columns_is_one_note() -> None:
    notes = Notes()
    find(notes=notes, p=with_fill("-1"), q=with_fill("-1"), r=with_fill("-999"), y=["a", "b"] * 100)
    assert len(notes.texts) == 2
    assert "; so are 'q': if -1 stands" in notes.texts[0]


def test_a_label_of_numbers_has_fill_values_too() -> None:
    assert find(x=NUMBERS, y=with_fill("-999")).of_label == ["", "-999"]


def test_a_number_stands_for_its_value_however_it_is_written() -> None:
    column = Column("x", pa.array(["-999", "-999.0", "1", "2"]))
    assert mark_missing(column, ["", "-999"]).texts.to_pylist() == [None, None, "1", "2"]


def test_a_class_may_be_called_na() -> None:
    notes = Notes()
    continents = ["AF", "AS", "EU", "NA"] * 50
    missing = find(notes=notes, size=NUMBERS, y=continents)
    assert missing.of_label == [""]
    (note,) = notes.texts
    assert "label 'y': 'NA' in 50 rows is a class" in note and "--missing-value NA" in note
    # Also beside numbers that are missing so, if all classes are written alike.
    assert find(size=with_fill("NA"), y=continents).of_label == [""]
    assert find(["NA"], size=NUMBERS, y=continents).of_label == ["", "NA"]


def test_a_label_is_missing_as_numbers_of_the_table_are() -> None:
    notes = Notes()
    missing = find(notes=notes, size=with_fill("NA"), y=["paid", "late", "late", "NA"] * 50)
    assert missing.of_label == ["", "NA"]
    assert "stands for a missing label: these rows are left out" in notes.texts[0]
    assert find(size=NUMBERS, y=["paid", "late", "late", "?"] * 50).of_label == ["", "?"]
    assert find(size=NUMBERS, y=with_fill("NA")).of_label == ["", "NA"]


@pytest.mark.parametrize(
    "marker",
    [
        *("n/a", "N/A", "N.A.", "n.a.", "na", "NA", "nan", "NaN", "NAN", "null", "NULL", "Null", "None", "nil"),
        *("<NA>", "<na>", "?", "??", "-", "--", ".", "..", "*", "**", "\\N", "#N/A", "#n/a", "#NULL!", "#DIV/0!"),
        *("#VALUE!", "missing", "Missing", "(missing)", "unknown", "UNKNOWN", "blank", "(blank)", "(Blank)"),
        *("TBD", "tbd", "not available", "not applicable", "n/a "),
    ],
)
def test_a_marker_in_any_case_is_missing_among_numbers(marker: str) -> None:
    assert find(size=with_fill(marker), y=["a", "b"] * 100).anywhere == ["", marker]


def test_a_word_among_numbers_is_a_category_among_strings() -> None:
    for word in ("unknown", "missing", "TBD", "*", "--", "none"):
        assert find(city=[word, "Oslo"] * 100, y=["a", "b"] * 100).list_strings("city") == [""]
    assert find(city=["n/a", "Oslo"] * 100, y=["a", "b"] * 100).list_strings("city") == ["", "n/a"]


@pytest.mark.parametrize("words", [["error"], ["error", "x"]])
def test_one_or_two_repeated_strings_among_numbers_are_missing_there_with_a_note(words: list[str]) -> None:
    notes = Notes()
    missing = find(
        notes=notes, size=[*NUMBERS[40:], *words * (40 // len(words))], kind=["error", "b"] * 100, y=[1] * 200
    )
    assert missing.list_strings("size") == ["", *words]
    assert missing.list_strings("kind") == [""]
    (note,) = notes.texts
    marks = " or ".join(words)
    assert note == f"'size' holds {marks} in 40 rows: declared as missing (features.size.missing_values)"


def test_several_strings_among_numbers_are_noted_with_the_remedy() -> None:
    notes = Notes()
    strings = [*NUMBERS[40:], *["5 kg", "6 kg", "7 kg", "8 kg"] * 10]
    assert find(notes=notes, size=strings, y=[1] * 200).list_strings("size") == [""]
    (note,) = notes.texts
    assert note.startswith("'size' holds numbers and in 40 rows 4 different strings such as '5 kg', '6 kg', '7 kg'")
    assert note.endswith("name what stands for a missing value with --missing-value")


@pytest.mark.parametrize(
    "values",
    [
        # Few numbers name classes; an age of 90 or more is known; IDs may have letters; most values are strings.
        ["1", "2", "3", "crew"] * 50,
        [*[str(number % 90) for number in range(180)], *["90+"] * 20],
        ["Oslo", "Rome"] * 60 + NUMBERS[:80],
    ],
)
def test_strings_that_say_something_are_not_missing(values: list[str]) -> None:
    assert find(size=values, y=[1] * 200).list_strings("size") == [""]


def test_strings_among_the_numbers_of_an_id_are_not_noted() -> None:
    notes = Notes()
    find(notes=notes, stock_code=[*NUMBERS[40:], *["C2", "POST", "M"] * 13, "D"], y=[1] * 200)
    assert notes.texts == []


@pytest.mark.parametrize("marker", ["n/a", "unknown", "error"])
def test_a_label_of_numbers_is_missing_where_a_marker_is(marker: str) -> None:
    notes = Notes()
    assert find(notes=notes, x=NUMBERS, y=with_fill(marker, times=22)).of_label == ["", marker]
    assert notes.texts == [f"label 'y': '{marker}' in 22 rows among numbers stands for a missing label"]
