"""The threshold that costs least on eval, and what it is where eval shows nothing."""

import json
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from cli import progress
from schemas.decision import DecisionCosts, DecisionThreshold
from tests.trainer.test_model import training, write_source
from trainer import decision
from trainer.decision import choose_threshold, fit_threshold


def costs(false_positive: float = 1, false_negative: float = 1) -> DecisionCosts:
    return DecisionCosts(cost_false_positive=false_positive, cost_false_negative=false_negative)


def make_rows(*groups: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of groups of (number of rows, label, probability)."""
    labels = np.concatenate([np.full(rows, label) for rows, label, _ in groups])
    probabilities = np.concatenate([np.full(rows, p, np.float32) for rows, _, p in groups])
    return labels, probabilities


def mean_cost(labels: np.ndarray, probabilities: np.ndarray, declared: DecisionCosts, threshold: float) -> float:
    """Row by row, as a reader would count."""
    total = 0.0
    for label, probability in zip(labels, probabilities, strict=True):
        if probability > threshold and label == 0:
            total += declared.cost_false_positive
        if probability <= threshold and label == 1:
            total += declared.cost_false_negative
    return total / len(labels)


def test_the_cheapest_threshold_lies_between_the_neighbours_that_it_parts() -> None:
    # At the costs' own threshold of 1/6 all 60 negative rows at 0.25 are false positives.
    rows = make_rows((60, 0, 0.25), (40, 1, 0.5))
    chosen = choose_threshold(*rows, costs(1, 5))
    assert chosen == DecisionThreshold(
        threshold=0.375, costs=costs(1, 5), chosen_by="eval", rows=100, mean_cost=0.0, mean_cost_at_default=2.0
    )


def test_costs_are_weighed() -> None:
    # Missing the 60 positive rows at 0.2 costs 60 * 2, and taking the 60 negative ones there costs 60 * 0.5.
    rows = make_rows((100, 0, 0.125), (60, 0, 0.2), (60, 1, 0.2), (20, 1, 0.9))
    chosen = choose_threshold(*rows, costs(0.5, 2))
    assert (chosen.threshold, chosen.chosen_by) == (pytest.approx((0.125 + 0.2) / 2), "eval")
    assert (chosen.mean_cost, chosen.mean_cost_at_default) == (30 / 240, 120 / 240)


@pytest.mark.parametrize(("preferred", "nearest"), [(0.1, 0.2), (0.5, 0.425), (0.6, 0.63), (0.99, 0.63)])
def test_of_candidates_that_cost_the_same_the_nearest_is_taken(preferred: float, nearest: float) -> None:
    # Each of the three has two errors.
    labels, probabilities = make_rows((9, 0, 0.1), (1, 1, 0.3), (1, 0, 0.4), (1, 1, 0.45), (1, 0, 0.46), (9, 1, 0.8))
    threshold = decision._cheapest(labels == 1, probabilities, np.ones(len(labels)), costs(), preferred)
    assert threshold == pytest.approx(nearest)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (make_rows((50, 0, 0.3), (4, 1, 0.4)), "four rows of a class"),
        (make_rows((50, 0, 0.3)), "no row of a class"),
        (make_rows((50, 1, 0.3)), "no row of a class"),
        (make_rows((60, 0, 0.1), (40, 1, 0.5)), "none is better"),
        (make_rows((50, 0, 0.1), (1, 0, 0.2), (49, 1, 0.5)), "better by one row"),
    ],
)
def test_without_evidence_the_threshold_is_that_of_the_costs(rows: Any, why: str) -> None:
    chosen = choose_threshold(*rows, costs(1, 5))
    assert (chosen.threshold, chosen.chosen_by) == (float(np.float32(1 / 6)), "costs"), why
    assert chosen.mean_cost == pytest.approx(mean_cost(*rows, costs(1, 5), 1 / 6))


def test_the_threshold_of_balanced_classes_is_moved_by_their_odds() -> None:
    # Equal odds in training are 1 : 99 in the rows: a row has to be 99 times as likely.
    chosen = choose_threshold(*make_rows((99, 0, 0.2), (1, 1, 0.995)), costs(), is_balanced=True)
    assert chosen.threshold == pytest.approx(99.5 / 1.5 / (99.5 / 1.5 + 1))
    assert chosen.chosen_by == "costs"


def test_rows_without_a_finite_prediction_are_left_out() -> None:
    labels, probabilities = make_rows((60, 0, 0.25), (40, 1, 0.5), (3, 1, np.nan), (3, 0, np.inf))
    chosen = choose_threshold(labels, probabilities, costs(1, 5))
    assert (chosen.threshold, chosen.rows) == (0.375, 100)
    none = choose_threshold(np.array([0, 1]), np.array([np.nan, np.nan]), costs(1, 5))
    assert (none.rows, none.mean_cost, none.threshold) == (0, None, float(np.float32(1 / 6)))
    assert str(none) == (
        "threshold 0.1667 (false positive 1, false negative 5; by the costs, as none is significantly better on 0 rows of eval)"
    )


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.5, float(np.nextafter(np.float32(0.5), np.float32(1))))])
def test_neighbours_that_touch_are_parted(low: float, high: float) -> None:
    rows = make_rows((50, 0, low), (50, 1, high))
    chosen = choose_threshold(*rows, costs(1, 1000))
    assert low <= np.float32(chosen.threshold) < high
    assert chosen.mean_cost == 0


@pytest.mark.parametrize("declared", [costs(1e6, 1), costs(1, 1e6), costs(1e12, 1e12), costs(1e-300, 1e-300)])
@pytest.mark.parametrize("value", [0.0, 1e-45, 1.0])
def test_costs_and_predictions_at_their_ends_give_a_threshold(declared: DecisionCosts, value: float) -> None:
    rows = make_rows((30, 0, value), (30, 1, value))
    for is_balanced in (False, True):
        chosen = choose_threshold(*rows, declared, is_balanced=is_balanced)
        assert 0 < np.float32(chosen.threshold) < 1
        assert float(np.float32(chosen.threshold)) == chosen.threshold
        assert DecisionThreshold.model_validate_json(chosen.model_dump_json()) == chosen


@hypothesis.settings(max_examples=300)
@hypothesis.given(
    seed=strategies.integers(0, 2**32 - 1),
    rows=strategies.integers(1, 100),
    digits=strategies.integers(1, 7),
    false_positive=strategies.floats(0.01, 100),
    false_negative=strategies.floats(0.01, 100),
    shift=strategies.floats(-3, 3),
)
def test_on_eval_no_threshold_is_cheaper_by_more_than_chance(
    seed: int, rows: int, digits: int, false_positive: float, false_negative: float, shift: float
) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 2, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-logits))).astype(int)
    probabilities = np.round(1 / (1 + np.exp(-logits - shift)), digits).astype(np.float32)
    declared = costs(false_positive, false_negative)
    chosen = choose_threshold(labels, probabilities, declared)
    own = float(np.float32(false_positive / (false_positive + false_negative)))
    assert chosen.mean_cost == pytest.approx(mean_cost(labels, probabilities, declared, chosen.threshold))
    at_own = mean_cost(labels, probabilities, declared, own)
    assert chosen.mean_cost is not None
    assert chosen.mean_cost <= at_own * (1 + 1e-9)
    if chosen.chosen_by == "costs":
        assert chosen.threshold == own
        return
    assert chosen.mean_cost < at_own
    every = [0.5, *np.nextafter(probabilities, np.float32(1)), *probabilities]
    # 0 and 1 are no thresholds: a row of probability 1 is always predicted as positive.
    every = {threshold for threshold in every if 0 < threshold < 1}
    least = min(mean_cost(labels, probabilities, declared, threshold) for threshold in every)
    assert chosen.mean_cost == pytest.approx(least)


class Network:
    """A network whose logit is the number of a row."""

    def __call__(self, inputs: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        assert training is False
        return inputs["numbers"]


@pytest.fixture
def heard() -> Any:
    lines: list[str] = []
    progress.listeners.append(lines.append)
    yield lines
    progress.listeners.remove(lines.append)


def test_the_rows_of_eval_decide_and_the_threshold_is_reported(tmp_path: Path, heard: list[str]) -> None:
    source = write_source(tmp_path / "eval.gz", rows=400)
    declared = costs(1, 5)
    chosen = fit_threshold(Network(), source, declared, training())
    ids, numbers, labels = next(iter(source.blocks()))
    assert len(ids) == 400
    expected = choose_threshold(labels.numpy(), tf.sigmoid(numbers[:, 0]).numpy(), declared)
    assert chosen == expected
    assert heard == [f"decision: {chosen}"]
    balanced = fit_threshold(Network(), source, declared, training(imbalance="class_weights"))
    # Three of four rows are negative.
    assert balanced.threshold == pytest.approx(3 / 8, abs=0.01) or balanced.chosen_by == "eval"


def test_a_row_of_weight_k_counts_as_k_rows() -> None:
    random = np.random.default_rng(1)
    probabilities = random.random(200).astype(np.float32)
    labels = (random.random(200) < probabilities**2).astype(np.int64)
    weights = random.integers(0, 4, 200)
    declared = costs(1, 3)
    weighted = choose_threshold(labels, probabilities, declared, weights)
    repeated = choose_threshold(np.repeat(labels, weights), np.repeat(probabilities, weights), declared)
    assert (weighted.threshold, weighted.chosen_by) == (repeated.threshold, repeated.chosen_by)
    assert weighted.mean_cost == pytest.approx(repeated.mean_cost)
    assert weighted.mean_cost_at_default == pytest.approx(repeated.mean_cost_at_default)
    # Rows of weight 0 are no evidence, and the unit of the weights means nothing.
    assert weighted.rows == np.count_nonzero(weights)
    assert choose_threshold(labels, probabilities, declared, 4 * weights) == weighted


def test_without_costs_nothing_is_chosen_or_reported(heard: list[str]) -> None:
    assert fit_threshold(None, None, None, training()) == DecisionThreshold()  # type: ignore[arg-type]
    assert heard == []


def test_of_many_rows_an_even_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source(tmp_path / "eval.gz", rows=9000)
    every_label, every_probability, _ = decision._predict(Network(), source)
    assert len(every_label) == 9000
    monkeypatch.setattr(decision, "_MAX_ROWS", 3000)
    labels, probabilities, _ = decision._predict(Network(), source)
    np.testing.assert_array_equal(labels, every_label[::4])
    np.testing.assert_allclose(probabilities, every_probability[::4], rtol=1e-6)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"cost_false_positive": 1}, "cost_false_negative"),
        ({"cost_false_positive": 0, "cost_false_negative": 1}, "greater than 0"),
        ({"cost_false_positive": 1, "cost_false_negative": -5}, "greater than 0"),
        ({"cost_false_positive": float("inf"), "cost_false_negative": 1}, "finite number"),
        ({"cost_false_positive": 1e-3, "cost_false_negative": 1e4}, "are more than 1,000,000 times apart"),
    ],
)
def test_costs_that_are_none_are_rejected(declared: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecisionCosts.model_validate(json.loads(json.dumps(declared)))
