"""The tf.data input: transformed tf.Example shards in, shuffled batches of named tensors out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from schemas.errors import DataError
from schemas.features import FeatureSet
from trainer.config import Training

# Rows parsed by one operation: parsing rows one by one takes ten times as long.
_PARSED_TOGETHER = 1024
# Rows shuffled among each other. Larger data is shuffled within a window of this size, and by file.
_SHUFFLED_ROWS = 100_000


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

    def rows(self) -> tf.data.Dataset:
        """All rows once, each as (ids of shape [n], numbers of shape [m], label); shards are interleaved."""
        files = tf.data.Dataset.from_tensor_slices(sorted(self.files))
        records = files.interleave(
            lambda file: tf.data.TFRecordDataset(file, compression_type="GZIP", buffer_size=1 << 20),
            cycle_length=4,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        parsed = records.batch(_PARSED_TOGETHER).map(self._parse, num_parallel_calls=tf.data.AUTOTUNE)
        return parsed.unbatch()

    def _parse(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Packs the columns into two matrices: three tensors a row shuffle many times as fast as dozens."""
        columns = tf.io.parse_example(records, dict(self.feature_spec))
        batch = tf.shape(records)[0]
        ids = [columns[c.name] for c in self.features.id_columns]
        numbers = [columns[c.name] for c in self.features.number_columns]
        return (
            tf.stack(ids, axis=1) if ids else tf.zeros([batch, 0], tf.int64),
            tf.stack(numbers, axis=1) if numbers else tf.zeros([batch, 0], tf.float32),
            columns[self.features.label.name],
        )

    def unpack(self, ids: tf.Tensor, numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        """The packed matrices as the model's named inputs, [batch, 1] each."""
        named = {c.name: ids[:, i : i + 1] for i, c in enumerate(self.features.id_columns)}
        return named | {c.name: numbers[:, i : i + 1] for i, c in enumerate(self.features.number_columns)}


def split_source(patterns: Sequence[str], features: FeatureSet, transform_output: tft.TFTransformOutput) -> Source:
    """The source of a split from the file patterns that TFX gives."""
    files = [file for pattern in patterns for file in tf.io.gfile.glob(pattern)]
    return Source(files, features, transform_output.transformed_feature_spec())


@dataclass(frozen=True)
class TrainingRows:
    """The train split, ready to be fitted to.

    Attributes:
      batches: repeats for ever, shuffled anew in each epoch: (inputs, label [batch, 1], weight [batch, 1]).
      steps_per_epoch: how many batches make an epoch.
      label_mean: of a regression's labels; 0 for classes.
      label_std: their standard deviation; 1 for classes.
    """

    batches: tf.data.Dataset
    steps_per_epoch: int
    label_mean: float = 0.0
    label_std: float = 1.0


def training_rows(source: Source, training: Training, *, seed: int) -> TrainingRows:
    """Reads the train split once and prepares its batches.

    Raises:
      DataError: a class has no row, or all labels of a regression are the same.
    """
    rows = source.rows().cache()
    labels = np.concatenate(
        list(rows.map(lambda ids, numbers, label: label).batch(_PARSED_TOGETHER).as_numpy_iterator())
    )
    total = len(labels)
    classes = source.features.label.classes
    mean, std = (0.0, 1.0) if classes else (float(labels.mean(dtype=np.float64)), float(labels.std(dtype=np.float64)))
    if not std:
        raise DataError(f"all labels of the train split are {mean:g}; there is nothing to learn")
    counts = np.bincount(labels, minlength=len(classes)) if classes else np.array([total])
    if not counts.all():
        found = ", ".join(f"{count} rows of '{value}'" for value, count in zip(classes, counts, strict=True))
        raise DataError(f"the train split holds {found}; every class is needed. Check the label, or add rows")
    # The squared error of a regression is measured in its own variances: the learning rate then fits any unit.
    weights = np.ones(len(counts)) if classes else np.array([std**-2])
    if training.imbalance == "class_weights":
        weights = total / (len(counts) * counts)
    if training.imbalance == "oversample":
        shuffled = _balanced(rows, len(classes), seed=seed)
    else:
        shuffled = rows.shuffle(min(total, _SHUFFLED_ROWS), seed=seed).repeat()

    def named(ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        weight = tf.gather(tf.constant(weights, tf.float32), label if classes else tf.zeros_like(label, tf.int64))
        return source.unpack(ids, numbers), label[:, None], weight[:, None]

    batches = shuffled.batch(training.batch_size).map(named, num_parallel_calls=tf.data.AUTOTUNE)
    return TrainingRows(batches.prefetch(tf.data.AUTOTUNE), -(-total // training.batch_size), mean, std)


def _balanced(rows: tf.data.Dataset, classes: int, *, seed: int) -> tf.data.Dataset:
    """An endless stream in which all classes are equally frequent; the rarer ones' rows repeat."""
    by_class = [rows.filter(lambda ids, numbers, label, c=c: label == c).cache() for c in range(classes)]
    endless = [c.shuffle(_SHUFFLED_ROWS, seed=seed).repeat() for c in by_class]
    return tf.data.Dataset.sample_from_datasets(endless, [1 / classes] * classes, seed=seed)


def evaluation_batches(source: Source, *, batch_size: int = 4096) -> tf.data.Dataset:
    """All rows of a split once, in order, as (inputs, label [batch, 1])."""

    def named(ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor) -> tuple[Any, tf.Tensor]:
        return source.unpack(ids, numbers), label[:, None]

    return source.rows().batch(batch_size).map(named).cache().prefetch(1)
