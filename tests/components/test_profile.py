from typing import Any

import pyarrow as pa
import pytest

from components.profile import Column


def column(values: list[Any], name: str = "x") -> Column:
    return Column(name, pa.array([None if value is None else str(value) for value in values], pa.string()))


@pytest.mark.parametrize(
    ("values", "number", "integer", "date"),
    [
        (["1", " 2", "-3"], True, True, False),
        (["1.0", "2.0"], True, True, False),
        (["1.5", "2e3", ".5"], True, False, False),
        (["1", "x"], False, False, False),
        (["2013-01-05", "2013-12-31T05:00:00Z"], False, False, True),
        (["5/12/2013", "31.12.2013"], False, False, True),
        (["20130105", "20131231"], True, True, True),
        (["2013-13-05", "2013-12-31"], False, False, False),
        ([None, None], False, False, False),
    ],
)
def test_what_a_column_holds(values: list[Any], number: bool, integer: bool, date: bool) -> None:
    found = column(values)
    assert (found.is_number, found.is_integer, found.is_date) == (number, integer, date)


def test_counts_and_marks_of_missing_values() -> None:
    found = column(["a", "b", "a", None, "a"])
    assert (found.distinct, found.present, found.missing_share) == (2, 4, 0.2)
    assert found.values == [("a", 3), ("b", 1)]
    assert column(["1", "2", "NA", "?"]).not_numbers == ["NA", "?"]
    assert column(["a", "NA"]).not_numbers == []
    assert column([0, 0, 5, None]).zero_share == pytest.approx(2 / 3)
