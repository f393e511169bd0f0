"""Standard errors and intervals against theory, and the draws that they come from."""

import math

import numpy as np
import pytest
from scipy import stats

from schemas.bootstrap import (
    compute_standard_error,
    draw_weights,
    find_difference,
    find_interval,
    number_copies,
    number_rows,
    replicate_metrics,
)
from schemas.metric_counts import create_empty_counts
from schemas.metrics import LABEL_KINDS, METRICS, list_metrics
from schemas.moments import count_effective_rows

IDS = np.arange(5000, dtype=np.uint64)


def draw(ids: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.concatenate([*draw_weights(ids, seed)], axis=1)


def test_rows_are_drawn_as_often_as_poisson_says_and_independently() -> None:
    drawn = draw(IDS)
    counts = np.bincount(drawn.astype(int).ravel(), minlength=9)
    expected = stats.poisson(1).pmf(np.arange(6)) * drawn.size
    assert counts[:6] == pytest.approx(expected, rel=0.03, abs=60)
    for correlations in (np.corrcoef(drawn.T), np.corrcoef(drawn[:200])):
        np.fill_diagonal(correlations, 0)
        assert np.abs(correlations).max() < 0.35
    assert np.abs(np.corrcoef(draw(IDS).ravel(), draw(IDS, 2).ravel())[0, 1]) < 0.01


def test_the_draws_of_a_row_depend_on_its_id_and_the_seed_alone() -> None:
    assert (draw(IDS)[::7] == draw(IDS[::7])).all()
    assert (draw(IDS) != draw(IDS, 2)).any()


def test_rows_of_a_file_have_the_same_ids_in_whatever_batches() -> None:
    ids = np.concatenate([number_rows("Split-test/a.gz", 0, 10), number_rows("Split-test/a.gz", 10, 90)])
    assert (ids == number_rows("Split-test/a.gz", 0, 100)).all()
    assert len({*ids.tolist(), *number_rows("Split-test/b.gz", 0, 100).tolist()}) == 200


def test_the_error_of_a_weighted_mean_is_that_of_theory() -> None:
    random = np.random.default_rng(2)
    numbers, weights = random.normal(size=2000), random.gamma(1, 5, 2000)
    replicates = replicate_metrics((), {}, numbers, {}, weights, ids=IDS[:2000], seed=1, numbers={"gain": numbers})
    deviations = weights * (numbers - np.average(numbers, weights=weights))
    error = compute_standard_error(replicates.means["gain"], count_effective_rows(weights))
    assert error == pytest.approx(math.sqrt((deviations**2).sum()) / weights.sum(), rel=0.15)


def test_copies_get_ids_of_their_own() -> None:
    numbered = number_copies(np.array([7, 3, 7, 7, 3], np.uint64))
    assert len({*numbered.tolist()}) == 5
    assert number_copies(np.array([3, 7, 7, 7, 3], np.uint64)).sum() == numbered.sum()
    assert len(number_copies(IDS[:0])) == 0


def measure(kind: str, rows: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    random = np.random.default_rng(3)
    match kind:
        case "binary":
            predictions = random.random(rows)
            labels = (random.random(rows) < predictions).astype(np.int64)
        case "multiclass":
            predictions = random.dirichlet([1, 1, 1], rows)
            labels = (predictions.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1)
        case _:
            labels = random.normal(5, 2, rows)
            predictions = labels + random.normal(size=rows)
    counts = create_empty_counts(kind)  # type: ignore[arg-type]
    counts.add(labels, predictions)
    names = list_metrics(kind)  # type: ignore[arg-type]
    replicates = replicate_metrics(
        names,
        {"": create_empty_counts(kind)},  # type: ignore[arg-type]
        labels,
        {"": predictions},
        np.ones(rows),
        ids=IDS[:rows],
        seed=5,
    )
    return {name: METRICS[name].compute(counts) for name in names}, dict(replicates.metrics[""])


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_replicates_vary_around_each_metric(kind: str) -> None:
    values, replicates = measure(kind, 3000)
    for name, value in values.items():
        error = compute_standard_error(replicates[name], 3000)
        assert error is not None
        assert abs(replicates[name].mean() - value) < error, name


def test_the_error_of_a_share_is_that_of_theory() -> None:
    values, replicates = measure("binary", 3000)
    error = compute_standard_error(replicates["accuracy"], 3000)
    assert error == pytest.approx(math.sqrt(values["accuracy"] * (1 - values["accuracy"]) / 3000), rel=0.15)


def test_an_interval_keeps_to_the_values_of_its_metric() -> None:
    share = find_interval(METRICS["auc"], 0.99, 0.02, 50)
    loss = find_interval(METRICS["log_loss"], 0.1, 0.2, 50)
    error = find_interval(METRICS["mean_error"], 0.1, 0.2, 50)
    assert share is not None and loss is not None and error is not None
    assert 0 < share.low < 0.99 < share.high < 1
    assert 0 < loss.low < 0.1 < loss.high
    assert error == pytest.approx(0.1 + np.array([-1, 1]) * stats.t(49).ppf(0.975) * 0.2)
    assert find_difference(0.1, 0.2, 50) == error


def test_rows_that_are_all_right_or_all_wrong_have_the_interval_of_wilson() -> None:
    accuracy = METRICS["accuracy"]
    expected = stats.binomtest(4000, 4000).proportion_ci(method="wilson")
    assert find_interval(accuracy, 1.0, None, 4000) == pytest.approx((expected.low, 1), abs=1e-5)
    assert find_interval(accuracy, 0.0, None, 4000) == pytest.approx((0, 1 - expected.low), abs=1e-5)
    assert find_interval(accuracy, 1.0, None, 1) is None
    assert find_interval(accuracy, 0.5, None, 4000) is None
    assert find_interval(METRICS["auc"], 1.0, None, 4000) is None


def test_without_evidence_there_is_no_interval() -> None:
    replicates = np.random.default_rng(1).normal(size=200)
    assert compute_standard_error(replicates, 1) is None
    assert compute_standard_error(np.full(200, 0.5), 100) is None
    assert compute_standard_error(np.where(np.arange(200) < 20, np.nan, replicates), 100) is None
    assert compute_standard_error(np.where(np.arange(200) < 5, np.nan, replicates), 100) is not None
    assert find_interval(METRICS["auc"], None, 0.1, 100) is None
    assert find_interval(METRICS["auc"], math.nan, 0.1, 100) is None
    assert find_interval(METRICS["auc"], 0.5, None, 100) is None
    assert find_difference(None, 0.1, 100) is None
