"""One network on several devices or machines: tf.distribute's strategies, and which of them writes the model.

https://www.tensorflow.org/guide/distributed_training
"""

import json
import os
import tempfile
import time
from typing import Any

import tensorflow as tf

from cli.errors import ConfigError
from trainer.config import Training


def build_strategy(training: Training) -> Any:
    """Return the strategy of a config; for multi_worker, every process that TF_CONFIG names has to call it.

    Raises:
      ConfigError: the distribution is multi_worker, and no TF_CONFIG names the machines.
    """
    match training.distribution:
        case "none":
            return tf.distribute.get_strategy()
        case "mirrored":
            return tf.distribute.MirroredStrategy()
        case "multi_worker":
            if not _read_cluster():
                raise ConfigError(
                    "training.distribution: multi_worker needs several machines; set vertex.machines.Trainer.replicas "
                    "and run on Vertex, or set TF_CONFIG"
                )
            return tf.distribute.MultiWorkerMirroredStrategy()


def _read_cluster() -> dict[str, Any]:
    cluster: dict[str, Any] = json.loads(os.environ.get("TF_CONFIG") or "{}")
    return cluster


def is_chief() -> bool:
    """Return whether this process writes logs and the model.

    It does if it is alone, the chief, or the first worker where there is no chief.
    """
    task, cluster = _read_cluster().get("task", {}), _read_cluster().get("cluster", {})
    kind = task.get("type")
    return kind in (None, "chief") or (kind == "worker" and task.get("index") == 0 and "chief" not in cluster)


def choose_write_folder(folder: str) -> str:
    """Return the folder that this process writes to: `folder`, or a temporary one.

    All processes have to write, since saving is a joint operation.
    """
    return folder if is_chief() else tempfile.mkdtemp(prefix="not-chief-")


def wait_for_model(folder: str) -> None:
    """Wait until the chief has written its model, which TFX reads at the end of every process."""
    while not is_chief() and not tf.io.gfile.exists(os.path.join(folder, "saved_model.pb")):
        time.sleep(1)


def shard_rows(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return batches that a strategy divides by rows, since the files are too few to be divided."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
