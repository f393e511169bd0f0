"""Normalization of the hidden layers, and the statistics that a trained network normalizes by."""

from typing import Any, assert_never

import keras
import numpy as np
import tensorflow as tf

from trainer.config import Normalization, Precision

NORMALIZATION_PREFIX = "batch_norm_"
# Ioffe 2017 (https://arxiv.org/abs/1702.03275), section 4: the limits of the corrections r and d.
_MAX_R, _MAX_D = 3.0, 5.0


def normalization_layer(kind: Normalization, number: int, precision: Precision) -> keras.layers.Layer | None:
    """Return the layer that normalizes hidden layer `number`; None for `none`."""
    # A batch is that of all replicas together, as training.batch_size is.
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    shared: dict[str, Any] = {"dtype": precision, "name": f"{NORMALIZATION_PREFIX}{number}", "synchronized": several}
    match kind:
        case "none":
            return None
        case "batch":
            return keras.layers.BatchNormalization(**shared)
        case "batch_renorm":
            limits = {"rmin": 1 / _MAX_R, "rmax": _MAX_R, "dmax": _MAX_D}
            return keras.layers.BatchNormalization(renorm=True, renorm_clipping=limits, **shared)
        case _:
            assert_never(kind)


class PopulationStatistics(keras.callbacks.Callback):
    """Sets the statistics of each batch normalization to those of the rows that the network is trained on.

    Keras serves moving averages, which keep a share of 0.99 ** steps of their initial values (60 % after 50 steps), and
    which follow weights that changed since. Wu and Johnson 2021 (https://arxiv.org/abs/2105.07576), section 3, compute
    the statistics again, with the weights as they are. This is done before the first epoch, since batch renormalization
    trains with them, and after each epoch, before the `eval` split is measured.

    Args:
      rows: rows of the train split, (inputs, weight [batch, 1]); a weight says how often the training has the row.
    """

    def __init__(self, rows: tf.data.Dataset) -> None:
        super().__init__()
        self._rows = rows
        # AutoGraph, which rewrites functions with control flow, takes longer than the tracing does; without a signature
        # the last block, which is shorter, would be traced again.
        self._block_moments = tf.function(self._weighted, autograph=False, input_signature=rows.element_spec)

    def set_model(self, model: keras.Model) -> None:
        """Find the layers, in the order in which they depend on each other."""
        super().set_model(model)
        self._layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        outputs = [layer.input for layer in self._layers]
        self._layer_inputs = keras.Model(model.input, outputs) if outputs else None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Start from the statistics of the untrained network."""
        self.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Follow the weights that the epoch has changed."""
        self.update()

    def update(self) -> None:
        """Compute mean and variance of each layer's inputs over all rows; dropout is off, as in serving."""
        for number, layer in enumerate(self._layers):
            mean, variance = self._moments(number)
            values = {"moving_mean": mean, "moving_variance": variance}
            if layer.renorm:
                deviation = np.sqrt(variance + layer.epsilon)
                values |= {"renorm_mean": mean, "renorm_stddev": deviation, "moving_stddev": deviation}
            for name, value in values.items():
                getattr(layer, name).assign(value.astype(np.float32))

    def _moments(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of a layer's inputs; those of the layers before it must be set."""
        rows, mean, squares = 0.0, np.zeros(1), np.zeros(1)
        for inputs, weight in self._rows:
            weights, means, variances = (part.numpy() for part in self._block_moments(inputs, weight)[number])
            # Chan et al. 1979: sums of squares would lose the digits of a small variance around a large mean.
            away, whole = means - mean, rows + weights
            squares = squares + variances * weights + away**2 * (rows * weights / whole)
            mean, rows = mean + away * (weights / whole), whole
        return mean, squares / rows

    def _weighted(self, inputs: Any, weight: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Return sum of weights, mean and variance of every layer's inputs over a block of rows."""
        assert self._layer_inputs is not None
        outputs = self._layer_inputs(inputs, training=False)
        weights = tf.cast(weight, tf.float64)
        moments = []
        for output in outputs if isinstance(outputs, list) else [outputs]:
            mean, variance = tf.nn.weighted_moments(tf.cast(output, tf.float64), axes=[0], frequency_weights=weights)
            moments.append((tf.reduce_sum(weights), mean, variance))
        return moments
