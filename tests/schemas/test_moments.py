"""Weighted means against NumPy and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from schemas.moments import WeightedMean


def test_parts_add_up_to_the_weighted_mean_of_all_rows() -> None:
    random = np.random.default_rng(1)
    values, weights = 1e6 + random.normal(size=500), random.gamma(1, 5, 500)
    merged = WeightedMean()
    for part in (slice(0, 3), slice(3, 3), slice(3, 500)):
        merged = merged.merge(WeightedMean.of(values[part], weights[part]))
    assert merged.moments.mean == pytest.approx(np.average(values, weights=weights), rel=1e-14)
    rows = weights.sum() ** 2 / (weights**2).sum()
    assert merged.effective_rows == pytest.approx(rows)
    deviations = weights * (values - merged.moments.mean)
    error = math.sqrt((deviations**2).sum() * rows / (rows - 1)) / weights.sum()
    assert merged.standard_error == pytest.approx(error, rel=1e-6)


def test_equal_weights_have_the_error_and_the_interval_of_student() -> None:
    values = np.random.default_rng(2).normal(size=40)
    mean = WeightedMean.of(values, np.full(40, 3.7))
    assert mean.effective_rows == pytest.approx(40)
    assert mean.standard_error == pytest.approx(stats.sem(values))
    low = stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95).low
    assert mean.moments.mean - mean.margin(0.95) == pytest.approx(low)


def test_the_interval_holds_for_rows_of_very_different_weights() -> None:
    """In one of twenty cases the lower end is above the true mean of 0; weights taken for repeats would be far off."""
    random = np.random.default_rng(3)
    above = 0
    for _ in range(2000):
        weights = random.choice([1.0, 30.0], 150, p=[0.8, 0.2])
        mean = WeightedMean.of(random.normal(size=150), weights)
        above += mean.moments.mean - mean.margin(0.95) > 0
    assert 0.03 < above / 2000 < 0.075


def test_one_row_or_no_weight_has_no_interval() -> None:
    for weights in ([2.0, 0.0], [0.0, 0.0]):
        assert WeightedMean.of(np.array([1.0, 2.0]), np.array(weights)).margin(0.95) == math.inf
