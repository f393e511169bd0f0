"""Layers from the learned numbers to predictions: the mean of members, the unit of the label, the temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import keras
import numpy as np
import tensorflow as tf

from schemas.features import LabelKind
from schemas.moments import count_effective_rows
from trainer.config import LabelScale

# A normal distribution of so many quantiles has its outermost at 2.7 deviations.
_QUANTILES = 257
# Candidates of a temperature, 57 of equal ratio. The prior of the logarithm of a temperature has mean 0 and
# this deviation: a few hundred rows without an error would have the lowest one otherwise.
_TEMPERATURES = 2.0 ** np.linspace(-1, 1, 57)
_PRIOR_DEVIATION = 0.15


@dataclass(frozen=True)
class LabelValues:
    """Statistics of the labels of a regression in the train split; the defaults are those of classes.

    Attributes:
      mean: mean of the labels.
      std: standard deviation of the labels.
      log_mean: mean of sign(y) * log(1 + |y|).
      log_std: standard deviation of sign(y) * log(1 + |y|).
      low: least label.
      high: greatest label.
      quantiles: in ascending order, from rows drawn at random; the first is the least and the last the greatest.
    """

    mean: float = 0.0
    std: float = 1.0
    log_mean: float = 0.0
    log_std: float = 1.0
    low: float = 0.0
    high: float = 0.0
    quantiles: Sequence[float] = ()


def compute_quantiles(labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, ...]:
    """Return the quantiles of labels that `LabelUnit` interpolates between.

    Each label is in the middle of its weight, and quantiles are interpolated, as NumPy does for equal weights.

    Args:
      labels: numbers, [rows].
      weights: weights of the rows, [rows]; if omitted, all weigh 1.
    """
    weight = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    order = np.argsort(labels, kind="stable")
    order = order[weight[order] > 0]
    weight = weight[order]
    middles = np.cumsum(weight) - weight / 2
    shares = (middles - middles[0]) / max(middles[-1] - middles[0], np.finfo(np.float64).tiny)
    return tuple(np.interp(np.linspace(0, 1, _QUANTILES), shares, labels[order].astype(np.float64)).tolist())


@keras.saving.register_keras_serializable("trainer")
class LabelUnit(keras.layers.Layer):
    """Numbers in which a regression learns, of mean 0 and deviation 1, in the unit of the label."""

    def __init__(self, scale: LabelScale, values: LabelValues | dict[str, Any], clip: bool, **kwargs: Any) -> None:
        """Args:
        scale: function that turns labels into the numbers that are learned.
        values: the labels of the train split.
        clip: whether predictions are kept between the least and the greatest of them.
        **kwargs: Keras's arguments.
        """
        super().__init__(**kwargs)
        self.scale = scale
        self.values = values if isinstance(values, LabelValues) else LabelValues(**values)
        self.clip = clip
        labels = np.unique(self.values.quantiles)
        # A label that repeats has the middle of its ranks.
        ranks = (
            np.searchsorted(self.values.quantiles, labels, "left")
            + np.searchsorted(self.values.quantiles, labels, "right")
            - 1
        )
        shares = np.clip(ranks / 2 / max(_QUANTILES - 1, 1), 1 / (2 * _QUANTILES), 1 - 1 / (2 * _QUANTILES))
        normal = np.sqrt(2) * tf.math.erfinv(2 * shares - 1).numpy() if len(shares) else shares
        self._knots = normal.astype(np.float32), labels.astype(np.float32)

    def build(self, input_shape: Any) -> None:
        self.factor = self.add_weight(shape=(), initializer="ones", trainable=False, name="factor")

    def call(self, learned: tf.Tensor) -> tf.Tensor:
        """Return predictions in the unit of the label, of the same shape."""
        values = self.values
        match self.scale:
            case "z_score":
                predicted = learned * values.std + values.mean
            case "log_z_score":
                logs = learned * values.log_std + values.log_mean
                # Beyond it, a float32 is infinite.
                predicted = tf.sign(logs) * tf.math.expm1(tf.minimum(tf.abs(logs), 88.0))
            case "quantile":
                predicted = _interpolate(learned, *self._knots)
            case _:
                assert_never(self.scale)
        predicted *= self.factor
        return tf.clip_by_value(predicted, values.low, values.high) if self.clip else predicted

    def encode(self, labels: tf.Tensor) -> tf.Tensor:
        """Return labels as the numbers that are learned, of the same shape."""
        values = self.values
        match self.scale:
            case "z_score":
                return (labels - values.mean) / values.std
            case "log_z_score":
                return (tf.sign(labels) * tf.math.log1p(tf.abs(labels)) - values.log_mean) / values.log_std
            case "quantile":
                return _interpolate(labels, *reversed(self._knots))
            case _:
                assert_never(self.scale)

    def set_calibration(self, value: float) -> None:
        """Set the factor of the predictions."""
        self.factor.assign(value)

    def get_config(self) -> dict[str, Any]:
        own = {"scale": self.scale, "values": vars(self.values), "clip": self.clip}
        return {**super().get_config(), **own}


def _interpolate(values: tf.Tensor, at: np.ndarray, to: np.ndarray) -> tf.Tensor:
    """Return the piecewise-linear function through the points (`at`, `to`), constant beyond them."""
    flat = tf.reshape(values, [-1])
    after = tf.clip_by_value(tf.searchsorted(tf.constant(at), flat), 1, max(len(at) - 1, 1))
    x, y = tf.constant(np.resize(at, max(len(at), 2))), tf.constant(np.resize(to, max(len(to), 2)))
    low, high = tf.gather(x, after - 1), tf.gather(x, after)
    share = tf.clip_by_value(tf.math.divide_no_nan(flat - low, high - low), 0.0, 1.0)
    between = tf.gather(y, after - 1) * (1 - share) + tf.gather(y, after) * share
    return tf.reshape(between, tf.shape(values))


@keras.saving.register_keras_serializable("trainer")
class MeanOfMembers(keras.layers.Layer):
    """Mean of the members' predictions: [batch, members, outputs] gives [batch, outputs].

    Of classes it is the mean of probabilities, as a logit (of two classes) or as logarithms (of several).
    """

    def __init__(self, label: LabelKind, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label = label

    def call(self, outputs: tf.Tensor) -> tf.Tensor:
        """Return the mean; nothing underflows."""
        match self.label:
            case "binary":
                log_odds = [tf.reduce_logsumexp(tf.math.log_sigmoid(sign * outputs), axis=1) for sign in (1.0, -1.0)]
                return log_odds[0] - log_odds[1]
            case "multiclass":
                members = tf.cast(tf.shape(outputs)[1], outputs.dtype)
                return tf.reduce_logsumexp(tf.nn.log_softmax(outputs), axis=1) - tf.math.log(members)
            case "regression":
                return tf.reduce_mean(outputs, axis=1)
            case _:
                assert_never(self.label)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label": self.label}


@keras.saving.register_keras_serializable("trainer")
class Temperature(keras.layers.Layer):
    """Logits divided by one number that is not trained (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Above 1 it makes predictions less certain; the order of the rows and the likeliest class stay.
    """

    def build(self, input_shape: Any) -> None:
        self.inverse = self.add_weight(shape=(), initializer="ones", trainable=False, name="inverse")

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        """Scale logits of any shape."""
        return logits * self.inverse

    def set_calibration(self, value: float) -> None:
        """Set the temperature."""
        self.inverse.assign(1 / value)


def compute_mean_factor(labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    """Return the factor that gives predictions the mean of the labels; 1 if a label is negative or all are 0.

    Args:
      labels: numbers, [rows].
      predictions: numbers, [rows].
      weights: weights of the rows, [rows].
    """
    label, predicted = (
        float(np.average(values.astype(np.float64), weights=weights)) for values in (labels, predictions)
    )
    return label / predicted if labels.min() >= 0 and label > 0 and predicted > 0 else 1.0


def choose_temperature(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Choose the likeliest temperature: the rows' log loss and a prior that is near 1 decide (maximum a posteriori).

    Args:
      logits: float of shape [rows, 1] for two classes, else [rows, classes].
      labels: IDs of the true classes, [rows].
      weights: weights of the rows, [rows]; if omitted, all weigh 1.

    Returns:
      The temperature, and the mean log loss with 1 and with it.
    """
    weight = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    losses = {
        float(t): float(np.average(_compute_log_losses(logits / t, labels), weights=weight))
        for t in (1.0, *_TEMPERATURES)
    }
    rows = count_effective_rows(weight)
    best = min(losses, key=lambda t: rows * losses[t] + (np.log(t) / _PRIOR_DEVIATION) ** 2 / 2)
    return best, losses[1.0], losses[best]


def _compute_log_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        return np.logaddexp(0, np.where(labels == 1, -logits[:, 0], logits[:, 0]))
    likely: np.ndarray = logits[np.arange(len(labels)), labels]
    losses: np.ndarray = np.logaddexp.reduce(logits, axis=1) - likely
    return losses
