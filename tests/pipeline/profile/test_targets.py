"""How much columns say about a label."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.profile.columns import Column
from pipeline.profile.targets import Target, build_target, combine_ids


def column(values: Any, name: str = "x") -> Column:
    return Column(name, pa.array([None if value is None else str(value) for value in values], pa.string()))


def of_classes(labels: Any) -> Target:
    labels = np.asarray(labels)
    return build_target(column(labels), [str(value) for value in range(int(labels.max()) + 1)])


def test_what_a_column_explains_of_classes() -> None:
    random = np.random.default_rng(2)
    label = random.integers(0, 2, 4000)
    noisy = np.where(random.random(4000) < 0.9, label, 1 - label)
    about = of_classes(label)
    assert about.score(column(label.tolist()).ids) > 0.99
    # The entropy that is left of a binary symmetric channel of 10% noise.
    left = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert about.score(noisy) == pytest.approx(1 - left, abs=0.03)
    assert about.score(random.integers(0, 50, 4000)) < 0.01
    # An id is different in every row: what was learned says nothing about other rows.
    assert about.score(np.arange(4000)) < 0.01


def test_what_a_column_explains_of_numbers() -> None:
    random = np.random.default_rng(3)
    cause = random.normal(size=4000)
    label = cause + random.normal(size=4000)
    about = build_target(column(label), [])
    assert about.score(column(cause.tolist()).ids) == pytest.approx(0.5, abs=0.05)
    assert about.score(column(random.normal(size=4000).tolist()).ids) < 0.02


def test_a_pair_explains_what_neither_does_alone() -> None:
    random = np.random.default_rng(4)
    first, other = random.integers(0, 2, 4000), random.integers(0, 2, 4000)
    about = of_classes(first ^ other)
    assert about.score(first) < 0.01
    assert about.score(combine_ids(first, other)) > 0.99


def test_targets_follow_the_order_of_the_classes() -> None:
    assert build_target(column(["b", "a", "b"]), ["b", "a"]).labels.tolist() == [0, 1, 0]
    assert build_target(column([1.5, 2]), []).labels.tolist() == [1.5, 2.0]


def test_bins_say_more_than_a_line_where_the_label_bends() -> None:
    random = np.random.default_rng(8)
    x = random.normal(size=2000).round(3)
    straight, bent = x + random.normal(size=2000), x**2 + random.normal(size=2000)
    classes = [of_classes((label > 0.5).astype(int)) for label in (straight, bent)]
    for line, curve in [(build_target(column(straight), []), build_target(column(bent), [])), (classes[0], classes[1])]:
        assert not line.is_nonlinear(column(x), of_logs=False)
        assert curve.is_nonlinear(column(x), of_logs=False)
    amounts = random.lognormal(3, 1, 2000)
    of_logs = build_target(column(np.log1p(amounts) + 0.1 * random.normal(size=2000)), [])
    assert of_logs.is_nonlinear(column(amounts), of_logs=False) and not of_logs.is_nonlinear(
        column(amounts), of_logs=True
    )
    noise = [
        build_target(column(random.normal(size=90)), []).is_nonlinear(column(x[:90]), of_logs=False) for _ in range(20)
    ]
    assert sum(noise) <= 1


def test_equal_rows_are_in_one_half_unless_they_are_a_lookup_table() -> None:
    first, other = column(np.arange(6000) % 10, "one"), column(np.arange(6000) % 7, "other")
    label = of_classes(np.arange(6000) % 2)
    (half, *_) = label.with_rows([first, other]).halves
    pairs = np.asarray(combine_ids(first.ids, other.ids))
    assert all(len(set(half[pairs == pair])) == 1 for pair in range(70))
    (half, *_) = label.with_lookup([first, other]).halves
    assert all(len(set(half[pairs == pair])) == 2 for pair in range(70))
    many = column(np.arange(6000) % 3000, "many")
    assert np.array_equal(label.with_lookup([many]).row_codes, label.with_rows([many]).row_codes)
