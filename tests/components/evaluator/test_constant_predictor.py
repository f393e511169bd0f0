"""The candidate against the constant predictor, on numbers that can be worked out by hand, and on simulated ones."""

import math

import numpy as np
import pytest
from scipy import stats

from components.evaluator.constant_predictor import ConstantComparison, ConstantPredictor, PairedLosses
from components.evaluator.resampling import CONSTANT, LABELS, WEIGHTS, Resampling
from components.evaluator.sliced_predictions import CANDIDATE
from schemas.features import BinaryLabel, LabelKind, MulticlassLabel, RegressionLabel
from schemas.row_sample import RowSample

BINARY = BinaryLabel(column="bought", positive="yes", negative="no")
MULTICLASS = MulticlassLabel(kind="multiclass", column="species", classes=("a", "b", "c"))
REGRESSION = RegressionLabel(kind="regression", column="price")
SHARES = ConstantPredictor.from_train({"no": 75, "yes": 25}, BINARY, is_balanced=False)


def compare(
    predictor: ConstantPredictor, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
) -> ConstantComparison:
    used = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    columns = {LABELS: labels, WEIGHTS: used, CANDIDATE: predictions}
    kind: LabelKind = "binary" if predictor.classes else "regression"
    sample = RowSample.of(np.arange(len(labels), dtype=np.uint64), columns)
    gain = Resampling(kind, (), 7, predictor).resample((), sample).gains[CONSTANT]
    return ConstantComparison.from_losses(
        predictor, PairedLosses.from_batch(predictor, labels, predictions, weights), gain.interval
    )


def test_a_binary_candidate_is_compared_by_the_log_loss_of_each_row() -> None:
    random = np.random.default_rng(4)
    predictions = random.random(400).astype(np.float32)
    labels = (random.random(400) < predictions).astype(np.int64)
    comparison = compare(SHARES, labels, predictions)
    own = -np.log(np.where(labels == 1, predictions, 1 - predictions).astype(np.float64))
    constant = -np.log(np.where(labels == 1, 0.25, 0.75))
    assert (comparison.loss, comparison.rows) == ("log loss", 400)
    assert comparison.candidate == pytest.approx(own.mean(), rel=1e-6)
    assert comparison.constant == pytest.approx(constant.mean())
    # The interval of a paired t test, as SciPy has it; 200 replicates know the error by 5 %.
    low, high = stats.ttest_rel(constant, own).confidence_interval(0.95)
    assert comparison.low is not None and comparison.high is not None
    assert comparison.low + comparison.high == pytest.approx(low + high, rel=1e-6)
    assert comparison.high - comparison.low == pytest.approx(high - low, rel=0.15)
    assert comparison.rows_needed == math.ceil(400 * ((comparison.high - comparison.low) / 2 / comparison.gain) ** 2)
    assert (comparison.is_better, comparison.is_significant) == (True, True)


def test_a_multiclass_candidate_is_compared_with_the_shares_of_all_classes() -> None:
    predictor = ConstantPredictor.from_train({"a": 5, "b": 3, "c": 2}, MULTICLASS, is_balanced=False)
    comparison = compare(predictor, np.array([0, 2]), np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32))
    assert comparison.candidate == pytest.approx(-np.log([0.7, 0.6]).mean(), rel=1e-6)
    assert comparison.constant == pytest.approx(-np.log([0.5, 0.2]).mean())


def test_a_regression_is_compared_with_the_mean_of_train_by_the_squared_error() -> None:
    predictor = ConstantPredictor.from_train({"rows": 9, "mean": 2.0, "std": 1.0}, REGRESSION, is_balanced=False)
    comparison = compare(predictor, np.array([1.0, 4.0], np.float32), np.array([1.5, 3.0], np.float32))
    assert (comparison.loss, comparison.candidate, comparison.constant) == ("squared error", 0.625, 2.5)
    assert str(comparison) == "squared error 0.625 of the model against 2.5 of the mean of train"


def test_a_class_that_train_lacks_has_a_finite_loss() -> None:
    predictor = ConstantPredictor.from_train({"a": 8, "b": 4, "c": 0}, MULTICLASS, is_balanced=False)
    np.testing.assert_allclose(predictor.prediction, np.array([8.5, 4.5, 0.5]) / 13.5)
    comparison = compare(predictor, np.array([2]), np.array([[0.1, 0.1, 0.8]], np.float32))
    assert comparison.constant == pytest.approx(-math.log(0.5 / 13.5))


def test_the_shares_of_train_are_put_back_where_training_was_balanced() -> None:
    """A model of a balanced training that knows nothing says 0.5, which are the shares of train once put back."""
    balanced = ConstantPredictor.from_train({"no": 90, "yes": 10}, BINARY, is_balanced=True)
    labels = np.array([0] * 90 + [1] * 10)
    comparison = compare(balanced, labels, np.full(100, 0.5, np.float32))
    assert comparison.candidate == pytest.approx(comparison.constant)
    assert not comparison.is_better
    # Bayes by hand: an odds ratio of 4 on prior odds of 1 to 9.
    (own,), _ = balanced.compute_losses(np.array([1]), np.array([0.8], np.float32))
    assert own == pytest.approx(-math.log(4 / 13), rel=1e-6)
    assert "with the class shares of train put back" in str(comparison)


def test_batches_add_up_to_all_rows_and_survive_their_file() -> None:
    random = np.random.default_rng(3)
    predictions = random.random(1000).astype(np.float32)
    labels = (random.random(1000) < predictions).astype(np.int64)
    merged = PairedLosses.create_empty(SHARES)
    for part in (slice(0, 1), slice(1, 1), slice(1, 400), slice(400, 1000)):
        batch = PairedLosses.from_batch(SHARES, labels[part], predictions[part])
        merged.merge(PairedLosses.from_json(batch.to_json().encode()))
    whole = ConstantComparison.from_losses(SHARES, PairedLosses.from_batch(SHARES, labels, predictions), (0.1, 0.2))
    comparison = ConstantComparison.from_losses(SHARES, merged, (0.1, 0.2))
    for name in ("candidate", "constant", "gain", "rows", "rows_needed"):
        assert getattr(comparison, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert merged.class_rows.tolist() == np.bincount(labels).tolist()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_counted_and_not_averaged(odd: float) -> None:
    predictions = np.array([0.2, odd, 0.3, 0.9], np.float32)
    losses = PairedLosses.from_batch(SHARES, np.array([0, 1, 0, 1]), predictions)
    assert (losses.rows, losses.non_finite, losses.class_rows.tolist()) == (3, 1, [2, 2])
    assert math.isfinite(losses.candidate)


def test_a_candidate_that_predicts_the_same_for_every_row_knows_nothing() -> None:
    """Even where the rows moved towards what it predicts, and every interval is on its side."""
    labels = np.array([0, 1] * 500)
    comparison = compare(SHARES, labels, np.full(1000, 0.4, np.float32) + np.float32(3e-8) * (np.arange(1000) % 2))
    assert comparison.low is not None and comparison.low > 0
    assert not comparison.is_better
    assert "the model predicts the same for every row" in comparison.explain_problem("test")


def test_of_one_row_nothing_is_said_about_the_same_for_every_row() -> None:
    comparison = compare(SHARES, np.array([1]), np.array([0.9], np.float32))
    assert comparison.is_better and not comparison.is_significant
    assert "(without a 95% interval), must be above 0 by its interval; give 'test' more" in comparison.explain_problem(
        "test"
    )


def test_rows_count_by_their_weight_and_each_is_one_observation() -> None:
    labels, predictions = np.array([1, 0, 0, 1] * 20), np.array([0.5, 0.2, 0.1, 0.4] * 20, np.float32)
    weights = np.array([4, 1, 2, 0] * 20, np.float32)
    weighted = compare(SHARES, labels, predictions, weights)
    repeats = np.repeat(np.arange(80), weights.astype(int))
    repeated = compare(SHARES, labels[repeats], predictions[repeats])
    for name in ("candidate", "constant", "gain"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-12)
    # 60 observations know less than 140.
    assert weighted.low is not None and repeated.low is not None
    assert weighted.low < repeated.low
    halves = PairedLosses.from_batch(SHARES, labels[:1], predictions[:1], weights[:1])
    halves.merge(
        PairedLosses.from_json(
            PairedLosses.from_batch(SHARES, labels[1:], predictions[1:], weights[1:]).to_json().encode()
        )
    )
    merged = ConstantComparison.from_losses(SHARES, halves, None)
    for name in ("candidate", "gain", "rows"):
        assert getattr(merged, name) == pytest.approx(getattr(weighted, name), rel=1e-12)


def test_rows_without_any_weight_have_no_losses() -> None:
    labels, predictions, weights = np.array([1, 0]), np.array([0.5, 0.2], np.float32), np.zeros(2, np.float32)
    losses = PairedLosses.from_batch(SHARES, labels, predictions, weights)
    comparison = compare(SHARES, labels, predictions, weights)
    assert (comparison.gain, comparison.candidate, comparison.low) == (None, None, None)
    assert losses.class_rows.tolist() == [1, 1]


def test_equal_is_not_better() -> None:
    labels = np.array([0, 1] * 50)
    half = ConstantPredictor.from_train({"no": 5, "yes": 5}, BINARY, is_balanced=False)
    comparison = compare(half, labels, np.array([0.4, 0.4, 0.6, 0.6] * 25, np.float32))
    assert not comparison.is_better


def test_messages_have_both_losses_the_interval_and_the_rows_that_are_needed() -> None:
    comparison = ConstantComparison(
        loss="log loss",
        constant_name="the class shares of train",
        candidate=0.68,
        constant=0.6931,
        gain=0.0131,
        low=-0.005,
        high=0.0312,
        rows=1500,
        rows_needed=3400,
        is_prior_corrected=False,
        is_same_everywhere=False,
    )
    assert comparison.explain_problem("test") == (
        "constant predictor: log loss 0.6800 of the model against 0.6931 of the class shares of train, a gain of 0.0131 per row, over "
        "1,500 rows of test (95% interval [-0.0050, 0.0312]), must be above 0 by its interval; about 3,400 rows would be "
        "enough: give 'test' more, or bless it with evaluation.insignificant_gain: warn"
    )


@pytest.mark.parametrize(("rows", "least"), [(45, 0.8), (60, 0.9), (100, 0.99)])
def test_a_regression_with_half_of_the_variance_explained_passes_on_a_small_split(rows: int, least: float) -> None:
    random = np.random.default_rng(rows)
    passed = 0
    for _ in range(1000):
        signal, noise = random.normal(size=(2, rows))
        mean = random.normal() * math.sqrt(2 / 240)
        predictor = ConstantPredictor.from_train({"mean": mean}, REGRESSION, is_balanced=False)
        passed += compare(predictor, (signal + noise).astype(np.float32), signal.astype(np.float32)).is_significant
    assert passed >= 1000 * least


def test_a_good_classifier_of_three_classes_passes_on_34_rows() -> None:
    """Penguins has 34 rows in a tenth; its models are right in 97 % of them and more."""
    random = np.random.default_rng(5)
    predictor = ConstantPredictor.from_train({"a": 152, "b": 68, "c": 124}, MULTICLASS, is_balanced=False)
    for _ in range(1000):
        labels = random.choice(3, size=34, p=predictor.prediction)
        seen = np.where(random.random(34) < 0.97, labels, random.integers(0, 3, 34))
        predictions = np.full((34, 3), 0.05, np.float32)
        predictions[np.arange(34), seen] = 0.9
        assert compare(predictor, labels, predictions).is_significant


@pytest.mark.integration
def test_a_candidate_that_is_no_better_in_truth_passes_in_at_most_one_of_forty_cases() -> None:
    random = np.random.default_rng(6)
    predictor = ConstantPredictor.from_train({"mean": 0.0}, REGRESSION, is_balanced=False)
    passed = 0
    for _ in range(2000):
        signal, noise = random.normal(size=(2, 200))
        # Twice the best prediction has the squared error of the mean.
        passed += compare(predictor, signal + noise, 2 * signal).is_significant
    assert passed <= 2000 * 0.035


def test_probabilities_around_the_share_that_rank_at_random_never_pass() -> None:
    """An AUC of 0.495 was pushed; its log loss is that of the shares, and a little more."""
    random = np.random.default_rng(8)
    for _ in range(200):
        labels = (random.random(3000) < 0.25).astype(np.int64)
        predictions = np.clip(0.25 + 0.1 * random.normal(size=3000) - 0.002 * labels, 0.01, 0.99)
        assert not compare(SHARES, labels, predictions.astype(np.float32)).is_better


def test_one_row_has_no_interval() -> None:
    comparison = compare(SHARES, np.array([1]), np.array([0.9], np.float32))
    assert (comparison.low, comparison.is_significant) == (None, False)
    assert "per row, over 1 row of test (without a 95% interval)" in comparison.explain_problem("test")
