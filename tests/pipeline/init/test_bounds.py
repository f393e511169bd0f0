"""Bounds of the schema: random splits of the size of the smallest keep them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.init.bounds import Sample, compute_least_share, compute_min_domain_mass, compute_min_fraction
from pipeline.init.splits import SplitPart
from pipeline.profile.columns import Column

RANDOM = np.random.default_rng(3)


def samples(rows: int, *shares: float, dependence: float = 1.0) -> list[Sample]:
    every = np.ones(rows, dtype=bool)
    return [Sample.from_part(SplitPart(every, share), dependence=dependence, is_exact=rows < 1_000) for share in shares]


def missing_in(rows: int, missing: int) -> Column:
    return Column("x", pa.array([None] * missing + ["1"] * (rows - missing)))


def test_the_least_share_is_that_of_the_binomial_distribution() -> None:
    # P(at most 8 of 10 with p = 0.99) = 0.0043, at most 7: 0.00011, at most 6: 2e-6.
    assert compute_least_share(0.99, 10, 1) == 0.7
    assert compute_least_share(0.99, 10, 10) == 0.7
    assert compute_least_share(0.99, 10, 100) == 0.6
    assert compute_least_share(1.0, 10, 1) == 1.0


def test_344_rows_with_11_missing_values_pass_in_every_division() -> None:
    column = missing_in(344, 11)
    bound = compute_min_fraction(column, samples(344, 0.7, 0.1, 0.2), 6)
    # 4 of 40 rows without a value stopped the run in November.
    assert 0.6 < bound <= 0.9
    present = np.array(column.texts.is_valid())
    shares = [present[RANDOM.permutation(344)[:34]].mean() for _ in range(10_000)]
    assert min(shares) >= bound


def test_the_margin_for_later_data_stays_in_large_tables() -> None:
    # 1.5 times the missing share and 2 %, as chance is smaller.
    assert compute_min_fraction(missing_in(100_000, 10_000), samples(100_000, 0.8, 0.1, 0.1), 20) == 0.83


def test_rows_that_fall_together_need_more_room() -> None:
    column, shares = missing_in(2_000, 400), (0.7, 0.1, 0.2)
    together = compute_min_fraction(column, samples(2_000, *shares, dependence=20.0), 10)
    assert together < compute_min_fraction(column, samples(2_000, *shares), 10)


def test_test_files_of_their_own_have_their_own_share() -> None:
    column = missing_in(1_000, 100)
    is_test = np.arange(1_000) < 200
    train, test = ~is_test, is_test
    divided = [SplitPart(train, 0.9), SplitPart(train, 0.1), SplitPart(test)]
    # Half of test misses the value, and no row of train.
    parts = [Sample.from_part(part, dependence=1.0, is_exact=True) for part in divided]
    assert compute_min_fraction(column, parts, 5) == 0.5


@pytest.mark.parametrize(("singles", "bound"), [(0, 0.99), (10, 0.9)])
def test_new_categories_are_as_likely_as_those_that_occur_once(singles: int, bound: float) -> None:
    values: list[Any] = ["a"] * 500 + ["b"] * (500 - singles) + [f"once {number}" for number in range(singles)]
    mass = compute_min_domain_mass(Column("x", pa.array(values)), samples(1_000, 0.7, 0.1, 0.2), 5)
    assert mass == pytest.approx(bound, abs=0.03)
