"""Distances of numbers are those of their counts."""

from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.config import Comparison
from components.gate.comparison import Shift, compute_shifts
from tests.statistics import statistics_of


def shift(before: Any, now: Any) -> Shift:
    kind = "FLOAT" if np.asarray(before).dtype.kind == "f" else "INT"
    schema = text_format.Parse(f'feature {{ name: "x" type: {kind} }}', schema_pb2.Schema())
    comparison = Comparison.model_validate({"default": {"measure": "jensen_shannon", "threshold": 0.1}})
    both = [statistics_of({"x": list(values)}) for values in (before, now)]
    (measured,) = compute_shifts(both[0], both[1], schema, comparison, "drift")
    return measured


def jensen_shannon(first: Any, second: Any) -> float:
    p, q = (np.asarray(shares, dtype=float) for shares in (first, second))
    middle = (p + q) / 2
    terms = [np.where(a > 0, a * np.log2(np.where(a > 0, a, 1) / middle), 0).sum() / 2 for a in (p, q)]
    return float(sum(terms))


def test_one_new_value_is_not_a_drift_of_whole_numbers() -> None:
    # With TFDV's own histograms 0.32.
    values = [1, 2, 3] * 3000
    assert shift(values, [*values, 4]).value < 0.001
    assert shift([*values, 5], values).value < 0.001


def test_whole_numbers_are_as_far_apart_as_their_shares() -> None:
    measured = shift([1] * 10 + [2] * 20 + [3] * 70, [1] * 60 + [2] * 20 + [3] * 20)
    assert measured.value == pytest.approx(jensen_shannon([0.1, 0.2, 0.7], [0.6, 0.2, 0.2]), abs=1e-6)
    # The two that moved by as much, in the order of their names.
    assert measured.moved == [
        ("2 to 3", 0.7, pytest.approx(0.2)),
        ("up to 1", 0.1, pytest.approx(0.6)),
        ("1 to 2", pytest.approx(0.2), pytest.approx(0.2)),
    ]


def test_rows_of_one_distribution_are_not_apart_whatever_their_extremes() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=30_000).astype(np.float32)
    # With TFDV's own histograms 0.019.
    assert shift(values[:20_000], values[20_000:]).value < 0.002
    # An outlier leaves the bulk where it was, and a drift of the bulk is seen beside it.
    outlier = np.float32(1e30)
    assert shift(values[:20_000], np.append(values[20_000:], outlier)).value < 0.002
    assert shift(values[:20_000], np.append(values[20_000:] + np.float32(3), outlier)).value > 0.5


def test_constants_are_compared() -> None:
    assert shift([7] * 100, [7] * 50).value == 0
    assert shift([7] * 100, [8] * 100).value == pytest.approx(1)
    assert shift([7] * 100, list(range(8, 108))).value == pytest.approx(1)
    assert shift(list(range(8, 108)), [7] * 100).value == pytest.approx(1)


def test_infinite_values_are_compared_as_tfdv_does() -> None:
    values = np.arange(100, dtype=np.float32)
    assert shift(values, np.append(values, np.float32(np.inf))).value < 0.1
