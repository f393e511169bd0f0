"""Optimizers and learning-rate schedules, as declared in the config."""

from typing import Any, assert_never

import keras
import tensorflow as tf

from trainer.config import Optimizer, ScheduleName

# Factor of the learning rate at the end of an exponential schedule.
EXPONENTIAL_END = 0.01


@keras.saving.register_keras_serializable("trainer")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly over the warm-up, then follows its shape to the last step."""

    def __init__(self, peak: float, shape: ScheduleName, steps: int, warmup_steps: int) -> None:
        self.peak = peak
        self.shape = shape
        self.steps = steps
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate at a step, a float32 scalar."""
        done = tf.cast(step, tf.float32)
        after_warmup = (done - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        rising = (done + 1) / max(self.warmup_steps, 1)
        factor = self._compute_factor(tf.clip_by_value(after_warmup, 0.0, 1.0))
        return self.peak * tf.where(done < self.warmup_steps, rising, factor)

    def _compute_factor(self, progress: tf.Tensor) -> tf.Tensor:
        match self.shape:
            case "constant":
                return tf.ones_like(progress)
            case "cosine":
                return 0.5 * (1 + tf.cos(3.14159265 * progress))
            case "exponential":
                return tf.pow(EXPONENTIAL_END, progress)
            case _:
                assert_never(self.shape)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "shape": self.shape, "steps": self.steps, "warmup_steps": self.warmup_steps}


def build_optimizer(optimizer: Optimizer, *, steps: int) -> keras.optimizers.Optimizer:
    """Return a Keras optimizer whose learning rate spans `steps` training steps."""
    warmup_steps = round(optimizer.warmup_fraction * steps)
    # A schedule for a constant rate would only hide the rate from TensorBoard.
    constant = optimizer.schedule == "constant" and not warmup_steps
    rate = (
        optimizer.learning_rate
        if constant
        else Schedule(optimizer.learning_rate, optimizer.schedule, steps, warmup_steps)
    )
    shared = {"learning_rate": rate, "global_clipnorm": optimizer.clip_norm, "clipvalue": optimizer.clip_value}
    match optimizer.name:
        case "sgd":
            return keras.optimizers.SGD(**shared)
        case "momentum":
            return keras.optimizers.SGD(momentum=optimizer.momentum, **shared)
        case "adam":
            return keras.optimizers.Adam(**shared)
        case "adamw":
            return keras.optimizers.AdamW(weight_decay=optimizer.weight_decay, **shared)
        case "adagrad":
            return keras.optimizers.Adagrad(**shared)
        case "adadelta":
            return keras.optimizers.Adadelta(**shared)
        case "ftrl":
            return keras.optimizers.Ftrl(
                l1_regularization_strength=optimizer.l1, l2_regularization_strength=optimizer.l2, **shared
            )
        case _:
            assert_never(optimizer.name)
