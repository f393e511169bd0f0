"""Numbers as people write them."""

from typing import Any

import pyarrow as pa
import pytest

from schemas.data import CsvOptions
from schemas.tables.number_format import PLAIN, NumberFormat, find_number_format, to_plain_numbers

AMOUNTS = NumberFormat(".", ",", ("$", "€", "USD"))
CASES: list[tuple[NumberFormat, dict[str, str | None]]] = [
    (
        NumberFormat(".", ","),
        {
            **{"1,108.98": "1108.98", "12,34,567": "1234567", "-1,000": "-1000", "950": "950", "1e5": "1e5"},
            **{"NaN": "NaN", ".5": ".5", "5.": "5.", "1,23": None, "0,125": None, "1,108,2": None, "1,1080": None},
            **{",108": None, "one": None, "": None, "$5": None, "5%": None},
        },
    ),
    (
        NumberFormat(",", "."),
        {
            **{"1.108,98": "1108.98", "1,5": "1.5", "1.108": "1108", "1108,98": "1108.98", "1.234.567": "1234567"},
            **{"-1,5e-3": "-1.5e-3", ",5": ".5", "12": "12", "1.5": None, "0.125": None, "1,108.98": None},
        },
    ),
    (NumberFormat(","), {"1108,98": "1108.98", "1.108": None, "1.5": None}),
    (
        NumberFormat(",", " "),
        {"1 108,98": "1108.98", "1\u00a0108": "1108", "1\u202f108,5": "1108.5", "10 8": None, "1.108": None},
    ),
    (NumberFormat(".", "'"), {"1'108.50": "1108.50", "1\u2019108": "1108"}),
    (NumberFormat(".", "_"), {"1_000_000": "1000000", "1_00": None}),
    (
        AMOUNTS,
        {
            **{"$1,108.98": "1108.98", "-$1.50": "-1.50", "$-1.50": "-1.50", "$ 1.50": "1.50", "+$5": "+5"},
            **{"(1.50)": "-1.50", "($1.50)": "-1.50", "$(1.50)": "-1.50", "(1,108.98 USD)": "-1108.98"},
            **{"1.50 €": "1.50", "€1.50": "1.50", "1.50\u00a0€": "1.50", "USD 5": "5", "5 USD": "5", "7": "7"},
            **{"$": None, "--5": None, "-$-5": None, "(5": None, "(-5)": None, "£5": None, "5 $ 6": None, "$5%": None},
        },
    ),
    (NumberFormat(percent=True), {"51.1%": "51.1e-2", "5 %": "5e-2", "-3%": "-3e-2", "0.3": "0.3", "1e3%": None}),
    (PLAIN, {"1.5": "1.5", "one": "one"}),
]


@pytest.mark.parametrize(("format", "expected"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_a_number_is_plain_and_what_is_none_is_null(format: NumberFormat, expected: dict[str, str | None]) -> None:
    strings = pa.array([None, *expected], pa.string())
    assert to_plain_numbers(strings, format).to_pylist() == [None, *expected.values()]


def test_a_percentage_is_a_hundredth_exactly() -> None:
    (value,) = to_plain_numbers(pa.array(["51.1%"]), NumberFormat(percent=True)).cast(pa.float64()).to_pylist()
    assert value == 0.511


FOUND: dict[str, tuple[dict[str, list[str]], NumberFormat, list[str]]] = {
    "plain numbers": ({"a": ["1", "2.5"], "b": ["x", "y"]}, PLAIN, []),
    "points before the fraction": ({"a": ["1,108.98", "12"]}, NumberFormat(".", ","), []),
    "commas before the fraction": ({"a": ["1.108,98", "3,5"]}, NumberFormat(",", "."), []),
    "commas without thousands": ({"a": ["1108,98", "3,5"]}, NumberFormat(","), []),
    "groups of three are thousands": ({"a": ["1,108", "2,300", "950"]}, NumberFormat(".", ","), []),
    "a leading zero is not a group": ({"a": ["0,125", "1,500"]}, NumberFormat(","), []),
    "one leading zero decides, however rare": (
        {"a": [*(f"{n % 900 + 1},{n:03d}" for n in range(1_000)), "0,760"], "b": ["0.25", "1.5"], "c": ["0.1", "2.5"]},
        PLAIN,
        ["a"],
    ),
    "hexadecimal numbers are codes": ({"a": ["0x126", "0x1f"], "b": ["1,5", "2,25"]}, NumberFormat(","), []),
    "another column decides": ({"a": ["1,108", "2,300"], "b": ["1,5", "2,25"]}, NumberFormat(","), []),
    "two points are thousands": ({"a": ["1.234.567", "12"]}, NumberFormat(",", "."), []),
    "spaces": ({"a": ["1 200,50", "5"]}, NumberFormat(",", " "), []),
    "apostrophes": ({"a": ["1'200.50", "5"]}, NumberFormat(".", "'"), []),
    "money": ({"a": ["$1,108.98", "$5.00"], "b": ["7 €", "9 €"]}, NumberFormat(".", ",", ("$", "€")), []),
    "codes": ({"a": ["USD 5", "USD 7.5"]}, NumberFormat(".", None, ("USD",)), []),
    "losses": ({"a": ["$5", "($7)", "-$1"]}, NumberFormat(".", None, ("$",)), []),
    "percent": ({"a": ["51.1%", "5%"]}, NumberFormat(percent=True), []),
    "dates and times": ({"a": ["13-Mar-2023", "14-Mar-2023"], "b": ["3:22:00", "1:00:00"]}, PLAIN, []),
    "phones and codes": ({"a": ["12-34", "555-1234"], "b": ["A1", "B2"], "c": ["12kg", "13kg"]}, PLAIN, []),
    "few numbers among words": ({"a": ["1,5", "x", "y", "z"]}, PLAIN, []),
    "missing values": ({"a": ["$5", "NA", "$7", "?"]}, NumberFormat(currency=("$",)), []),
    "the majority": ({"a": ["1,5", "2,5"], "b": ["1.5", "2.5"], "c": ["0.1", "0.22"]}, PLAIN, ["a"]),
    "the minority": ({"a": ["1,5", "2,5"], "b": ["3,5", "2,55"], "c": ["0.1", "0.22"]}, NumberFormat(","), ["c"]),
}


@pytest.mark.parametrize(("columns", "format", "others"), FOUND.values(), ids=FOUND)
def test_the_format_of_most_columns(columns: dict[str, list[str]], format: NumberFormat, others: list[str]) -> None:
    number_format, notes = find_number_format({name: pa.array(values, pa.string()) for name, values in columns.items()})
    assert (number_format, list(notes)) == (format, others)
    assert all("is a number in another format than most columns; data.csv.decimal: " in note for note in notes.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decimal": ",", "thousands": ","}, "thousands and decimal are both ','"),
        ({"currency": ["1"]}, "currency.0"),
        ({"currency": ["-"]}, "currency.0"),
        ({"delimiter": "'", "quote": "'"}, "delimiter and quote are both"),
        ({"quote": ""}, "quote"),
    ],
)
def test_options_that_would_be_ambiguous(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CsvOptions.model_validate(options)


def test_a_comma_may_be_preferred() -> None:
    for value, format in (("12,345", NumberFormat(",")), ("1,234,567", NumberFormat(".", ","))):
        assert find_number_format({"a": pa.array([value])}, prefers_comma=True)[0] == format
    assert find_number_format({"a": pa.array(["12,345"])})[0] == NumberFormat(".", ",")
