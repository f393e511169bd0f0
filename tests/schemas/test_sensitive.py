"""Values of sensitive columns in the faults of rows, files and schemas; tests/end_to_end has all programs together."""

import re
import typing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from cli.errors import DataError
from components.example_gen.parts import assign_parts, collect_rules
from schemas.curated.changes import changes
from schemas.data import Data, ReadOptions
from schemas.features import ColumnType, FeatureSet
from schemas.sensitive import MASK, find_sensitive
from schemas.tables.number_format import NumberFormat
from schemas.tables.typed_columns import Columns, Table, summary
from schemas.tables.values import MAX_VALUE_BYTES, Rule, as_string, convert

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "place": {"kind": "vocabulary", "max_size": 9, "sensitive": True},
            "amount": {"kind": "numeric", "sensitive": True},
            "x": {"kind": "numeric"},
        },
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
GOOD = "place,amount,x,day,y\nCANARY,987654,1,CANARY,yes\n"
_PLAIN_SPLITS = {"train": {"files": "*"}, "eval": {"source": "train", "fraction": 0.1}}
_CANARY = re.compile("CANARY|987,?654")


def data(**settings: Any) -> Data:
    splits = {
        "train": {"files": "*"},
        "eval": {"source": "train", "fraction": 0.1},
        "test": {"source": "train", "column": "day", "at_least": "2013-01-01"},
    }
    return Data.model_validate({"base": "/", "splits": splits, "sensitive_columns": ["day"], **settings})


def table(path: Path, content: str, **settings: Any) -> Table:
    path.write_text(content)
    return Table.of(str(path), data(**settings), FEATURES, max_bad_rows=9)


def read(table: Table) -> list[str]:
    """Return the rows that do not fit, and their texts."""
    list(table.batches())
    return [*summary(table), *(bad.text for bad in table.bad_rows)]


def test_sensitive_columns_are_features_the_label_and_others() -> None:
    options = data().read_options("y")
    assert find_sensitive(FEATURES, options) == ("place", "amount", "day")
    label = FEATURES.label.model_copy(update={"sensitive": True})
    assert find_sensitive(FEATURES.model_copy(update={"label": label}), ReadOptions()) == ("place", "amount", "y")


def test_a_feature_that_is_computed_from_a_sensitive_column_is_sensitive() -> None:
    derived = {"kind": "numeric", "missing": "mean"}
    features = {
        **FEATURES.model_dump()["features"],
        "high": {**derived, "expression": "amount > 5"},
        "twice": {**derived, "expression": "2 * x"},
    }
    declared = FeatureSet.model_validate({"features": features, "label": FEATURES.label.model_dump()})
    assert find_sensitive(declared, ReadOptions()) == ("place", "amount", "high")


@pytest.mark.parametrize("kind", typing.get_args(ColumnType))
@pytest.mark.parametrize("classes", [(), ("yes", "no")])
@pytest.mark.parametrize("numbers", [NumberFormat(), NumberFormat(",", "."), NumberFormat(".", ",")])
def test_no_fault_of_any_kind_of_value_shows_it(kind: ColumnType, classes: Any, numbers: NumberFormat) -> None:
    values = ["CANARY", "987,654", "987.654", "$987654", "987654e99", "987654" * 9, "nan987654", "", None]
    values.append("CANARY" + "x" * MAX_VALUE_BYTES)
    for is_sensitive in (True, False):
        rule = Rule("a", kind, required=True, classes=classes, numbers=numbers, sensitive=is_sensitive)
        faults = convert(pa.array(values, pa.string()), rule).faults.values()
        reasons = [fault.reason for fault in faults]
        assert len(reasons) >= 2
        assert not (is_sensitive and any(_CANARY.search(reason) for reason in reasons)), reasons
        if kind != "string" or classes:
            assert any(MASK in reason if is_sensitive else _CANARY.search(reason) for reason in reasons)
        for value in (["CANARY"], {"a": 987654}, True):
            try:
                as_string(value, rule)
            except ValueError as error:
                assert bool(is_sensitive) == (MASK in str(error)), error
                assert is_sensitive != bool(_CANARY.search(str(error)) or "true" in str(error))


def test_a_row_that_does_not_fit_keeps_its_place_and_the_kind_of_fault(tmp_path: Path) -> None:
    rows = "CANARY,CANARY,1,CANARY,yes\nCANARY,987654,2,CANARY,CANARY\nCANARY,987654,3,CANARY,yes,987654\n"
    ragged, wrong_number, wrong_class, *texts = read(table(tmp_path / "a.csv", GOOD + rows))
    assert wrong_number.startswith(f"{tmp_path}/a.csv:3: amount: expected a finite number, found {MASK}; correct the ")
    assert wrong_class == f"{tmp_path}/a.csv:4: y: expected 'no' or 'yes', found 'CANARY'; correct or remove the row"
    assert ragged.startswith(f"{tmp_path}/a.csv:5: expected 5 fields, found 6: {MASK}; a field that holds")
    assert texts == [MASK, f"{MASK},{MASK},1,{MASK},yes", f"{MASK},{MASK},2,{MASK},CANARY"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Without a header the first row is taken for one.
        (
            "CANARY,987654,1,2013,yes\nCANARY,987654,1,2013,yes\n",
            "there is no column 'place', which the config declares",
        ),
        ("CANARY,CANARY,1,2013,yes\n", "the 5 names of the file are not shown: 'place' is sensitive"),
        (GOOD + '"CANARY,987654,1,2013\n1,"CANARY",yes\n', f":3: a quote opens a value .* before {MASK}"),
    ],
)
def test_a_file_that_cannot_be_read_is_not_quoted(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read(table(tmp_path / "a.csv", content))
    assert not _CANARY.search(str(refused.value)), refused.value


def test_a_value_that_bounds_do_not_order_is_not_shown(tmp_path: Path) -> None:
    for bound, date_format in (("2013-01-01", None), (2013, None), ("01/2013", "%m/%Y")):
        test = {"source": "train", "column": "day", "at_least": bound, "date_format": date_format}
        divided = data(splits={**data().model_dump()["splits"], "test": test})
        path = tmp_path / "a.csv"
        path.write_text(GOOD)
        read_table = Table.of(str(path), divided, FEATURES, max_bad_rows=0)
        (batch,) = read_table.batches()
        with pytest.raises(DataError, match=f"a.csv:2: day: .*{MASK}") as refused:
            assign_parts(read_table, batch, collect_rules(divided))
        assert "CANARY" not in str(refused.value)


def test_the_mark_is_kept_where_other_machines_read_the_files() -> None:
    columns = Columns.from_config(data(), FEATURES)
    copied = Columns.from_json(columns.as_json())
    assert tuple(copied.sensitive) == ("place", "amount", "day")
    assert [name for name, rule in copied.rules.items() if rule.sensitive] == ["place", "amount"]


def test_changes_of_a_schema_show_no_category_or_bound() -> None:
    before, after = schema_pb2.Schema(), schema_pb2.Schema()
    text = """
        feature {{ name: "place" type: BYTES domain: "places" }}
        feature {{ name: "amount" type: FLOAT float_domain {{ min: 0 max: {bound} }} }}
        string_domain {{ name: "places" value: "CANARY {bound}" }}
    """
    for schema, bound in ((before, 987), (after, 987654)):
        text_format.Parse(text.format(bound=bound), schema)
    lines = [line for change in changes(before, after, ["place", "amount"]) for line in change.lines]
    assert lines == [f"- max: {MASK}", f"+ max: {MASK}", f"- value: {MASK}", f"+ value: {MASK}"]
    assert any("CANARY" in line for change in changes(before, after) for line in change.lines)


def test_a_label_that_is_computed_from_a_sensitive_column_is_masked(tmp_path: Path) -> None:
    label = {"column": "big", "positive": "true", "negative": "false", "expression": "amount", "inputs": {}}
    declared = {"features": {"amount": {"kind": "numeric", "sensitive": True}}, "label": label}
    path = tmp_path / "a.csv"
    path.write_text("amount\n987654\n")
    table = Table.of(
        str(path), data(splits=_PLAIN_SPLITS, sensitive_columns=[]), FeatureSet.model_validate(declared), max_bad_rows=9
    )
    assert [len(batch.rows) for batch in table.batches()] == []
    (problem,) = summary(table)
    assert MASK in problem and not _CANARY.search(problem)


def test_a_weight_is_masked(tmp_path: Path) -> None:
    features = FeatureSet.model_validate(
        {"features": {"x": {"kind": "numeric"}}, "label": FEATURES.label.model_dump(), "weight": "w"}
    )
    path = tmp_path / "a.csv"
    path.write_text("x,w,y\n1,-987654,yes\n")
    table = Table.of(
        str(path), data(splits=_PLAIN_SPLITS, weight_column="w", sensitive_columns=["w"]), features, max_bad_rows=9
    )
    assert [len(batch.rows) for batch in table.batches()] == []
    (problem,) = summary(table)
    assert MASK in problem and not _CANARY.search(problem)
