"""Chooses the network and its training by rows, columns and kind of label. docs/quality.md has what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Batches of few rows take more steps in one pass over the data.
_BATCHES = ((6_000, 64), (20_000, 128), (100_000, 256))
_LARGEST_BATCH = 512
# A training takes about so many steps, and reads the rows at least and at most so often.
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 3_000, 8, 50
_LEAST_BINARY_EPOCHS, _MOST_REGRESSION_EPOCHS = 4, 150
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
      training: settings of the training.
    """

    model: Mapping[str, Choice]
    training: Mapping[str, Choice]


def choose_network(
    labels: NDArray[Any], rows: int, classes: int, columns: int, *, wide: bool = False, small: bool = False
) -> Network:
    """Choose a network.

    Args:
      labels: Labels of rows that may be in the train split: class IDs, or numbers.
      rows: Number of rows of the train split.
      classes: Number of classes; 0 for numbers.
      columns: Number of features.
      wide: Whether the table has few rows for its columns.
      small: Whether it has few rows of two classes.
    """
    rows = max(rows, 1)
    model = {**_choose_shape(classes), **(_choose_scale(labels) if not classes else {})}
    if small:
        del model["number_encoding"]
        reason = "few rows: a larger network learns them by heart"
        model |= {"hidden_units": Choice([32, 16], reason), "dropout": Choice(0.2)}
    if wide:
        # They multiply the time of a step. The noise of many columns is kept out of the deep part by `choose_kind`.
        model.pop("number_encoding", None)
        model.pop("members", None)
    batch = next((size for most, size in _BATCHES if rows < most), _LARGEST_BATCH)
    epochs = _compute_epochs(rows, columns, batch, classes)
    training = {
        "epochs": Choice(epochs, "at most: early stopping keeps the best"),
        "batch_size": Choice(batch),
        "wide_optimizer": _choose_wide_optimizer(wide),
        "deep_optimizer": Choice({"name": "adam", "learning_rate": 0.002, "schedule": "cosine"}),
        "ema_momentum": Choice(0.99),
        "early_stopping": Choice({"patience": max(2, epochs // 5)}),
    }
    if small:
        # An average over a hundred steps is one over a dozen epochs.
        del training["ema_momentum"]
    if "label_scale" in model:
        training["calibration"] = Choice("mean", "a logarithm predicts too little without it")
    if classes:
        training["calibration"] = Choice("temperature", "chosen on eval; the order of the predictions stays")
        shares = np.bincount(labels, minlength=classes) / max(len(labels), 1)
        if shares.min() < 0.1 / classes:
            reason = "the classes are uneven; class_weights lifts recall and spoils the calibration"
            training["imbalance"] = Choice("none", reason)
    return Network(model, training)


def _choose_wide_optimizer(wide: bool) -> Choice:
    if not wide:
        return Choice({"name": "ftrl", "learning_rate": 0.05})
    reason = "few rows for so many columns: l1 drops the weights of noise"
    return Choice({"name": "ftrl", "learning_rate": 0.02, "l1": 0.01}, reason)


def _choose_shape(classes: int) -> dict[str, Choice]:
    shape = {
        "hidden_units": Choice([256, 256]),
        "dropout": Choice(0.1),
        "normalization": Choice({0: "none", 2: "batch"}.get(classes, "layer")),
        "number_encoding": Choice("piecewise_linear"),
    }
    if classes != 2:
        shape["members"] = Choice(8, "networks that share their layers; the prediction is their mean")
    return shape


def _choose_scale(labels: NDArray[Any]) -> dict[str, Choice]:
    median = float(np.median(labels))
    if float(labels.min()) >= 0 and float(labels.max()) > _LONG_TAIL * median:
        reason = f"the greatest label, {labels.max():g}, is far above the median, {median:g}"
        scale = {"label_scale": Choice("log_z_score", reason)}
    else:
        scale = {"squash": Choice(3)}
    return {**scale, "clip_predictions": Choice(True, "to the range of the labels")}


def _compute_epochs(rows: int, columns: int, batch: int, classes: int) -> int:
    """Return how often `train` is read at most.

    >>> _compute_epochs(2_000, 10, 64, 3), _compute_epochs(2_000, 10, 64, 0), _compute_epochs(54_000, 9, 256, 0)
    (50, 96, 14)
    >>> _compute_epochs(10_000, 2_000, 128, 2), _compute_epochs(2_000_000, 20, 512, 2)
    (4, 4)
    """
    least = _LEAST_BINARY_EPOCHS if classes == 2 else _LEAST_EPOCHS
    most = _MOST_EPOCHS if classes else _MOST_REGRESSION_EPOCHS
    affordable = max(least, _CELLS_READ // (rows * columns))
    return min(most, affordable, max(least, _STEPS * batch // rows))
