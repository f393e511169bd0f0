"""The tf.data input: transformed tf.Example shards in, shuffled batches of named tensors out."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from cli.errors import DataError
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, Label
from schemas.moments import Moments, merge_moments
from serving.model.network_inputs import IDS, NUMBERS, build_network_inputs
from trainer.config import Training
from trainer.outputs import LabelValues, compute_quantiles

# Rows that go through the input together: with single rows, tf.data takes longer than the network.
_BLOCK_ROWS = 4096
# Rows shuffled among each other. Larger data is shuffled within such a window, of other blocks in each epoch.
_WINDOW_BLOCKS = 32
_WINDOW_ROWS = _WINDOW_BLOCKS * _BLOCK_ROWS
# Rows whose mean is off by a percent of the deviation.
_SAMPLE_ROWS = 16_384
# Steps that TensorFlow takes in one call from Python. Only in long epochs, since the number of steps is rounded up to a
# multiple.
_STEPS_TOGETHER = 8
_LONG_EPOCH_STEPS = 20 * _STEPS_TOGETHER

# The conditions and loops of this module are of Python alone. To convert them takes a tenth of a short training.
_do_not_convert = tf.autograph.experimental.do_not_convert

# A message names at most so many classes.
_MAX_NAMED_CLASSES = 10


@dataclass(frozen=True)
class Source:
    """Transformed records of a split, and their format.

    Attributes:
      files: TFRecord shards, gzipped.
      features: declaration; its columns are read.
      feature_spec: specification by which tf.Example is parsed, from Transform's output.
    """

    files: Sequence[str]
    features: FeatureSet
    feature_spec: Mapping[str, Any]

    def read_blocks(self) -> tf.data.Dataset:
        """Return all rows once, in blocks (ids [rows, n], numbers [rows, m], labels [rows]) of interleaved shards.

        With a column of weights, a block has a fourth part: weights [rows].
        """
        files = tf.data.Dataset.from_tensor_slices(tf.constant(sorted(self.files), tf.string))
        # Batches of each file: single records cost seven times as much to hand over between threads.
        batches = files.interleave(
            _read_batches,
            cycle_length=4,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return batches.map(_do_not_convert(self._parse), num_parallel_calls=tf.data.AUTOTUNE)

    def _parse(self, records: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Pack the columns into two matrices: three tensors shuffle many times as fast as dozens."""
        columns = tf.io.parse_example(records, dict(self.feature_spec))
        inputs = build_network_inputs(self.features, columns)
        # Ids are below 2^31 (schemas/features/), and half as large.
        block = tf.cast(inputs[IDS], tf.int32), inputs[NUMBERS], columns[self.features.label.name]
        return block if self.features.weight is None else (*block, columns[TRANSFORMED_WEIGHT])

    def unpack(self, ids: tf.Tensor, numbers: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return packed matrices as the network's named inputs, as `build_network_inputs` does."""
        return {IDS: tf.cast(ids, tf.int64), NUMBERS: numbers}


@_do_not_convert
def _read_batches(file: tf.Tensor) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, compression_type="GZIP", buffer_size=1 << 20).batch(_BLOCK_ROWS)


def open_split(patterns: Sequence[str], features: FeatureSet, transform_output: tft.TFTransformOutput) -> Source:
    """Return the source of a split from the file patterns that TFX passes."""
    # TFX gives FOLDER/*, where the folder's own name may hold what would be a pattern.
    folders = [os.path.dirname(pattern) for pattern in patterns]
    files = [os.path.join(folder, name) for folder in folders for name in sorted(tf.io.gfile.listdir(folder))]
    return Source(files, features, transform_output.transformed_feature_spec())


@dataclass(frozen=True)
class TrainingRows:
    """The train split, ready to be fitted to.

    Attributes:
      batches: endless batches in another order in each epoch: (inputs, label [batch, 1], weight [batch, 1]). The mean
        weight of all rows is 1, so that learning rates and penalties mean the same whatever the unit of the weights.
      steps_per_epoch: number of batches of an epoch.
      steps_together: number of them in one call; `steps_per_epoch` is a multiple of it.
      sample: rows drawn at random, all if they are few, as (inputs, weight [batch, 1]). A weight is how often `batches`
        has the row; batch normalization trains on the rows of a batch whatever their weights in the loss.
      labels: statistics of the labels of a regression.
      numbers: the scaled numbers of the rows of `sample`, float32 of shape [rows, number columns].
      sample_labels: the labels of the rows of `sample`, [rows].
      sample_weights: the example weights of the rows of `sample`, [rows].
      read_batch: function from the number of a step, from 0, to the batch of it, which it reads again.
    """

    batches: tf.data.Dataset
    steps_per_epoch: int
    sample: tf.data.Dataset
    labels: LabelValues
    numbers: np.ndarray
    sample_labels: np.ndarray
    sample_weights: np.ndarray
    read_batch: Callable[[int], tuple[Any, tf.Tensor, tf.Tensor]]
    steps_together: int = 1


@dataclass(frozen=True)
class EvaluationRows:
    """The eval split, ready to be measured.

    Attributes:
      batches: all rows once, in order: (inputs, label [batch, 1], weight [batch, 1]). The mean weight is 1.
      class_weights: sum of the weights of each class; empty for a regression.
    """

    batches: tf.data.Dataset
    class_weights: Mapping[str, float]


class _Labels:
    """Labels that are read block by block: rows and weight of each class, or moments and limits.

    Without a column of weights, all rows weigh 1. A row of weight 0 does not count.

    Attributes:
      total: number of rows.
      rows: number of rows of each class; of a regression of all, [1].
      weights: sum of their weights, of the same shape.
      low: least label.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.total = 0
        self.rows = np.zeros(max(len(classes), 1))
        self.weights = np.zeros(max(len(classes), 1))
        self._moments, self._log_moments = Moments(), Moments()
        self.low, self._high = math.inf, -math.inf
        self._classes = classes

    def add(self, labels: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Count a block."""
        self.total += len(labels)
        weight = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
        places = labels if self._classes else np.zeros(len(labels), np.int64)
        self.rows += np.bincount(places, minlength=len(self.rows))
        self.weights += np.bincount(places, weight, minlength=len(self.rows))
        values, weight = labels[weight > 0].astype(np.float64), weight[weight > 0]
        if self._classes or not len(values):
            return
        logs = np.sign(values) * np.log1p(np.abs(values))
        self._moments = merge_moments(self._moments, Moments.from_values(values, weight))
        self._log_moments = merge_moments(self._log_moments, Moments.from_values(logs, weight))
        self.low, self._high = min(self.low, float(values.min())), max(self._high, float(values.max()))

    @property
    def is_constant(self) -> bool:
        """Whether all labels of a regression are the same number."""
        return not self._classes and self.low == self._high

    def compute_values(self, sample: np.ndarray, weights: np.ndarray) -> LabelValues:
        """Return the statistics of a regression's labels and of a weighted sample of them; defaults for classes."""
        if self._classes:
            return LabelValues()
        plain, logs = self._moments, self._log_moments
        std, log_std = ((moments.squares / moments.weight) ** 0.5 for moments in (plain, logs))
        quantiles = (self.low, *compute_quantiles(sample, weights)[1:-1], self._high)
        return LabelValues(plain.mean, std, logs.mean, log_std, self.low, self._high, quantiles)

    @property
    def class_weights(self) -> dict[str, float]:
        """The sum of the weights of each class; empty for a regression."""
        return dict(zip(self._classes, self.weights.tolist(), strict=True)) if self._classes else {}

    def compute_loss_factors(self, imbalance: str) -> np.ndarray:
        """Return the number by class that weights are multiplied by, so that the mean weight of the batches is 1."""
        match imbalance:
            case "class_weights":
                return self.total / (len(self.weights) * self.weights)
            case "oversample":
                return self.rows / self.weights
            case _:
                return np.full(len(self.weights), self.total / self.weights.sum())


class _Sample:
    """At most `_SAMPLE_ROWS` rows of blocks: each row draws a number from [0, 1), and rows of a low number are kept."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._share = 1.0
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, block: Sequence[np.ndarray]) -> None:
        """Draw from a block."""
        self._parts.append((self._random.random(len(block[0])), *block))
        self._keep()
        while sum(len(part[0]) for part in self._parts) > _SAMPLE_ROWS:
            self._share /= 2
            self._keep()

    def _keep(self) -> None:
        is_in_sample = [part[0] < self._share for part in self._parts]
        self._parts = [
            tuple(column[rows] for column in part) for part, rows in zip(self._parts, is_in_sample, strict=True)
        ]

    def collect_rows(self) -> list[np.ndarray]:
        """Return ids, numbers, labels and, if there is a column of them, weights."""
        return [np.concatenate(columns) for columns in list(zip(*self._parts, strict=True))[1:]]


def read_training_rows(source: Source, training: Training, *, seed: int, cache_folder: str) -> TrainingRows:
    """Read the train split once and prepare its batches.

    Args:
      source: source of the train split.
      training: options with the batch size and the balance of classes.
      seed: seed of the shuffling.
      cache_folder: gets the parsed rows, which every epoch reads: in memory they would grow with the data.

    Raises:
      DataError: train has no row, or none of a class, or all labels of a regression are the same.
    """
    blocks = source.read_blocks().cache(os.path.join(cache_folder, "train"))
    label = source.features.label
    labels, sample = _Labels(label.classes), _Sample(seed)
    for block in blocks.as_numpy_iterator():
        labels.add(*block[2:])
        sample.add(block)
    _check_labels(label, labels)
    classes, factors = len(label.classes), labels.compute_loss_factors(training.imbalance)
    oversample = training.imbalance == "oversample"

    @_do_not_convert
    def name_inputs(
        ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[Any, tf.Tensor, tf.Tensor]:
        factor = tf.gather(tf.constant(factors, tf.float32), label if classes else tf.zeros_like(label, tf.int64))
        return source.unpack(ids, numbers), label[:, None], _multiply(factor, *weights)[:, None]

    def build_batches() -> tf.data.Dataset:
        # The same seed gives the same batches, in each data set that is built.
        rows = _balance_classes(blocks, classes, seed=seed) if oversample else _shuffle(blocks, seed=seed)
        return rows.rebatch(training.batch_size).map(name_inputs, num_parallel_calls=tf.data.AUTOTUNE)

    ids, numbers, sample_labels, *weights = sample.collect_rows()
    sample_weights = weights[0] if weights else np.ones(len(sample_labels))
    balance = labels.total / (len(labels.rows) * labels.rows)
    repeats = balance[sample_labels] if oversample else np.ones(len(sample_labels))
    steps = -(-labels.total // training.batch_size)
    together = _STEPS_TOGETHER if steps >= _LONG_EPOCH_STEPS else 1
    return TrainingRows(
        batches=build_batches().prefetch(tf.data.AUTOTUNE),
        steps_per_epoch=-(-steps // together) * together,
        steps_together=together,
        sample=_build_sample(source, ids, numbers, repeats),
        labels=labels.compute_values(sample_labels, sample_weights),
        numbers=numbers,
        sample_labels=sample_labels,
        sample_weights=sample_weights,
        read_batch=lambda step: next(iter(build_batches().skip(step).take(1))),
    )


def _check_labels(label: Label, labels: _Labels) -> None:
    if not labels.total:
        raise DataError("train has no rows; check data.splits.train")
    if labels.is_constant:
        raise DataError(f"label '{label.column}' is {labels.low:g} in every row of train; there is nothing to learn")
    absent = [name for name, weight in labels.class_weights.items() if not weight]
    if absent:
        raise DataError(
            f"train has no row of {_list_classes(absent)} of label '{label.column}'; every class needs rows: check "
            "the declared classes, or add rows"
        )


def _list_classes(names: Sequence[str]) -> str:
    first_names = ", ".join(f"'{name}'" for name in names[:_MAX_NAMED_CLASSES])
    more = f" and {len(names) - _MAX_NAMED_CLASSES:,} more" if len(names) > _MAX_NAMED_CLASSES else ""
    return f"class{'es' if len(names) > 1 else ''} {first_names}{more}"


def _multiply(factor: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    return factor if weights is None else factor * weights


def _build_sample(source: Source, ids: np.ndarray, numbers: np.ndarray, repeats: np.ndarray) -> tf.data.Dataset:
    """Return (inputs, weight [batch, 1]) of a sample, by how often each row is repeated."""
    blocks = tf.data.Dataset.from_tensor_slices((ids, numbers, repeats[:, None].astype(np.float32))).batch(_BLOCK_ROWS)
    return blocks.map(_do_not_convert(lambda ids, numbers, weights: (source.unpack(ids, numbers), weights)))


def _shuffle(blocks: tf.data.Dataset, *, seed: int) -> tf.data.Dataset:
    """Return an endless stream of windows of rows, each in a random order; the order of blocks changes, too."""
    windows = blocks.shuffle(2 * _WINDOW_BLOCKS, seed=seed).rebatch(_WINDOW_ROWS).repeat()

    @_do_not_convert
    def mix(number: tf.Tensor, window: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        rows = tf.range(tf.shape(window[0])[0])
        places = tf.random.experimental.stateless_shuffle(rows, seed=[seed, number])
        return tuple(tf.gather(part, places) for part in window)

    return windows.enumerate().map(mix)


def _balance_classes(blocks: tf.data.Dataset, classes: int, *, seed: int) -> tf.data.Dataset:
    """Return an endless stream in which all classes are equally frequent; rows of rarer classes repeat."""

    def select_class(number: int) -> tf.data.Dataset:
        @_do_not_convert
        def select_rows(*block: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tuple(tf.boolean_mask(part, block[2] == number) for part in block)

        return _shuffle(blocks.map(select_rows), seed=seed)

    endless = [select_class(number).unbatch() for number in range(classes)]
    return tf.data.Dataset.sample_from_datasets(endless, [1 / classes] * classes, seed=seed).batch(_BLOCK_ROWS)


def read_evaluation_rows(source: Source, *, cache_folder: str) -> EvaluationRows:
    """Read the eval split once and prepare its batches; `cache_folder` as for `read_training_rows`.

    Raises:
      DataError: eval has no row.
    """

    blocks = source.read_blocks().cache(os.path.join(cache_folder, "evaluation"))
    # Read to the end, since tf.data writes its cache file only then.
    labels = _read_labels(blocks, source)
    (factor,) = {*labels.compute_loss_factors("none").tolist()}

    @_do_not_convert
    def name_inputs(
        ids: tf.Tensor, numbers: tf.Tensor, label: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[Any, tf.Tensor, tf.Tensor]:
        factors = tf.fill(tf.shape(label), tf.constant(factor, tf.float32))
        return source.unpack(ids, numbers), label[:, None], _multiply(factors, *weights)[:, None]

    return EvaluationRows(blocks.map(name_inputs).prefetch(1), labels.class_weights)


def sum_class_weights(source: Source) -> Mapping[str, float]:
    """Return the sum of the weights of each class in the eval split; empty for a regression.

    Raises:
      DataError: eval has no row.
    """
    return _read_labels(source.read_blocks(), source).class_weights


def _read_labels(blocks: tf.data.Dataset, source: Source) -> _Labels:
    labels = _Labels(source.features.label.classes)
    for _, _, *block_labels in blocks.as_numpy_iterator():
        labels.add(*block_labels)
    if not labels.total:
        raise DataError("eval has no rows, and training is watched on it; check data.splits.eval")
    return labels
