"""Numerical health of a training: the first step whose loss or gradients are not finite, and the batch it had."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cli.counts import format_count
from cli.errors import DataError, PipelineError
from schemas.features import FeatureSet
from serving.model.network_inputs import NUMBERS, compute_places
from trainer.config import Training

# Inputs by name, labels [batch, 1] and weights [batch, 1].
Batch = tuple[Mapping[str, Any], Any, Any]
# Weights whose gradients a message names.
_MAX_NAMED_WEIGHTS = 2


class DivergenceError(PipelineError):
    """The training diverged: a loss, a gradient or predictions are not finite, though the data is."""


@dataclass(frozen=True)
class NonFiniteStep:
    """The first step that is not finite.

    Attributes:
      step: Number of the step, from 1.
      is_loss: Whether the loss is not finite.
      weights: Paths of the weights whose gradients are not finite.
    """

    step: int
    is_loss: bool
    weights: Sequence[str]

    @property
    def text(self) -> str:
        """The values that are not finite, in words."""
        if self.is_loss:
            return "the loss is not finite"
        if not self.weights:
            return "the sum of all gradients is not finite"
        names = ", ".join(f"'{path}'" for path in self.weights[:_MAX_NAMED_WEIGHTS])
        surplus = len(self.weights) - _MAX_NAMED_WEIGHTS
        return f"the gradient of {names}{f' and {surplus} more' if surplus > 0 else ''} is not finite"


class StepHealth:
    """Counts steps on the device until the first one that is not finite.

    The weights after that step are of no use, and several steps may be taken in one call of TensorFlow's. The count
    and the sums therefore stay as that step left them. A sum is not finite if one of its terms is not, and costs a
    small part of what a flag for each term would.

    Args:
      weights: Trained weights, in the order of their gradients.
    """

    def __init__(self, weights: Sequence[Any]) -> None:
        self._paths = [weight.path for weight in weights]
        # The number of steps, the loss, and the sum of each gradient.
        self._state = tf.Variable(
            tf.zeros([2 + len(weights)]),
            trainable=False,
            # All replicas have the same values.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="health",
        )

    def add_step(self, loss: tf.Tensor, gradients: Sequence[tf.Tensor | tf.IndexedSlices]) -> None:
        """Add a step, within TensorFlow's function of it.

        Args:
          loss: Loss of the batch.
          gradients: Gradients of the weights, before any is clipped.
        """
        # The values of sliced gradients are as few as the batch has rows; a whole table would be read in vain.
        values = [gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient for gradient in gradients]
        sums = tf.stack([loss, *map(tf.reduce_sum, values)])
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        state = tf.convert_to_tensor(self._state)
        is_over = ~tf.math.is_finite(tf.reduce_sum(state))
        self._state.assign(tf.where(is_over, state, tf.concat([state[:1] + 1, sums], axis=0)))

    def find_non_finite(self) -> NonFiniteStep | None:
        """Return the first step that is not finite; None if all are."""
        step, *sums = self._state.numpy().tolist()
        # As the device decides, where the sum of finite numbers may be infinite.
        if np.isfinite(np.sum(sums, dtype=np.float32)):
            return None
        paths = [path for path, value in zip(self._paths, sums[1:], strict=True) if not np.isfinite(value)]
        return NonFiniteStep(int(step), not np.isfinite(sums[0]), paths)


class StopAtNonFinite(keras.callbacks.Callback):
    """Ends a training at its first step that is not finite.

    Args:
      health: Health of the steps, which the training step adds to.
      features: Declaration of the inputs.
      training: Options, which the message names.
      steps_per_epoch: Number of steps of an epoch.
      read_batch: Function from the number of a step, from 0, to its batch.
      wide_prefix: Start of the paths of the weights that `training.wide_optimizer` trains.
    """

    def __init__(
        self,
        health: StepHealth,
        features: FeatureSet,
        training: Training,
        steps_per_epoch: int,
        read_batch: Callable[[int], Batch],
        wide_prefix: str,
    ) -> None:
        super().__init__()
        self._health = health
        self._features = features
        self._training = training
        self._steps_per_epoch = steps_per_epoch
        self._read_batch = read_batch
        self._wide_prefix = wide_prefix

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Check the steps that were taken.

        Raises:
          DataError: The batch has a value that is not finite.
          DivergenceError: A loss or a gradient is not finite, though the batch is.
        """
        problem = self._health.find_non_finite()
        if problem is None:
            return
        epoch, number = divmod(problem.step - 1, self._steps_per_epoch)
        place = (
            f"training stopped at step {problem.step:,} (batch {number + 1:,} of {self._steps_per_epoch:,} of epoch "
            f"{epoch + 1}): {problem.text}"
        )
        values = self._read_batch(problem.step - 1)
        cause = describe_non_finite(self._features, values)
        if cause is not None:
            raise DataError(f"{place}: {cause}")
        largest = _describe_largest(self._features, values)
        raise DivergenceError(f"{place}, though the values of the batch are{largest}; {self._name_remedy(problem)}")

    def _name_remedy(self, problem: NonFiniteStep) -> str:
        is_wide = bool(problem.weights) and all(path.startswith(self._wide_prefix) for path in problem.weights)
        return name_remedy(self._training, "wide_optimizer" if is_wide else "deep_optimizer")


def name_remedy(training: Training, optimizer: str = "deep_optimizer") -> str:
    """Return the remedy for a training that diverges, with the key of the optimizer and its rate."""
    rate = getattr(training, optimizer).learning_rate
    return f"lower training.{optimizer}.learning_rate (now {rate:g}), or set training.{optimizer}.clip_norm"


def describe_non_finite(features: FeatureSet, batch: Batch) -> str | None:
    """Return the first column of a batch that has a value that is not finite, with the remedy; None if none has."""
    for column, values in _split_columns(features, batch):
        is_bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if is_bad.any():
            value = values[is_bad].ravel()[~np.isfinite(values[is_bad].ravel())][0]
            return (
                f"{column} is {value} in {int(is_bad.sum()):,} of {format_count(len(values), 'row')}; correct the "
                "data, or the preprocessing_fn that makes the column"
            )
    return None


def _describe_largest(features: FeatureSet, batch: Batch) -> str:
    """Return the number column with the largest absolute value, for a message; empty without such a column."""
    columns = [(column, values) for column, values in _split_columns(features, batch) if column.startswith("feature")]
    if not columns:
        return ""
    column, values = max(columns, key=lambda pair: float(np.abs(pair[1]).max()))
    if any(feature.sensitive for feature in features.features.values()):
        # A derived column may be computed from the sensitive one.
        return f" (largest: {column})"
    return f" (largest: {column}, {values.ravel()[np.abs(values).argmax()]:.4g})"


def _split_columns(features: FeatureSet, batch: Batch) -> list[tuple[str, np.ndarray]]:
    """Return the numbers of a batch by the column's name in messages: features, the label, the weight."""
    inputs, label, weight = batch
    numbers = np.asarray(inputs[NUMBERS])
    columns = [
        (f"feature '{name}'", numbers[:, place.start : place.stop])
        for name, place in compute_places(features.number_columns).items()
    ]
    return [*columns, (f"label '{features.label.column}'", np.asarray(label)), ("the weight", np.asarray(weight))]
