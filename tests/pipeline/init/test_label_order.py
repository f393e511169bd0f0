"""Whether few whole numbers are a number or classes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.init.label import choose_label
from pipeline.init.label_order import judge_order
from pipeline.init.notes import Notes
from pipeline.init.requests import Requests
from pipeline.profile.columns import Column

RANDOM = np.random.default_rng(7)
ROWS = 2_000
X = RANDOM.normal(size=(ROWS, 3))


def column(name: str, values: Any) -> Column:
    return Column(name, pa.array([str(value) for value in values]))


def evidence(label: Any, features: Any, name: str = "y") -> Any:
    columns = {f"x{number}": column(f"x{number}", values) for number, values in enumerate(np.transpose(features))}
    return judge_order(column(name, label), columns)


def test_counts_and_ratings_are_numbers() -> None:
    visits = RANDOM.poisson(np.exp(0.5 * X[:, 0])).clip(0, 15)
    assert evidence(visits, X).is_number
    quality = np.clip(np.round(6 + 0.5 * X[:, 1] + 0.6 * RANDOM.normal(size=ROWS)), 3, 9).astype(int)
    assert evidence(quality, X).is_number
    stars = np.clip(np.round(3 + 0.8 * X[:, 2] + RANDOM.normal(size=ROWS)), 1, 5).astype(int)
    order = evidence(stars, X, "stars")
    assert order.is_number
    assert "named as a quantity" in order.reasons


def test_counts_with_a_long_tail_are_numbers_though_the_features_tell_little() -> None:
    counts = np.repeat(np.arange(12), [4_000, 700, 200, 60, 20, 9, 6, 4, 3, 1, 1, 1])
    noise = RANDOM.normal(size=(len(counts), 2))
    order = evidence(counts, noise)
    assert order.is_number
    assert order.reasons[-1] == "one peak that thins out, 7 values in fewer than 10 rows"


def test_codes_of_unrelated_classes_are_classes() -> None:
    codes = RANDOM.integers(1, 8, ROWS)
    centres = RANDOM.normal(size=(8, 3))
    assert not evidence(codes, X + centres[codes]).is_number
    # Features that tell nothing of the label are no evidence for an order.
    assert not evidence(RANDOM.integers(0, 6, ROWS), X).is_number


def test_three_classes_that_follow_an_order_by_chance_are_classes() -> None:
    kinds = np.repeat([0, 1, 2], 50)
    features = X[:150] + 3 * kinds[:, None]
    assert not evidence(kinds, features, "target").is_number
    assert not evidence(kinds, features, "y").is_number


def test_ratings_beside_ids_alone_are_numbers() -> None:
    item = RANDOM.integers(0, 100, ROWS)
    liked = RANDOM.normal(size=100)
    rating = np.clip(np.round(3 + liked[item] + 0.7 * RANDOM.normal(size=ROWS)), 1, 5).astype(int)
    order = judge_order(column("y", rating), {"item": column("item", [f"i{number}" for number in item])})
    assert order.is_number, order


@pytest.mark.parametrize(
    ("name", "kind", "other"), [("visits", "regression", "multiclass"), ("type", "multiclass", "regression")]
)
def test_the_decision_and_its_evidence_are_noted_with_the_flag_that_changes_it(
    name: str, kind: str, other: str
) -> None:
    values = RANDOM.integers(0, 6, ROWS)
    if name == "visits":
        values = RANDOM.poisson(np.exp(0.5 * X[:, 0])).clip(0, 9)
    notes = Notes()
    columns = {name: column(name, values), "x": column("x", X[:, 0])}
    chosen = choose_label(columns, None, [""], Requests(name), notes)
    assert chosen.kind == kind
    (note,) = notes.texts
    assert f"whole numbers taken as {'a number' if kind == 'regression' else 'classes'} (" in note
    assert f"--kind {other}" in note and f"--kind {other}" in chosen.reason
