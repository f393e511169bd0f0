from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.profile import Column, Target, crossed, target


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


def test_what_a_column_explains_of_classes() -> None:
    random = np.random.default_rng(2)
    label = random.integers(0, 2, 4000)
    noisy = np.where(random.random(4000) < 0.9, label, 1 - label)
    about = Target(label, 2)
    assert about.explained(column(label.tolist()).ids) > 0.99
    # The entropy that is left of a binary symmetric channel of 10% noise.
    left = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert about.explained(noisy) == pytest.approx(1 - left, abs=0.03)
    assert about.explained(random.integers(0, 50, 4000)) < 0.01
    # An id is different in every row: what was learned says nothing about other rows.
    assert about.explained(np.arange(4000)) < 0.01


def test_what_a_column_explains_of_numbers() -> None:
    random = np.random.default_rng(3)
    cause = random.normal(size=4000)
    label = cause + random.normal(size=4000)
    about = Target(label, 0)
    assert about.explained(column(cause.tolist()).ids) == pytest.approx(0.5, abs=0.05)
    assert about.explained(column(random.normal(size=4000).tolist()).ids) < 0.02


def test_a_pair_explains_what_neither_does_alone() -> None:
    random = np.random.default_rng(4)
    one, other = random.integers(0, 2, 4000), random.integers(0, 2, 4000)
    about = Target(one ^ other, 2)
    assert about.explained(one) < 0.01
    assert about.explained(crossed(one, other)) > 0.99


def test_targets_follow_the_order_of_the_classes() -> None:
    assert target(column(["b", "a", "b"]), ["b", "a"]).labels.tolist() == [0, 1, 0]
    assert target(column([1.5, 2]), []).labels.tolist() == [1.5, 2.0]
