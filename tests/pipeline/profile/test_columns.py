from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.profile.columns import Column


def column(values: Any, name: str = "x") -> Column:
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
    profile = column(values)
    assert (profile.is_number, profile.is_integer, profile.is_date) == (number, integer, date)


def test_counts_and_marks_of_missing_values() -> None:
    profile = column(["a", "b", "a", None, "a"])
    assert (profile.distinct, profile.present, profile.missing_share) == (2, 4, 0.2)
    assert profile.values == [("a", 3), ("b", 1)]
    assert column(["1", "2", "NA", "?"]).not_numbers == ["NA", "?"]
    assert column(["a", "NA"]).not_numbers == []
    assert column([0, 0, 5, None]).zero_share == pytest.approx(2 / 3)


def test_skewness_is_of_the_amounts() -> None:
    random = np.random.default_rng(5)
    normal, amounts = random.normal(0, 1, 5000), random.lognormal(5, 1, 5000)
    assert abs(column(normal).compute_skewness()) < 0.1
    assert column(amounts).compute_skewness() > 3
    assert abs(column(amounts).compute_skewness(of_logs=True)) < 0.2
    # Zeros are no amounts, and neither does a wrong value decide.
    assert abs(column([*([0] * 4000), *amounts]).compute_skewness(of_logs=True)) < 0.2
    assert abs(column([*normal, 1e9]).compute_skewness()) < 1
    assert column([0, 0, None]).compute_skewness() == column([7, 7]).compute_skewness() == 0


def test_bins_keep_rare_large_values_and_frequent_ones_apart() -> None:
    ids = column([*([0] * 4900), *range(1, 101)]).ids
    assert len(set(ids[:4900])) == 1 and ids[0] not in ids[4900:]
    assert len(set(ids[4900:])) > 5
    # A bin of fewer rows would be learned by heart.
    assert np.bincount(column(np.random.default_rng(1).lognormal(3, 2, 700)).ids)[1:].min() >= 5
    assert column([1.5, None, 2.5, None]).ids.tolist()[1::2] == [0, 0]
