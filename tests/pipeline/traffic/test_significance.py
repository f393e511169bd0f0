"""Chances are those of exact formulas and of simulated samples of one distribution."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from components.value_counts import ValueCounts, count_values
from pipeline.traffic.significance import (
    Difference,
    compare_categories,
    compare_numbers,
    compare_rate,
    compare_shares,
)


@pytest.mark.parametrize(
    ("before", "before_rows", "now", "now_rows"),
    [(50, 1000, 30, 300), (50, 1000, 2, 300), (0, 30_000, 5, 1000), (1843, 32_561, 107, 1000), (3, 10, 3, 10)],
)
def test_shares_have_twice_the_smaller_tail_of_fisher(before: int, before_rows: int, now: int, now_rows: int) -> None:
    result = compare_shares(before, before_rows, now, now_rows)
    table = [[now, now_rows - now], [before, before_rows - before]]
    smaller = min(stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater"))
    assert result.chance == pytest.approx(min(1.0, 2 * smaller), rel=1e-6)
    assert result.size == pytest.approx(abs(now / now_rows - before / before_rows))


def test_shares_of_many_rows_have_a_chance() -> None:
    assert compare_shares(50_000_000, 1_000_000_000, 50_100, 1_000_000).chance == pytest.approx(0.65, abs=0.02)
    assert compare_shares(0, 100, 0, 100) == Difference(0.0, 1.0)
    assert compare_shares(100, 100, 0, 0) == Difference(0.0, 1.0)
    assert compare_shares(0, 32_561, 1000, 1000).chance < 1e-100


def test_a_rate_is_exceeded_by_the_upper_tail_of_the_binomial() -> None:
    assert compare_rate(6, 1000, 0.001).chance == pytest.approx(stats.binom.sf(5, 1000, 0.001))
    assert compare_rate(0, 1000, 0.001) == Difference(0.0, 1.0)


def test_categories_have_the_chance_of_pearson() -> None:
    before, now = np.array([500.0, 300.0, 200.0]), np.array([80.0, 20.0, 100.0])
    result = compare_categories(before, now)
    assert result.chance == pytest.approx(stats.chi2_contingency([before, now], correction=False).pvalue)
    assert result.size == pytest.approx(0.3)
    # Categories of few rows are one.
    rare = compare_categories(np.append(before, [2.0, 1.0, 30.0]), np.append(now, [1.0, 1.0, 20.0]))
    together = compare_categories(np.append(before, 33.0), np.append(now, 22.0))
    assert rare.chance == pytest.approx(together.chance)
    assert compare_categories(np.array([5.0]), np.array([7.0])).chance == 1.0


def test_numbers_have_the_largest_difference_and_the_rank_sum_with_ties() -> None:
    random = np.random.default_rng(1)
    old, new = random.integers(0, 12, 4000), random.integers(1, 12, 700)
    result = compare_numbers(count_values(old), count_values(new))
    assert result.size == pytest.approx(stats.ks_2samp(old, new).statistic)
    rank = stats.mannwhitneyu(new, old, use_continuity=False, method="asymptotic").pvalue
    bound = 2 * math.exp(-2 * result.size**2 * 700 * 4000 / 4700)
    assert result.chance == pytest.approx(2 * min(rank, bound))
    apart = compare_numbers(count_values(np.arange(100.0)), count_values(np.arange(1000.0, 1100.0)))
    assert (apart.size, apart.chance < 1e-30) == (1.0, True)
    assert compare_numbers(count_values(np.array([1.0])), count_values(np.array([]))) == Difference(0.0, 1.0)


def _sample_shares(random: np.random.Generator) -> Difference:
    before, now = random.binomial(20_000, 0.05), random.binomial(400, 0.05)
    return compare_shares(before, 20_000, now, 400)


def _sample_categories(random: np.random.Generator) -> Difference:
    shares = np.array([0.5, 0.3, 0.1, 0.06, *[0.002] * 20])
    return compare_categories(random.multinomial(20_000, shares), random.multinomial(400, shares))


def _sample_numbers(random: np.random.Generator) -> Difference:
    # Most are 0, others have a heavy tail, as capital gains.
    def draw(count: int) -> ValueCounts:
        return count_values(np.where(random.random(count) < 0.9, 0.0, np.round(random.lognormal(8, 2, count))))

    return compare_numbers(draw(20_000), draw(400))


@pytest.mark.parametrize("sample", [_sample_shares, _sample_categories, _sample_numbers])
def test_chances_below_one_percent_are_rarer_than_that(sample: Callable[[np.random.Generator], Difference]) -> None:
    random = np.random.default_rng(3)
    chances = np.array([sample(random).chance for _ in range(1000)])
    # 10 are expected at most, and 21 are more than three standard deviations beyond.
    assert (chances < 0.01).sum() <= 21
    assert (chances < 0.0005).sum() <= 4
