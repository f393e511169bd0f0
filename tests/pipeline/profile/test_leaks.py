"""Columns, sums and products that give a label away, and honest ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.profile.columns import Column
from pipeline.profile.leaks import LEAK_OF_NUMBERS, ColumnSum, Leaks, find_leaks
from pipeline.profile.targets import build_target

ROWS = 1200
RANDOM = np.random.default_rng(7)
NOISE = {f"noise_{n}": RANDOM.normal(size=ROWS).round(3) for n in range(6)}


def column(name: str, values: Any) -> Column:
    return Column(name, pa.array([None if value is None else str(value) for value in values], pa.string()))


def leaks(label: Any, classes: Sequence[str] = (), /, **columns: Any) -> Leaks:
    inputs = [column(name, values) for name, values in columns.items()]
    return find_leaks(inputs, build_target(column("label", label), classes).with_rows(inputs))


def names(sums: Sequence[ColumnSum]) -> list[set[str]]:
    return [{*column_sum.names} for column_sum in sums]


def test_a_sum_of_two_columns_is_found_among_others() -> None:
    casual, registered = RANDOM.poisson(35, ROWS), RANDOM.poisson(150, ROWS)
    result = leaks(casual + registered, casual=casual, registered=registered, **NOISE)
    assert result.columns == []
    assert [str(pair) for pair in result.sums] == ["'registered' + 'casual'"]
    assert result.sums[0].share == pytest.approx(1)
    assert result.find_sum("casual") == result.sums[0] and result.find_sum("noise_0") is None


def test_a_difference_of_columns_that_say_nothing_alone() -> None:
    base = RANDOM.normal(size=ROWS) * 1000
    profit = RANDOM.normal(size=ROWS)
    result = leaks(profit.round(4), revenue=(base + profit).round(4), cost=base.round(4), **NOISE)
    assert max(result.shares.values()) < 0.1
    assert names(result.sums) == [{"revenue", "cost"}]
    assert str(result.sums[0]) in ("'revenue' - 'cost'", "-'cost' + 'revenue'")


def test_a_sum_is_found_that_the_classes_of_a_label_are() -> None:
    adults, children = RANDOM.integers(1, 4, ROWS), RANDOM.integers(0, 5, ROWS)
    guests = adults + children
    classes = [str(value) for value in np.unique(guests)]
    for order in (classes, classes[::-1]):
        result = leaks(guests, order, adults=adults, children=children, **NOISE)
        assert [str(pair) for pair in result.sums] == ["'children' + 'adults'"]
    # Classes with other names have no order, and rounding hides an honest score.
    names_of_classes = [f"{value} guests" for value in guests]
    assert not leaks(names_of_classes, sorted({*names_of_classes}), adults=adults, children=children).sums
    grade = np.clip(np.round((adults + children + RANDOM.normal(size=ROWS)) / 3), 0, 3).astype(int)
    honest = leaks(grade, ["0", "1", "2", "3"], adults=adults, children=children, **NOISE)
    assert (honest.columns, honest.sums, honest.near_sums) == ([], [], [])


@pytest.mark.parametrize("size", [3, 4])
def test_a_sum_of_more_columns(size: int) -> None:
    parts = {f"part_{n}": RANDOM.lognormal(3, 0.5, ROWS).round(2) for n in range(size)}
    result = leaks(np.sum([*parts.values()], axis=0).round(2), **parts, **NOISE)
    assert names(result.sums) == [{*parts}]


def test_a_sum_of_five_columns_is_not_looked_for() -> None:
    parts = {f"part_{n}": RANDOM.normal(size=ROWS).round(3) for n in range(5)}
    assert leaks(np.sum([*parts.values()], axis=0).round(3), **parts).sums == []


def test_two_sums_are_both_found() -> None:
    first, other, third = (RANDOM.poisson(50, ROWS) for _ in range(3))
    label = first + other
    result = leaks(label, one=first, other=other, third=third, rest=label - third, **NOISE)
    assert sorted(map(sorted, found_names := names(result.sums))) == [["one", "other"], ["rest", "third"]], found_names


def test_a_product_is_found() -> None:
    area, price = RANDOM.uniform(20, 200, ROWS).round(1), RANDOM.lognormal(7, 0.6, ROWS).round(2)
    result = leaks((area * price).round(1), area=area, price=price, **NOISE)
    assert [str(pair) for pair in result.sums] in (["'price' * 'area'"], ["'area' * 'price'"])
    rate = leaks((price / area).round(4), area=area, price=price, **NOISE)
    assert names(rate.sums) == [{"area", "price"}] and rate.sums[0].is_product


def test_honest_columns_are_no_sum() -> None:
    strong = RANDOM.normal(size=ROWS).round(3)
    label = (3 * strong + RANDOM.normal(size=ROWS) + 0.3 * NOISE["noise_0"]).round(3)
    result = leaks(label, strong=strong, **NOISE)
    assert result.shares["strong"] == pytest.approx(0.9, abs=0.06)
    assert (result.columns, result.sums, result.named_sum) == ([], [], None)
    assert not result.is_near("strong")


def test_a_sum_with_noise_is_named() -> None:
    parts = {f"part_{n}": RANDOM.normal(size=ROWS).round(3) for n in range(3)}
    result = leaks((np.sum([*parts.values()], axis=0) + 0.6 * RANDOM.normal(size=ROWS)).round(3), **parts, **NOISE)
    assert result.sums == [] and result.named_sum is not None
    assert {*result.named_sum.names} == {*parts}
    assert 0.8 < result.named_sum.share < LEAK_OF_NUMBERS


def test_copies_of_a_number_in_other_units_are_leaks_whatever_its_tail() -> None:
    label = RANDOM.lognormal(8, 2, ROWS).round(2)
    columns = {"cents": (100 * label).round(), "log": np.log(label).round(6), "minus": -label, "root": label**0.5}
    assert leaks(label, **columns, **NOISE).columns == [*columns]


def test_a_relabelling_of_many_classes_with_few_rows_is_a_leak() -> None:
    ids = np.arange(ROWS) % 60
    labels = [f"class {n}" for n in ids]
    result = leaks(labels, sorted(set(labels)), text=[f"t{n}" for n in ids], code=1000 + 7 * ids, **NOISE)
    assert result.columns == ["text", "code"]


def test_a_rare_class_that_an_amount_gives_away() -> None:
    fraud = (RANDOM.random(ROWS) < 0.03).astype(int)
    amount = (fraud * RANDOM.uniform(1, 99, ROWS)).round(2)
    assert leaks(fraud, ["0", "1"], refunded=amount, **NOISE).columns == ["refunded"]


def test_two_columns_that_sum_up_to_one_of_two_classes() -> None:
    label = RANDOM.integers(0, 2, ROWS)
    offset = RANDOM.normal(size=ROWS).round(3)
    result = leaks(label, ["0", "1"], before=offset, after=(offset + label).round(3), **NOISE)
    assert names(result.sums) == [{"before", "after"}]


def test_copies_of_rows_are_no_evidence() -> None:
    # Each of 300 rows eight times: what a half learned by heart, the other half must not ask for.
    rows = np.repeat(np.arange(300), 8)
    label = RANDOM.integers(0, 2, 300)[rows]
    result = leaks(label, ["0", "1"], name=[f"n{row}" for row in rows], size=RANDOM.normal(size=300)[rows])
    assert max(result.shares.values()) < 0.05


def test_ids_explain_nothing() -> None:
    result = leaks(RANDOM.integers(0, 2, ROWS), ["0", "1"], id=range(ROWS), text=[f"id {n}" for n in range(ROWS)])
    assert max(result.shares.values()) < 0.02


def test_missing_values_hide_no_sum() -> None:
    first, other = RANDOM.poisson(50, ROWS), RANDOM.poisson(70, ROWS)
    result = leaks(first + other, one=[None if n % 10 == 3 else v for n, v in enumerate(first)], other=other, **NOISE)
    assert names(result.sums) == [{"one", "other"}]


def test_few_rows_are_no_evidence() -> None:
    label = RANDOM.integers(0, 2, 150)
    result = leaks(label, ["0", "1"], copy=label)
    assert result.shares["copy"] > 0.95 and result.columns == []


def test_columns_without_numbers_or_spread() -> None:
    label = RANDOM.normal(size=ROWS).round(3)
    assert leaks(label, constant=[1] * ROWS, text=["a"] * ROWS, nothing=[None] * ROWS).sums == []
    assert leaks(label).sums == []
