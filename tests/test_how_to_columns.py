"""The pages of docs/how-to/ about columns: their declarations are valid, and their tables show what is read."""

import json
import re

import pyarrow as pa
import pytest
import yaml

from schemas.data import ReadOptions
from schemas.expressions import Expression
from schemas.features import FeatureSet
from schemas.tables.expression_values import evaluate as evaluate_rows
from schemas.tables.time_format import TimeFormat
from schemas.tables.times import read_times
from schemas.tables.values import build_feature_rules, convert, format_value
from tests.conftest import ROOT

PAGES = ROOT / "docs" / "how-to"


def read_declaration(page: str) -> FeatureSet:
    """Return the declaration of a page."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (PAGES / page).read_text(), flags=re.DOTALL)
    return FeatureSet.model_validate(yaml.safe_load(block))


def read_table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table with this first heading, without backquotes."""
    lines = (PAGES / page).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in re.findall(r"\| (`[^`]*`|[^|]*?) (?=\|)", line)])
    return rows


@pytest.mark.parametrize("page", ["times.md", "lists.md", "text.md", "derived-columns.md"])
def test_the_declaration_of_a_page_is_valid(page: str) -> None:
    assert read_declaration(page).encoded_features


@pytest.mark.parametrize(("time_format", "value", "wall_clock"), read_table("times.md", "format"))
def test_times_are_read_as_the_page_shows(time_format: str, value: str, wall_clock: str) -> None:
    times, faults = read_times(pa.array([value]), TimeFormat(time_format))
    assert ("error" if faults else TimeFormat(time_format).write(times[0].as_py())) == wall_clock


@pytest.mark.parametrize(("column", "value", "result"), read_table("lists.md", "column"))
def test_lists_are_read_as_the_page_shows(column: str, value: str, result: str) -> None:
    rule = build_feature_rules(read_declaration("lists.md"), ReadOptions())[column]
    converted = convert(pa.array([format_value(json.loads(value) if value.startswith("[") else value, rule)]), rule)
    text = converted.strings[0].as_py() or "no ids"
    assert ("error" if converted.faults else text.replace(",", ", ") if column == "poster" else text) == result


@pytest.mark.parametrize(("text", "fare", "miles", "value"), read_table("derived-columns.md", "expression"))
def test_expressions_have_the_values_of_the_page(text: str, fare: str, miles: str, value: str) -> None:
    columns = {
        name: pa.array([None if number == "missing" else float(number)], pa.float64())
        for name, number in (("fare", fare), ("miles", miles))
    }
    (result,) = evaluate_rows(Expression.parse(text, {"fare": "number", "miles": "number"}), columns).to_pylist()
    assert ("missing" if result is None else str(result)) == value


def test_the_page_of_expressions_names_each_function() -> None:
    from schemas.expressions import _NAMED

    page = (PAGES / "derived-columns.md").read_text()
    assert [name for name in _NAMED if not re.search(rf"\b{name}\b", page)] == []
