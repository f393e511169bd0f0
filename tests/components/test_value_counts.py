"""Counts of numbers: exact for few different values, and bounded and independent of the order for many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.value_counts import ValueCounts, count_values, create_empty, merge

BINS = 64
SHARES = (0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def count_in_parts(values: NDArray[np.float32], parts: int, bins: int = BINS) -> ValueCounts:
    counts = create_empty()
    for part in np.array_split(values, parts):
        counts = merge([counts, count_values(part)], bins)
    return counts


def quantile_1(values: NDArray[np.float32], share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))


def test_one_two_three() -> None:
    counts = count_values(np.array([3, 1, 2, 3, 1, 2], dtype=np.int64))
    assert (counts.low.tolist(), counts.count.tolist(), counts.is_exact) == ([1, 2, 3], [2, 2, 2], True)
    assert [counts.find_quantile(share) for share in (0, 1 / 3, 0.34, 0.5, 2 / 3, 0.67, 1)] == [1, 1, 2, 2, 2, 3, 3]
    assert counts.count_up_to([0, 1, 2.5, 3, 9]).tolist() == [0, 2, 4, 6, 6]


def test_zeros_have_one_sign_and_nan_is_not_counted() -> None:
    counts = count_values(np.array([-0.0, 0.0, np.nan, -np.inf, np.inf], dtype=np.float32))
    assert counts.low.tolist() == [-np.inf, 0, np.inf]
    assert counts.count.tolist() == [1, 2, 1]
    assert counts.finite.low.tolist() == [0]
    assert merge([counts, count_values(np.array([-0.0], dtype=np.float32))], BINS).count.tolist() == [1, 3, 1]


def test_nothing_has_no_quantile() -> None:
    assert np.isnan(create_empty().find_quantile(0.5))
    assert create_empty().count_up_to([1.0]).tolist() == [0]
    assert merge([create_empty(), create_empty()], BINS).total == 0


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("name", ["normal", "gamma", "lognormal", "far", "whole"])
def test_many_different_values_are_counted_in_bins(name: str, parts: int) -> None:
    random = np.random.default_rng(5)
    rows = 20_000
    values = {
        "normal": random.normal(size=rows),
        "gamma": random.gamma(3, 15, rows),
        "lognormal": random.lognormal(0, 3, rows),
        "far": random.normal(1e6, 10, rows),
        "whole": np.floor(random.gamma(2, 40_000, rows)),
    }[name].astype(np.float32)
    exact = count_in_parts(values, parts, bins=rows)
    assert exact.is_exact
    assert [exact.find_quantile(share) for share in SHARES] == [quantile_1(values, share) for share in SHARES]
    counts = count_in_parts(values, parts, bins=4096)
    assert counts.total == rows and len(counts.low) <= 4096
    # Each bin has the true number of the values from its smallest to its largest, which occur.
    for low, high, count in list(zip(counts.low, counts.high, counts.count, strict=True))[::97]:
        assert count == ((low <= values) & (values <= high)).sum()
        assert low in values and high in values
    for share in SHARES:
        quantile = counts.find_quantile(share)
        assert quantile in values
        assert quantile == pytest.approx(quantile_1(values, share), rel=2.0 ** (counts.dropped_bits - 52))
    # And so few values share a bin that a picture cannot tell.
    edges = np.linspace(values.min(), values.max(), 25)[1:]
    true = (values[:, None] <= edges).sum(axis=0)
    assert np.abs(counts.count_up_to(edges) - true).max() <= 0.002 * rows


@settings(max_examples=200)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False), max_size=300),
    parts=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_neither_order_nor_shards_matter(values: list[float], parts: int, order: object) -> None:
    shuffled = list(values)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    once = merge([count_values(np.array(values, dtype=np.float32))], BINS)
    split = count_in_parts(np.array(shuffled, dtype=np.float32), parts)
    assert split.low.tolist() == once.low.tolist()
    assert split.high.tolist() == once.high.tolist()
    assert split.count.tolist() == once.count.tolist()
    assert split.total == len(values)
    # No finer bins would do.
    assert len(once.low) <= BINS or once.dropped_bits == 52


def test_a_merged_bin_is_cut_between_its_ends() -> None:
    counts = ValueCounts(np.array([0.0, 10.0]), np.array([0.0, 20.0]), np.array([5.0, 12.0]))
    assert counts.count_up_to([5, 10, 15, 20]).tolist() == [5, 6, 11, 17]
    assert counts.is_exact_at([5, 20]) and not counts.is_exact_at([15])
