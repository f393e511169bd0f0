"""The kind of a label, its classes, and which of two values is the positive one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cli.errors import ConfigError, DataError, PipelineError
from pipeline.init.label import ChosenLabel, choose_label
from pipeline.init.notes import Notes
from pipeline.init.requests import Requests
from pipeline.profile.columns import Column


def column(name: str, values: Sequence[Any]) -> Column:
    return Column(name, pa.array([None if value is None else str(value) for value in values], pa.string()))


def choose(values: Sequence[Any], name: str = "y", notes: Notes | None = None, **requests: Any) -> ChosenLabel:
    columns = {name: column(name, values), "x": column("x", range(len(values)))}
    return choose_label(columns, None, [""], Requests(name, **requests), notes or Notes())


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        (("0", "1"), "1"),
        (("1", "2"), "2"),
        (("-1", "1"), "1"),
        (("0.0", "1.0"), "1.0"),
        (("yes", "no"), "yes"),
        (("False", "True"), "True"),
        (("benign", "malignant"), "malignant"),
        (("normal", "odd"), "odd"),
        (("<=50K", ">50K"), ">50K"),
        (("not paid", "paid"), "paid"),
        (("survived", "died"), "died"),
    ],
)
def test_which_of_two_values_is_positive(values: tuple[str, str], positive: str) -> None:
    # Where no word decides, the rarer value is the positive one.
    chosen = choose([values[0]] * 60 + [values[1]] * 40)
    assert (chosen.kind, chosen.declared["positive"], chosen.classes[1]) == ("binary", positive, positive)
    assert {*chosen.classes} == {*values}


def test_0_and_0_0_are_one_class_with_a_note() -> None:
    notes = Notes()
    chosen = choose(["0", "1"] * 20 + ["0.0", "1.00"] * 20, "churn", notes)
    assert chosen.declared == {"column": "churn", "positive": "1", "negative": "0"}
    assert chosen.column.distinct == 2
    (note,) = notes.texts
    assert "'0' and '0.0'; '1' and '1.00' are one value each" in note


def test_booleans_in_any_case_are_one_class_other_words_are_not() -> None:
    assert {value.lower() for value in choose(["True", "False", "true", "false"] * 10).classes} == {"true", "false"}
    notes = Notes()
    chosen = choose(["Yes", "no", "yes"] * 20, notes=notes)
    assert {*chosen.classes} == {"Yes", "no", "yes"}
    assert "'Yes' and 'yes' differ only in case or spaces" in notes.texts[0]
    # Codes with leading zeros are not numbers.
    assert {*choose(["01", "1", "2"] * 20).classes} == {"01", "1", "2"}


def test_a_label_that_spells_yes_and_no_in_several_ways_is_noted_with_the_rows() -> None:
    notes = Notes()
    chosen = choose(["0", "1", "True", "False", "1"] * 20, notes=notes)
    assert {*chosen.classes} == {"0", "1", "True", "False"}
    assert notes.texts[0] == (
        "label 'y': yes and no are written in several ways, each of which is a class: '1' in 40 rows, '0' in 20 rows, "
        "'True' in 20 rows, 'False' in 20 rows; write them as two values, or derive the label "
        "(docs/how-to/derived-columns.md)"
    )


def test_decimal_numbers_and_many_whole_numbers_are_a_regression() -> None:
    assert choose([0.5, 1.0, 1.5, 2.0] * 20).kind == "regression"
    assert choose([number * 7 % 23 for number in range(200)]).kind == "regression"
    assert choose(["a", "b", "c"] * 20).kind == "multiclass"


def test_rare_classes_are_left_out() -> None:
    chosen = choose(["a"] * 30 + ["b"] * 20 + ["c"] * 10 + ["d"] * 9)
    assert (chosen.classes, chosen.rare_rows) == (["a", "b", "c"], 9)
    two = choose(["yes"] * 30 + ["no"] * 20 + ["maybe"] * 3)
    assert (two.kind, two.classes, two.rare_rows) == ("binary", ["no", "yes"], 3)


def test_classes_are_those_of_train() -> None:
    values = ["a", "b", "c"] * 20 + ["d"] * 20
    columns = {"y": column("y", values)}
    chosen = choose_label(columns, np.arange(80) >= 60, [""], Requests("y"), Notes())
    assert ({*chosen.classes}, chosen.rare_rows) == ({"a", "b", "c"}, 20)


@pytest.mark.parametrize(
    ("values", "requests", "error", "message"),
    [
        ([None] * 40, {}, DataError, "--label y: the column has no values"),
        (["a"] * 40, {}, DataError, "--label y: all values are 'a'; there is nothing to learn"),
        (["1", "1.0"] * 20, {}, DataError, "all values are '1'"),
        (range(1, 41), {}, DataError, "--label y: has another number in each row (1, ...), as an ID has"),
        ([f"2024-01-{day:02d}" for day in range(1, 32)], {}, DataError, "--label y: holds dates such as '2024-01-01'"),
        (
            [f"a long and friendly review of article number {number}" for number in range(200)],
            {},
            DataError,
            "--label y: holds free text, 200 in 200 rows; expected two values, up to 100 classes, or numbers",
        ),
        ([*range(300), *["a"] * 50], {}, DataError, "holds numbers and 1 strings such as 'a'"),
        (["a", "b", "c", "d"], {}, DataError, "0 of 4 classes have 10 rows or more"),
        (
            [1, 2, 3, 4, 5] * 20,
            {"kind": "binary"},
            ConfigError,
            "--kind binary: label 'y' has 5 values ('1', '2', '3', '4', '5'); expected two. "
            "Use --kind multiclass or regression",
        ),
        (["a", "b"] * 20, {"kind": "multiclass"}, ConfigError, "has two values ('a', 'b'); expected three or more"),
        (
            ["a", "b"] * 20,
            {"kind": "regression"},
            ConfigError,
            "--kind regression: label 'y' holds 'a'; expected numbers",
        ),
        ([*range(200)] * 2, {"kind": "multiclass"}, ConfigError, "has 200 values"),
    ],
)
def test_labels_that_cannot_be_learned(
    values: Sequence[Any], requests: dict[str, Any], error: type[PipelineError], message: str
) -> None:
    with pytest.raises(error) as raised:
        choose(list(values), **requests)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_user_decides_on_the_kind() -> None:
    values = [1, 2, 3, 4, 5] * 20
    assert choose(values, kind="regression").kind == "regression"
    assert choose(values, kind="multiclass").classes == ["1", "2", "3", "4", "5"]
    assert choose([0, 1] * 20, kind="regression").kind == "regression"


@pytest.mark.parametrize(
    ("code", "rows"), [("-1", 40), ("9", 40), ("99", 40), ("-999", 150), ("9999", 10), ("-9", 40), ("-1.0", 40)]
)
@pytest.mark.parametrize("two", [("0", "1"), ("1", "2")])
def test_a_code_beside_two_values_is_a_missing_label_with_a_note(code: str, rows: int, two: tuple[str, str]) -> None:
    notes = Notes()
    chosen = choose([*two] * 300 + [code] * rows, notes=notes)
    assert chosen.kind == "binary"
    assert chosen.classes == [*two]
    assert chosen.declared["missing_values"] == ["", code]
    assert chosen.declared["drop_missing"] is True
    assert chosen.column.present == 600
    (note,) = notes.texts
    assert f"{code} in {rows} rows stands for a missing label" in note and note.endswith("add --kind multiclass")
    assert choose([*two] * 300 + [code] * rows, kind="multiclass").classes == sorted([*two, code], key=float)


@pytest.mark.parametrize(
    "values",
    [
        # -1, 0 and 1 are a sentiment; 3 and 9 are no code; 5 and 6 are no answers.
        ["-1", "0", "1"] * 100,
        ["0", "1"] * 100 + ["3"] * 20,
        ["5", "6"] * 100 + ["9"] * 20,
        ["0", "1", "2"] * 100 + ["9"] * 20,
    ],
)
def test_a_number_that_may_be_a_class_stays(values: list[str]) -> None:
    assert choose(values).column.distinct == len({*values})


@pytest.mark.parametrize("code", ["-999", "-1", "9", "99"])
def test_a_rare_code_beside_two_values_is_a_rare_class(code: str) -> None:
    notes = Notes()
    chosen = choose(["0", "1"] * 100 + [code] * 9, notes=notes)
    assert (chosen.kind, chosen.classes, chosen.rare_rows) == ("binary", ["0", "1"], 9)
    assert notes.texts == [f"label 'y': too rare to learn, left out: {code} (9 rows)"]
    chosen = choose(["4", "7"] * 100 + [code] * 3)
    assert (chosen.kind, chosen.classes, chosen.rare_rows) == ("binary", ["4", "7"], 3)


def test_numbers_that_are_one_in_float32_are_rejected() -> None:
    expected = "--label y: numbers from 999999999997 to 1000000000003, which float32 rounds to one number"
    with pytest.raises(DataError, match=expected):
        choose([10**12 + number % 7 - 3 for number in range(200)], kind="regression")


def test_whole_numbers_of_few_rows_are_a_number() -> None:
    weights = [191, 189, 193, 162, 189, 182, 211, 167, 176, 154, 169, 166, 154, 247, 193, 202, 176, 157, 156, 138]
    assert choose(weights, "Weight").kind == "regression"
    with pytest.raises(DataError, match="0 of 3 classes have 10 rows or more.*--kind regression"):
        choose([1, 2, 3] * 6)
