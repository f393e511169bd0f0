"""The interval of a median of ratios is that of the binomial distribution."""

import pytest

from benchmarks.request_log import find_interval


@pytest.mark.parametrize(("rounds", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (10, 2, 9), (12, 3, 10)])
def test_ordered_ratios_bound_the_median(rounds: int, low: int, high: int) -> None:
    interval = find_interval([float(number) for number in range(rounds, 0, -1)])
    assert interval.median == (rounds + 1) / 2
    # Conover, Practical Nonparametric Statistics, 1999, section 3.2.
    assert (interval.low, interval.high) == (low, high)
