"""Normalization of the hidden layers, and the statistics that a trained network normalizes by."""

from collections.abc import Sequence
from typing import Any, assert_never

import keras
import numpy as np
import tensorflow as tf

from trainer.config import Normalization, Precision

NORMALIZATION_PREFIX = "normalization_"
# A row whose units are all alike is not blown up.
_LAYER_EPSILON = 1e-3
# Ioffe 2017 (https://arxiv.org/abs/1702.03275), section 4: the limits of the corrections r and d.
_MAX_R, _MAX_D = 3.0, 5.0


def build_normalization(kind: Normalization, number: int, precision: Precision) -> keras.layers.Layer | None:
    """Return the layer that normalizes hidden layer `number`; None for `none`."""
    # A batch is that of all replicas together, as training.batch_size is.
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    shared: dict[str, Any] = {"dtype": precision, "name": f"{NORMALIZATION_PREFIX}{number}"}
    match kind:
        case "none":
            return None
        case "batch":
            return keras.layers.BatchNormalization(synchronized=several, **shared)
        case "batch_renorm":
            limits = {"rmin": 1 / _MAX_R, "rmax": _MAX_R, "dmax": _MAX_D}
            return keras.layers.BatchNormalization(renorm=True, renorm_clipping=limits, synchronized=several, **shared)
        case "layer":
            return keras.layers.LayerNormalization(epsilon=_LAYER_EPSILON, **shared)
        case _:
            assert_never(kind)


class PopulationStatistics(keras.callbacks.Callback):
    """Sets the statistics of each batch normalization to those of the rows that the network is trained on.

    Keras serves moving averages, which keep a share of 0.99 ** steps of their initial values (60 % after 50 steps), and
    which follow weights that changed since. Wu and Johnson 2021 (https://arxiv.org/abs/2105.07576), section 3, compute
    the statistics again, with the weights as they are. This is done after each epoch, before the `eval` split is
    measured; and before the first epoch for batch renormalization, which trains with them.

    Args:
      rows: rows of the train split, (inputs, weight [batch, 1]); a weight is how often the training has the row.
    """

    def __init__(self, rows: tf.data.Dataset) -> None:
        super().__init__()
        self._rows = rows

    def set_model(self, model: keras.Model) -> None:
        """Find the layers, and the parts of the network from one to the next."""
        super().set_model(model)
        self._layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        starts = [model.input, *(layer.input for layer in self._layers)]
        parts = [keras.Model(start, layer.input) for start, layer in zip(starts, self._layers, strict=False)]
        # The first has all columns: traced once, whatever the length of a block, and without AutoGraph, which takes
        # longer than the tracing does.
        signature = [self._rows.element_spec[0]]
        parts[:1] = [tf.function(part, autograph=False, input_signature=signature) for part in parts[:1]]
        self._parts = parts

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start from the statistics of the untrained network, if training reads them."""
        if any(layer.renorm for layer in self._layers):
            self.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Follow the weights that the epoch has changed."""
        self.update()

    def update(self) -> None:
        """Compute mean and variance of each layer's inputs over all rows; dropout is off, as in serving."""
        rows = list(self._rows) if self._layers else []
        blocks, weights = [inputs for inputs, _ in rows], [weight for _, weight in rows]
        for layer, part in zip(self._layers, self._parts, strict=True):
            # With the statistics that the layer before has got.
            blocks = [part(block) for block in blocks]
            mean, variance = _compute_moments(blocks, weights)
            values = {"moving_mean": mean, "moving_variance": variance}
            if layer.renorm:
                deviation = np.sqrt(variance + layer.epsilon)
                values |= {"renorm_mean": mean, "renorm_stddev": deviation, "moving_stddev": deviation}
            for name, value in values.items():
                getattr(layer, name).assign(value.astype(np.float32))


def _compute_moments(blocks: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance over the rows of all blocks; weights are [rows, 1].

    A block is of shape [rows, units], or [rows, members, units].
    """
    rows, mean, squares = 0.0, np.zeros(1), np.zeros(1)
    for block, weight in zip(blocks, weights, strict=True):
        weight = weight if block.shape.rank == 2 else weight[:, None]
        axes = list(range(block.shape.rank - 1))
        values = tf.nn.weighted_moments(tf.cast(block, tf.float32), axes=axes, frequency_weights=weight)
        means, variances = (value.numpy().astype(np.float64) for value in values)
        total = float(tf.reduce_sum(weight))
        # Chan et al. 1979: sums of squares would lose the digits of a small variance around a large mean.
        away, whole = means - mean, rows + total
        squares = squares + variances * total + away**2 * (rows * total / whole)
        mean, rows = mean + away * (total / whole), whole
    return mean, squares / rows
