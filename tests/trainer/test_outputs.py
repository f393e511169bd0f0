from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer.config import LabelScale
from trainer.outputs import (
    LabelUnit,
    LabelValues,
    MeanOfMembers,
    Temperature,
    choose_temperature,
    compute_mean_factor,
    compute_quantiles,
)

LABELS = np.random.default_rng(2).lognormal(3, 2, size=4_000)


def values(labels: np.ndarray) -> LabelValues:
    logs = np.sign(labels) * np.log1p(np.abs(labels))
    moments = [float(moment) for moment in (labels.mean(), labels.std(), logs.mean(), logs.std())]
    return LabelValues(*moments, float(labels.min()), float(labels.max()), compute_quantiles(labels))


@pytest.mark.parametrize(("scale", "tolerance"), [("z_score", 1e-3), ("log_z_score", 1e-3), ("quantile", 1e-3)])
@pytest.mark.parametrize("labels", [LABELS, -LABELS, LABELS - 100, np.round(LABELS), 1e12 + 1e11 * LABELS])
def test_learned_labels_come_back_in_their_unit(scale: LabelScale, tolerance: float, labels: np.ndarray) -> None:
    unit = LabelUnit(scale, values(labels), clip=False)
    learned = unit.encode(tf.constant(labels, tf.float32))
    # Some hundred thousandth of the range beside the relative error: z-scores are exact to that.
    near = 1e-5 * (labels.max() - labels.min())
    np.testing.assert_allclose(unit(learned).numpy(), labels, rtol=tolerance, atol=near)
    assert np.isfinite(learned.numpy()).all()


def test_what_is_learned_has_mean_0_and_deviation_1() -> None:
    scales: tuple[LabelScale, ...] = ("z_score", "log_z_score", "quantile")
    for scale in scales:
        learned = LabelUnit(scale, values(LABELS), clip=False).encode(tf.constant(LABELS, tf.float32)).numpy()
        assert learned.mean() == pytest.approx(0, abs=0.01), scale
        assert learned.std() == pytest.approx(1, abs=0.02), scale


def test_only_a_clipped_prediction_stays_within_the_labels() -> None:
    learned = tf.constant([-1e6, 0.0, 1e6])
    free = LabelUnit("log_z_score", values(LABELS), clip=False)(learned).numpy()
    assert np.isfinite(free).all() and free[2] > LABELS.max() and free[0] < LABELS.min()
    clipped = LabelUnit("log_z_score", values(LABELS), clip=True)(learned).numpy()
    np.testing.assert_allclose(clipped[[0, 2]], [LABELS.min(), LABELS.max()], rtol=1e-6)
    # The quantiles have nothing beyond them.
    quantile = LabelUnit("quantile", values(LABELS), clip=False)(learned).numpy()
    np.testing.assert_allclose(quantile[[0, 2]], [LABELS.min(), LABELS.max()], rtol=1e-6)


def test_a_unit_is_made_again_from_its_config() -> None:
    unit = LabelUnit("quantile", values(LABELS), clip=True)
    again = LabelUnit.from_config(unit.get_config())
    learned = tf.linspace(-3.0, 3.0, 50)
    np.testing.assert_array_equal(again(learned).numpy(), unit(learned).numpy())


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def test_members_are_averaged_as_probabilities() -> None:
    logits = np.random.default_rng(1).normal(size=(6, 4, 3)).astype(np.float32) * 3
    binary = MeanOfMembers("binary")(logits[:, :, :1]).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-binary)), (1 / (1 + np.exp(-logits[:, :, :1]))).mean(1), rtol=1e-5)
    several = MeanOfMembers("multiclass")(logits).numpy()
    np.testing.assert_allclose(softmax(several), softmax(logits).mean(1), rtol=1e-5)
    np.testing.assert_allclose(MeanOfMembers("regression")(logits).numpy(), logits.mean(1), rtol=1e-5)


def test_the_mean_of_certain_members_is_finite() -> None:
    logits = tf.constant([[[500.0], [500.0]], [[-500.0], [500.0]]])
    np.testing.assert_allclose(MeanOfMembers("binary")(logits).numpy(), [[500], [0]])
    many = tf.constant([[[500.0, -500, 0], [500, -500, 0]]])
    assert np.isfinite(MeanOfMembers("multiclass")(many).numpy()).all()


@pytest.mark.parametrize(("factor", "expected"), [(1.5, 1.5), (0.7, 0.7), (1.0, 1.0)])
@pytest.mark.parametrize("classes", [1, 3])
def test_the_temperature_undoes_logits_that_are_too_large(factor: float, expected: float, classes: Any) -> None:
    random = np.random.default_rng(4)
    logits = random.normal(size=(40_000, classes)) * 2
    if classes == 1:
        labels = (random.random(len(logits)) < 1 / (1 + np.exp(-logits[:, 0]))).astype(int)
    else:
        labels = (random.random((len(logits), 1)) > softmax(logits).cumsum(1)).sum(1)
    temperature, before, after = choose_temperature(factor * logits, labels)
    assert temperature == pytest.approx(expected, rel=0.05)
    assert after <= before
    layer = Temperature()
    scaled = layer(tf.constant(logits, tf.float32))
    np.testing.assert_allclose(scaled.numpy(), logits, rtol=1e-6)
    layer.set_calibration(2.0)
    np.testing.assert_allclose(layer(tf.constant(logits, tf.float32)).numpy(), logits / 2, rtol=1e-6)


def test_a_few_rows_without_an_error_hardly_change_the_temperature() -> None:
    def perfect(rows: int) -> float:
        logits = np.tile([[3.0], [-3.0]], (rows // 2, 1))
        return choose_temperature(logits, np.tile([1, 0], rows // 2))[0]

    assert 0.9 < perfect(20) < 1
    assert perfect(20) > perfect(1_000) > perfect(100_000) == 0.5


def test_a_factor_gives_predictions_the_mean_of_the_labels() -> None:
    labels, predictions = np.array([1.0, 2, 9]), np.array([1.0, 2, 3])
    assert compute_mean_factor(labels, predictions, np.ones(3)) == 2
    assert compute_mean_factor(labels, predictions, np.array([1.0, 1, 0])) == 1
    for wrong in (-labels, 0 * labels):
        assert compute_mean_factor(wrong, predictions, np.ones(3)) == 1
        assert compute_mean_factor(labels, wrong, np.ones(3)) == 1
    unit = LabelUnit("log_z_score", values(LABELS), clip=True)
    before = unit(tf.constant([0.0, 9.0])).numpy()
    unit.set_calibration(3.0)
    np.testing.assert_allclose(unit(tf.constant([0.0, 9.0])).numpy(), [3 * before[0], LABELS.max()], rtol=1e-6)
