"""Chooses the network and its training by rows, columns and kind of label. docs/quality.md has what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.init.kinds import is_wide

# Batches of few rows take more steps in one pass over the data.
_BATCHES = ((6_000, 64), (20_000, 128), (100_000, 256))
_LARGEST_BATCH = 512
# A training takes about so many steps, and reads the rows at least and at most so often.
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 3_000, 8, 50
_BINARY_STEPS, _LEAST_BINARY_EPOCHS = 1_000, 4
# The time of a wide table is bounded.
_CELLS_READ = 20_000_000
# A label whose greatest value is so many times its median has a long tail.
_LONG_TAIL = 10


@dataclass(frozen=True)
class Choice:
    """A value of a key, and the reason for it.

    Attributes:
      value: the value, as YAML has it.
      reason: empty if there is nothing to add.
    """

    value: Any
    reason: str = ""


@dataclass(frozen=True)
class Network:
    """Sections of a config, by key.

    Attributes:
      model: the shape of the network.
      training: how it is trained.
    """

    model: Mapping[str, Choice]
    training: Mapping[str, Choice]


def choose_network(labels: NDArray[Any], rows: int, classes: int, columns: int) -> Network:
    """Choose a network.

    Args:
      labels: Labels of rows that may be in the train split: class IDs, or numbers.
      rows: Number of rows of the train split.
      classes: Number of classes; 0 for numbers.
      columns: Number of features.
    """
    rows = max(rows, 1)
    wide = is_wide(rows, columns)
    model = {**_shape(classes), **(_regression(labels) if not classes else {})}
    if wide:
        reason = "few rows for so many columns: the noise of each must not be learned by heart"
        model |= {"embedding_dropout": Choice(0.5, reason)}
        model.pop("members", None)
    batch = next((size for most, size in _BATCHES if rows < most), _LARGEST_BATCH)
    epochs = _epochs(rows, columns, batch, is_binary=classes == 2)
    training = {
        "epochs": Choice(epochs, "at most: early stopping keeps the best"),
        "batch_size": Choice(batch),
        "wide_optimizer": Choice(
            {"name": "ftrl", **({"learning_rate": 0.02, "l1": 0.01} if wide else {"learning_rate": 0.05})}
        ),
        "deep_optimizer": Choice({"name": "adam", "learning_rate": 0.0005 if wide else 0.002, "schedule": "cosine"}),
        "ema": Choice(0.99),
        "early_stopping": Choice({"patience": max(2, epochs // 5)}),
    }
    if classes:
        training["calibration"] = Choice("temperature", "chosen on eval; the order of the predictions stays")
        shares = np.bincount(labels, minlength=classes) / max(len(labels), 1)
        if shares.min() < 0.1 / classes:
            reason = "the classes are uneven; class_weights lifts recall and spoils the calibration"
            training["imbalance"] = Choice("none", reason)
    return Network(model, training)


def _shape(classes: int) -> dict[str, Choice]:
    if classes == 2:
        return {
            "hidden_units": Choice([128, 64]),
            "dropout": Choice(0.2),
            "normalization": Choice("layer"),
            "number_encoding": Choice("piecewise_linear"),
        }
    return {
        "hidden_units": Choice([256, 256]),
        "dropout": Choice(0.1),
        "normalization": Choice("layer" if classes else "none"),
        "number_encoding": Choice("piecewise_linear"),
        "members": Choice(8, "networks that share their layers; the prediction is their mean"),
    }


def _regression(labels: NDArray[Any]) -> dict[str, Choice]:
    median = float(np.median(labels))
    if float(labels.min()) >= 0 and float(labels.max()) > _LONG_TAIL * median:
        reason = f"the greatest label, {labels.max():g}, is far above the median, {median:g}"
        scale = {"label_scale": Choice("log_z_score", reason)}
    else:
        scale = {"squash": Choice(3)}
    return {**scale, "clip_predictions": Choice(True, "to the range of the labels")}


def _epochs(rows: int, columns: int, batch: int, *, is_binary: bool) -> int:
    """Return how often `train` is read at most.

    >>> _epochs(2_000, 10, 64, is_binary=False), _epochs(54_000, 9, 256, is_binary=False)
    (50, 14)
    >>> _epochs(10_000, 2_000, 128, is_binary=True), _epochs(2_000_000, 20, 512, is_binary=True)
    (4, 4)
    """
    steps, least = (_BINARY_STEPS, _LEAST_BINARY_EPOCHS) if is_binary else (_STEPS, _LEAST_EPOCHS)
    affordable = max(least, _CELLS_READ // (rows * columns))
    return min(_MOST_EPOCHS, affordable, max(least, steps * batch // rows))
