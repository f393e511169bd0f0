"""The tf.data input: transformed tf.Example shards in, shuffled batches of named tensors out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schemas.errors import DataError
from schemas.features import FeatureSet
from trainer.config import Training

# Rows that go through the input together: of one row at a time, tf.data costs more than the network does.
_BLOCK_ROWS = 4096
# Rows shuffled among each other. Larger data is shuffled within such a window, made anew of other blocks each time.
_WINDOW_BLOCKS = 32
_WINDOW_ROWS = _WINDOW_BLOCKS * _BLOCK_ROWS
# Steps that TensorFlow takes without asking Python between them, in epochs that are long enough not to notice that they
# are rounded up to a multiple.
_STEPS_TOGETHER = 8
_LONG_EPOCH_STEPS = 20 * _STEPS_TOGETHER


@dataclass(frozen=True)
class Source:
    """A split's transformed records, and how to read them.

    Attributes:
      files: TFRecord shards, gzipped.
      features: the declaration; its columns are what is read.
      feature_spec: how tf.Example is parsed, from Transform's output.
    """

    files: Sequence[str]
    features: FeatureSet
    feature_spec: Mapping[str, Any]

    def blocks(self) -> tf.data.Dataset:
        """All rows once, in blocks: (ids [rows, n], numbers [rows, m], labels [rows]); shards are interleaved."""
        files = tf.data.Dataset.from_tensor_slices(sorted(self.files))
        records = files.interleave(
            lambda file: tf.data.TFRecordDataset(file, compression_type="GZIP", buffer_size=1 << 20),
            cycle_length=4,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return records.batch(_BLOCK_ROWS).map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)

    def _parse(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Packs the columns into two matrices: three tensors shuffle many times as fast as dozens."""
        columns = tf.io.parse_example(records, dict(self.feature_spec))
        rows = tf.shape(records)[0]
        # Ids are below 2^31 (schemas/features.py), and half as large.
        ids = [tf.cast(columns[c.name], tf.int32) for c in self.features.id_columns]
        numbers = [columns[c.name] for c in self.features.number_columns]
        return (
            tf.stack(ids, axis=1) if ids else tf.zeros([rows, 0], tf.int32),
            tf.stack(numbers, axis=1) if numbers else tf.zeros([rows, 0], tf.float32),
            columns[self.features.label.name],
        )

    def unpack(self, ids: tf.Tensor, numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        """The packed matrices as the model's named inputs, [batch, 1] each."""
        ids = tf.cast(ids, tf.int64)
        named = {c.name: ids[:, i : i + 1] for i, c in enumerate(self.features.id_columns)}
        return named | {c.name: numbers[:, i : i + 1] for i, c in enumerate(self.features.number_columns)}


def split_source(patterns: Sequence[str], features: FeatureSet, transform_output: tft.TFTransformOutput) -> Source:
    """The source of a split from the file patterns that TFX gives."""
    # TFX gives FOLDER/*, where the folder's own name may hold what would be a pattern.
    folders = [os.path.dirname(pattern) for pattern in patterns]
    files = [os.path.join(folder, name) for folder in folders for name in sorted(tf.io.gfile.listdir(folder))]
    return Source(files, features, transform_output.transformed_feature_spec())


@dataclass(frozen=True)
class TrainingRows:
    """The train split, ready to be fitted to.

    Attributes:
      batches: repeats for ever, shuffled anew in each epoch: (inputs, label [batch, 1], weight [batch, 1]).
      steps_per_epoch: how many batches make an epoch.
      steps_together: how many of them are one call; `steps_per_epoch` is a multiple of it.
      label_mean: of a regression's labels; 0 for classes.
      label_std: their standard deviation; 1 for classes.
    """

    batches: tf.data.Dataset
    steps_per_epoch: int
    steps_together: int = 1
    label_mean: float = 0.0
    label_std: float = 1.0


class _Labels:
    """What is known of labels that are seen block by block: the rows of each class, or mean and standard deviation."""

    def __init__(self, classes: int) -> None:
        self.total = 0
        self.counts = np.zeros(max(classes, 1), np.int64)
        self.mean, self._squares = 0.0, 0.0
        self._classes = classes

    def add(self, labels: np.ndarray) -> None:
        """Counts a block; the variance is updated as Chan et al. 1979 do, which loses no digits."""
        if self._classes:
            self.counts += np.bincount(labels, minlength=self._classes)
        else:
            values = labels.astype(np.float64)
            away = float(values.mean()) - self.mean
            whole = self.total + len(values)
            self.mean += away * len(values) / whole
            self._squares += float(values.var()) * len(values) + away**2 * self.total * len(values) / whole
            self.counts += len(values)
        self.total += len(labels)

    @property
    def std(self) -> float:
        """The standard deviation of a regression's labels; 1 for classes."""
        return 1.0 if self._classes else (self._squares / self.total) ** 0.5


def training_rows(source: Source, training: Training, *, seed: int, cache_folder: str) -> TrainingRows:
    """Reads the train split once and prepares its batches.

    Args:
      source: of the train split.
      training: batch size, and how classes are balanced.
      seed: of the shuffling.
      cache_folder: gets the parsed rows, which every epoch reads: in memory they would grow with the data.

    Raises:
      DataError: a class has no row, or all labels of a regression are the same.
    """
    blocks = source.blocks().cache(os.path.join(cache_folder, "train"))
    classes = source.features.label.classes
    labels = _Labels(len(classes))
    for _, _, some in blocks.as_numpy_iterator():
        labels.add(some)
    total, counts, mean, std = labels.total, labels.counts, labels.mean, labels.std
    if not std:
        raise DataError(f"all labels of the train split are {mean:g}; there is nothing to learn")
    if not counts.all():
        found = ", ".join(f"{count} rows of '{value}'" for value, count in zip(classes, counts, strict=True))
        raise DataError(f"the train split holds {found}; every class is needed. Check the label, or add rows")
    # The squared error of a regression is measured in its own variances: the learning rate then fits any unit.
    weights = np.ones(len(counts)) if classes else np.array([std**-2])
    if training.imbalance == "class_weights":
        weights = total / (len(counts) * counts)
    if training.imbalance == "oversample":
        shuffled = _balanced(blocks, len(classes), seed=seed)
    else:
        shuffled = _shuffled(blocks, seed=seed)

    def named(ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        weight = tf.gather(tf.constant(weights, tf.float32), label if classes else tf.zeros_like(label, tf.int64))
        return source.unpack(ids, numbers), label[:, None], weight[:, None]

    batches = shuffled.rebatch(training.batch_size).map(named, num_parallel_calls=tf.data.AUTOTUNE)
    steps = -(-total // training.batch_size)
    together = _STEPS_TOGETHER if steps >= _LONG_EPOCH_STEPS else 1
    steps = -(-steps // together) * together
    return TrainingRows(batches.prefetch(tf.data.AUTOTUNE), steps, together, mean, std)


def _shuffled(blocks: tf.data.Dataset, *, seed: int) -> tf.data.Dataset:
    """An endless stream of windows of rows, each in a random order; blocks come in another order each time."""
    windows = blocks.shuffle(2 * _WINDOW_BLOCKS, seed=seed).rebatch(_WINDOW_ROWS).repeat()

    def mixed(number: tf.Tensor, window: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        rows = tf.range(tf.shape(window[0])[0])
        places = tf.random.experimental.stateless_shuffle(rows, seed=[seed, number])
        return tuple(tf.gather(part, places) for part in window)

    return windows.enumerate().map(mixed)


def _balanced(blocks: tf.data.Dataset, classes: int, *, seed: int) -> tf.data.Dataset:
    """An endless stream in which all classes are equally frequent; the rarer ones' rows repeat."""

    def of_class(number: int) -> tf.data.Dataset:
        return _shuffled(
            blocks.map(lambda *block: tuple(tf.boolean_mask(part, block[2] == number) for part in block)), seed=seed
        )

    endless = [of_class(number).unbatch() for number in range(classes)]
    return tf.data.Dataset.sample_from_datasets(endless, [1 / classes] * classes, seed=seed).batch(_BLOCK_ROWS)


def evaluation_batches(source: Source, *, cache_folder: str) -> tf.data.Dataset:
    """All rows of a split once, in order, as (inputs, label [batch, 1]); `cache_folder` as for `training_rows`."""

    def named(ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor) -> tuple[Any, tf.Tensor]:
        return source.unpack(ids, numbers), label[:, None]

    blocks = source.blocks().cache(os.path.join(cache_folder, "evaluation"))
    for _ in blocks:
        # To the end: tf.data has a file only then.
        pass
    return blocks.map(named).prefetch(1)
