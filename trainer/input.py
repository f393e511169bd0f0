"""The tf.data input: transformed tf.Example shards in, shuffled batches of named tensors out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

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


def label_counts(rows: tf.data.Dataset) -> tuple[int, int]:
    """How many rows are (negative, positive)."""
    labels = rows.map(lambda ids, numbers, label: label).batch(_PARSED_TOGETHER)
    positive = total = 0
    for batch in labels.as_numpy_iterator():
        positive += int(batch.sum())
        total += len(batch)
    return total - positive, positive


def training_batches(source: Source, training: Training, *, seed: int) -> tuple[tf.data.Dataset, int]:
    """Batches of the train split, shuffled anew in each epoch, and how many make an epoch.

    Returns:
      A dataset that repeats for ever of (inputs, label [batch, 1], weight [batch, 1]), and the batches an epoch.

    Raises:
      DataError: the rows are all of one class.
    """
    rows = source.rows().cache()
    negative, positive = label_counts(rows)
    if not negative or not positive:
        raise DataError(
            f"the train split holds {negative} negative and {positive} positive rows; both are needed. Check "
            "label.positive and label.negative, or add rows"
        )
    total = negative + positive
    weights = [1.0, 1.0]
    if training.imbalance == "class_weights":
        weights = [total / (2 * negative), total / (2 * positive)]
    if training.imbalance == "oversample":
        shuffled = _balanced(rows, seed=seed)
    else:
        shuffled = rows.shuffle(min(total, _SHUFFLED_ROWS), seed=seed).repeat()

    def named(ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        weight = tf.gather(tf.constant(weights), label)
        return source.unpack(ids, numbers), label[:, None], weight[:, None]

    batches = shuffled.batch(training.batch_size).map(named, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE), -(-total // training.batch_size)


def _balanced(rows: tf.data.Dataset, *, seed: int) -> tf.data.Dataset:
    """An endless stream in which both classes are equally frequent; the rarer one's rows repeat."""
    classes = [rows.filter(lambda ids, numbers, label, c=c: label == c).cache() for c in (0, 1)]
    endless = [c.shuffle(_SHUFFLED_ROWS, seed=seed).repeat() for c in classes]
    return tf.data.Dataset.sample_from_datasets(endless, [0.5, 0.5], seed=seed)


def evaluation_batches(source: Source, *, batch_size: int = 4096) -> tf.data.Dataset:
    """All rows of a split once, in order, as (inputs, label [batch, 1])."""

    def named(ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor) -> tuple[Any, tf.Tensor]:
        return source.unpack(ids, numbers), label[:, None]

    return source.rows().batch(batch_size).map(named).cache().prefetch(1)
