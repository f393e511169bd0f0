"""Options of a config for the device that the network is trained on."""

from typing import Any

import tensorflow as tf

from trainer.config import Precision, Training


def adapt_to_device(training: Training) -> tuple[Training, Precision]:
    """Return the training for this machine and the precision of its hidden layers; `gpu` applies if it has a GPU."""
    if training.gpu is None or not tf.config.list_physical_devices("GPU"):
        return training, "float32"
    gpu, factor = training.gpu, training.gpu.learning_rate_factor
    values: dict[str, Any] = {
        name: optimizer.model_copy(update={"learning_rate": optimizer.learning_rate * factor})
        for name, optimizer in (
            ("wide_optimizer", training.wide_optimizer),
            ("deep_optimizer", training.deep_optimizer),
        )
    }
    values["batch_size"] = gpu.batch_size or training.batch_size
    return training.model_copy(update=values), gpu.precision
