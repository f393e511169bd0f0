"""Effective rows and the interval of a mean, against SciPy and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from schemas.moments import bound_mean, count_effective_rows


def test_effective_rows_are_those_of_kish() -> None:
    assert count_effective_rows(np.full(40, 3.7)) == pytest.approx(40)
    assert count_effective_rows(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)
    assert count_effective_rows(np.zeros(3)) == 0


def test_equal_weights_have_the_interval_of_student() -> None:
    values = np.random.default_rng(2).normal(size=40)
    low = stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95).low
    assert bound_mean(values, np.full(40, 3.7), 0.95) == pytest.approx(low)


def test_the_interval_holds_for_rows_of_very_different_weights() -> None:
    """In one of twenty cases the lower end is above the true mean of 0; weights taken for repeats would be far off."""
    random = np.random.default_rng(3)
    above = 0
    for _ in range(2000):
        weights = random.choice([1.0, 30.0], 150, p=[0.8, 0.2])
        above += bound_mean(random.normal(size=150), weights, 0.95) > 0
    assert 0.03 < above / 2000 < 0.075


def test_one_row_or_no_weight_has_no_interval() -> None:
    for weights in ([2.0, 0.0], [0.0, 0.0]):
        assert bound_mean(np.array([1.0, 2.0]), np.array(weights), 0.95) == -math.inf
