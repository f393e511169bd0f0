"""A split by bounds on a column: what is compared how, and what is rejected because its letters do not order it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from cli.errors import DataError
from components.example_gen.parts import assign_parts, collect_rules
from schemas.data import ColumnSplit, Data
from schemas.features import FeatureSet
from schemas.tables.ordering import MisfitError, within
from schemas.tables.typed_columns import Table

FEATURES = FeatureSet.model_validate(
    {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
)


def select(values: list[str | None], **bounds: Any) -> list[str | None]:
    rule = {"at_least": None, "below": None, "date_format": None, **bounds}
    inside = within(pa.array(values, pa.string()), **rule)
    return [value for value, mine in zip(values, inside.to_pylist(), strict=True) if mine]


@pytest.mark.parametrize(
    ("values", "bounds", "expected"),
    [
        (["9", "10", "10.5", "-3", None, "1e2"], {"at_least": 10}, ["10", "10.5", "1e2"]),
        (["2013-10-31", "2013-11-01", "2014-01-01"], {"at_least": "2013-11-01"}, ["2013-11-01", "2014-01-01"]),
        (["2013-10-31T23:59", "2013-11-01T00:00Z"], {"at_least": "2013-11-01"}, ["2013-11-01T00:00Z"]),
        (["2013-10-31", "2013-11-05"], {"at_least": "2013-11"}, ["2013-11-05"]),
        (["2013-10", "2013-11", "2013-12"], {"at_least": "2013-11-05"}, ["2013-12"]),
        (["20131031", "20131101"], {"below": "20131101"}, ["20131031"]),
        (["10", "25", "99"], {"at_least": "25"}, ["25", "99"]),
        (["03:22", "10:00"], {"below": "09:30"}, ["03:22"]),
        (["north", "south", "west"], {"at_least": "o"}, ["south", "west"]),
        (["fold1", "fold2", "fold3", "rest"], {"at_least": "fold2", "below": "g"}, ["fold2", "fold3"]),
        (["A12", "B7", "AB1"], {"at_least": "B"}, ["B7"]),
        (
            ["31/01/2013", "01/02/2013", "1/12/2012", None, "02/01/2014"],
            {"at_least": "01/02/2013", "below": "01/01/2014", "date_format": "%d/%m/%Y"},
            ["01/02/2013"],
        ),
        (["13-Mar-2023", "02-Apr-2022"], {"at_least": "01-Jan-2023", "date_format": "%d-%b-%Y"}, ["13-Mar-2023"]),
    ],
)
def test_values_are_compared_as_what_they_are(
    values: list[str | None], bounds: dict[str, Any], expected: list[str | None]
) -> None:
    assert select(values, **bounds) == expected


@pytest.mark.parametrize(
    ("values", "bounds", "index", "message"),
    [
        (
            ["10", "9"],
            {"at_least": "10"},
            1,
            "'9' is not ordered against the bound '10' by its letters; give the bound without",
        ),
        (["9", "10"], {"at_least": "9"}, 1, "'10' is not ordered against"),
        (["10", "-5"], {"at_least": "10"}, 1, "give the bound without quotes"),
        (["2013-11-01", "13/01/2013"], {"below": "2013-11-01"}, 1, 'date_format, such as "%d/%m/%Y"'),
        (["2013/11/05"], {"at_least": "2013-11-01"}, 0, "date_format"),
        (["2013-3-1"], {"at_least": "2013-11-01"}, 0, "date_format"),
        (["2013-11-01", "unknown"], {"at_least": "2013-11-01"}, 1, "or name the text in data.missing_values"),
        (["2013-11-01 07:00"], {"at_least": "2013-11-01T06:00"}, 0, "date_format"),
        (["fold10"], {"at_least": "fold9"}, 0, "list the values under `values`"),
        (["week 9"], {"at_least": "week 10"}, 0, "list the values under `values`"),
        (["13-Mar-2023"], {"at_least": "a"}, 0, "date_format"),
        (["1", "2", "old"], {"at_least": 10}, 2, "expected a finite number, to be compared with 10, found 'old'"),
        (["1", "nan"], {"below": 10}, 1, "expected a finite number, to be compared with 10, found 'nan'"),
        (["1", "2013-11-01"], {"below": 2013}, 1, "found '2013-11-01'"),
        (
            [*["01/02/2013"] * 9, "2013-02-01"],
            {"at_least": "01/02/2013", "date_format": "%d/%m/%Y"},
            9,
            "expected a date as date_format '%d/%m/%Y' describes it, found '2013-02-01'",
        ),
    ],
)
def test_values_that_letters_do_not_order_are_rejected(
    values: list[str | None], bounds: dict[str, Any], index: int, message: str
) -> None:
    with pytest.raises(MisfitError) as raised:
        select(values, **bounds)
    assert raised.value.index == index and message in raised.value.reason


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"at_least": "01/02/2013"}, "'01/02/2013' is a date that its letters do not order; give date_format"),
        ({"below": "13-Mar-2023"}, "'13-Mar-2023' is a date that its letters do not order"),
        ({"below": "March 2023"}, "'March 2023' is a date that its letters do not order"),
        ({"at_least": "1.2.13"}, "'1.2.13' is a date"),
        ({"at_least": "-5"}, "'-5' is a number that its letters do not order; give it without quotes"),
        ({"at_least": "2013-02-01", "date_format": "%d/%m/%Y"}, "date_format: '%d/%m/%Y' does not describe the bound"),
        ({"at_least": 5, "date_format": "%d/%m/%Y"}, "date_format needs at_least or below, in quotes"),
        ({"values": ["a"], "date_format": "%d/%m/%Y"}, "date_format needs at_least or below, in quotes"),
    ],
)
def test_bounds_that_letters_do_not_order_are_rejected_with_the_config(rule: dict[str, Any], message: str) -> None:
    splits = {"train": {"files": "*"}, "eval": {"source": "train", "column": "when", **rule}}
    with pytest.raises(ValidationError) as raised:
        Data.model_validate({"base": "/", "splits": splits})
    assert message in str(raised.value)


def test_a_date_without_quotes_is_a_date() -> None:
    rule = yaml.safe_load("{source: train, column: when, at_least: 2013-11-01}")
    split = Data.model_validate({"base": "/", "splits": {"train": {"files": "*"}, "eval": rule}}).splits["eval"]
    assert isinstance(split, ColumnSplit) and split.at_least == "2013-11-01"


def test_an_error_names_place_column_and_split(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,when\n1,0,2013-01-01\n2,1,13/01/2013\n")
    splits = {"train": {"files": "*"}, "eval": {"source": "train", "column": "when", "at_least": "2013-06"}}
    data = Data.model_validate({"base": str(tmp_path), "splits": splits})
    table = Table.of(str(path), data, FEATURES, max_bad_rows=0)
    (batch,) = table.batches()
    with pytest.raises(DataError) as raised:
        assign_parts(table, batch, collect_rules(data))
    assert str(raised.value) == (
        f"{path}:3: when: '13/01/2013' is not ordered against the bound '2013-06' by its letters; give the bounds as the "
        'column writes them and date_format, such as "%d/%m/%Y", or name the text in data.missing_values '
        "(data.splits.eval)"
    )
    path.write_text("x,y,when\n1,0,2013-01-01\n2,1,2013-07-01\n3,1,\n")
    (batch,) = table.batches()
    parts, left = assign_parts(table, batch, collect_rules(data))
    assert np.flatnonzero(parts["eval"]).tolist() == [1] and left.tolist() == [True, False, True]


@pytest.mark.parametrize(
    "bounds",
    [
        {"at_least": 3, "below": 3},
        {"at_least": "2014-01-01", "below": "2013-01-01"},
        {"at_least": "02/01/2014", "below": "31/12/2013", "date_format": "%d/%m/%Y"},
    ],
)
def test_bounds_that_no_row_lies_between_are_rejected(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at_least: .* is not below 'below': .*; no row would be taken"):
        ColumnSplit.model_validate({"source": "train", "column": "day", **bounds})
