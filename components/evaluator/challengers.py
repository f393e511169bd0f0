"""Challengers of the candidate: a linear model, and boosted trees, on the columns that Transform has encoded.

The linear model is the wide part by itself: a weight for each ID and a slope for each number (logistic regression, or
ridge regression of numbers). The trees are scikit-learn's HistGradientBoosting, 100 iterations, on the numbers and
the single IDs. They are fitted to `train`, or to a sample of it, in a few seconds.
"""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.utils import shared
from numpy.typing import NDArray
from scipy import sparse

from components.artifact_files import list_files
from components.batch_rows import compute_batch_rows
from components.config import Challengers
from schemas.bootstrap import number_rows
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, IdColumn, NumberColumn, escape_name, name_buckets
from schemas.row_sample import RowSample
from serving.model.literal_paths import make_literal_path
from serving.model.network_inputs import IDS, NUMBERS, build_network_inputs, compute_places
from serving.model.served_model import TransformGraph

LINEAR, TREES = "linear", "trees"
TITLES: Mapping[str, str] = {LINEAR: "linear model", TREES: "boosted trees"}
# The limit of HistGradientBoosting: a category is a bin, and one of 256 bins is that of missing values.
_MAX_CATEGORIES = 255
# Strength of the linear model's penalty; crosses have weights that few rows fit.
_RIDGE = 3.0
# After each step, the time is compared with the limit.
_LINEAR_STEPS, _LINEAR_ITERATIONS = 4, 25
# The time of the first trees is an estimate of that of all. A step for each few of them would take twice as long: it
# starts with the bins and the predictions of all trees so far.
_FIRST_TREES, _TREE_ITERATIONS = 25, 100
_READ_ROWS, _READ_BYTES = 8192, 1 << 20
LABEL, WEIGHT = "label", "weight"


class UnfitError(ValueError):
    """Rows or columns that a challenger cannot be fitted to."""


# Errors of a challenger that a run continues after.
_ERRORS = (ArithmeticError, MemoryError, ValueError)
# Errors of a Transform graph with code of the user's own.
ENCODING_ERRORS = (*_ERRORS, TypeError, tf.errors.OpError)

Array = NDArray[Any]
# From matrices of IDs and numbers to probabilities [rows] or [rows, classes], or numbers [rows].
Predict = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class ChallengerFit:
    """How the fit of a challenger ended.

    Attributes:
      name: name of the challenger.
      problem: reason why there is none; empty if there is one.
      rows: number of rows that it was fitted to.
      rows_of: number of rows that these are a sample of.
      seconds: wall time of the fit.
      left_out: columns that it does not read, with the reason.
    """

    name: str
    problem: str = ""
    rows: int = 0
    rows_of: int = 0
    seconds: float = 0.0
    left_out: str = ""


@dataclass(frozen=True)
class EncodedColumns:
    """Columns that Transform has encoded.

    Attributes:
      transform_uri: folder of the Transform graph.
      features: declaration of the columns.
      raw: raw columns that a request for a prediction has: not the label.
      least_ids: least IDs of columns, where they are not 0.
    """

    transform_uri: str
    features: FeatureSet
    raw: frozenset[str]
    least_ids: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_features(cls, features: FeatureSet, transform_uri: str) -> "EncodedColumns":
        """Return all columns of a declaration."""
        return cls(transform_uri, features, frozenset(features.raw_features))


@dataclass(frozen=True)
class FittedChallengers:
    """Fitted models, and the columns that they read.

    Attributes:
      columns: the columns.
      models: models by name.
      classes: number of classes; 0 for a regression.
    """

    columns: EncodedColumns
    models: Mapping[str, Predict]
    classes: int
    _shared: Any = field(default_factory=shared.Shared)

    def load(self) -> "Encoder":
        """Return the encoder, which is loaded once in each process; to be held as long as `predict` needs it."""
        encoder: Encoder = self._shared.acquire(lambda: Encoder(self.columns))
        return encoder

    def predict(self, encoder: "Encoder", records: tf.Tensor) -> dict[str, Array]:
        """Return the predictions of each model for serialized raw tf.Example; NaN from one that rejects the rows."""
        try:
            ids, numbers = encoder.encode(records)
        except ENCODING_ERRORS:
            return {name: _fill_nan(len(records), self.classes) for name in self.models}
        with _limit_threads():
            return {name: _predict_or_nan(predict, ids, numbers, self.classes) for name, predict in self.models.items()}


class Encoder:
    """The Transform graph: from raw rows to matrices of IDs and numbers."""

    def __init__(self, columns: EncodedColumns) -> None:
        self._graph = TransformGraph(tft.TFTransformOutput(make_literal_path(columns.transform_uri)))
        # Without the label, as in a request: columns that an own `preprocessing_fn` derives from it are constant.
        self._raw = {name: spec for name, spec in self._graph.raw_feature_spec.items() if name in columns.raw}
        self._features = columns.features
        id_columns = [column for column in columns.features.id_columns for _ in range(column.width)]
        self._least = np.array([columns.least_ids.get(column.name, 0) for column in id_columns], np.int64)
        self._greatest = np.array([column.num_ids - 1 for column in id_columns], np.int64)
        # Without a signature, each new size of a batch is traced again.
        self._encode = tf.function(self._transform, [tf.TensorSpec([None], tf.string)], autograph=False)

    def _transform(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        transformed = dict(self._graph(tf.io.parse_example(records, self._raw)))
        for column in self._features.own_columns:
            dtype = tf.float32 if column.num_ids is None else tf.int64
            transformed[column.name] = tf.reshape(tf.cast(transformed[column.name], dtype), [-1, column.width])
        inputs = build_network_inputs(self._features, transformed)
        return inputs[IDS], inputs[NUMBERS]

    def encode(self, records: tf.Tensor) -> tuple[Array, Array]:
        """Return IDs and numbers of serialized tf.Example, [rows, places] each."""
        ids, numbers = self._encode(records)
        return np.clip(ids.numpy() - self._least, 0, self._greatest), numbers.numpy()


def fit_challengers(
    settings: Challengers, features: FeatureSet, transform_uri: str, train_folder: str, seed: int
) -> tuple[FittedChallengers, list[ChallengerFit]]:
    """Fit the challengers to `train`; the outcome of one that fails or exceeds its time has the reason.

    Args:
      settings: section of the config.
      features: declaration of the columns.
      transform_uri: folder of the Transform graph.
      train_folder: folder of the transformed examples of `train`.
      seed: seed of the trees.
    """
    deadline = _Deadline(time.monotonic() + settings.max_seconds)
    sample = _read_sample(features, transform_uri, train_folder, settings.max_rows)
    columns = EncodedColumns.from_features(features, transform_uri)
    return _fit_all(settings, columns, _Task(sample, features, len(features.label.classes), seed, deadline))


def fit_to_sample(
    settings: Challengers, columns: EncodedColumns, sample: RowSample, classes: int, seed: int
) -> tuple[FittedChallengers, list[ChallengerFit]]:
    """Fit the challengers to rows in memory.

    Args:
      settings: section of the config.
      columns: columns of the rows.
      sample: rows with `IDS`, `NUMBERS`, `LABEL` and `WEIGHT`.
      classes: number of classes, which the labels are IDs of; 0 for a regression.
      seed: seed of the trees.
    """
    deadline = _Deadline(time.monotonic() + settings.max_seconds)
    return _fit_all(settings, columns, _Task(sample, columns.features, classes, seed, deadline))


def describe_failure(error: BaseException) -> str:
    """Return the first line of an error's message, with the type of an error that is not this module's."""
    line = (str(error).strip() or "no message").splitlines()[0]
    return line if isinstance(error, UnfitError) else f"{type(error).__name__}: {line}"


def list_declared_names(settings: Challengers) -> list[str]:
    """Return the names of the challengers that are declared."""
    return [name for name, is_declared in ((LINEAR, settings.linear), (TREES, settings.trees)) if is_declared]


class _Task(NamedTuple):
    """The rows, labels and limits of a fit."""

    sample: RowSample
    features: FeatureSet
    classes: int
    seed: int
    deadline: "_Deadline"


def _fit_all(
    settings: Challengers, columns: EncodedColumns, task: _Task
) -> tuple[FittedChallengers, list[ChallengerFit]]:
    fits: Mapping[str, Callable[[_Task], Predict]] = {LINEAR: _fit_linear, TREES: _fit_trees}
    models, outcomes = {}, []
    for name in list_declared_names(settings):
        problem, began = "", time.monotonic()
        try:
            with _limit_threads():
                models[name] = fits[name](task)
        except TimeoutError:
            problem = f"not fitted within {settings.max_seconds:g} s (evaluation.challengers.max_seconds)"
        except _ERRORS as error:
            problem = describe_failure(error)
        outcomes.append(ChallengerFit(name, problem, len(task.sample.ids), task.sample.rows, time.monotonic() - began))
    return FittedChallengers(columns, models, task.classes), outcomes


def _predict_or_nan(predict: Predict, ids: Array, numbers: Array, classes: int) -> Array:
    """Return predictions; NaN from a model that rejects the rows, such as the linear one for an infinite number."""
    try:
        return predict(ids, numbers)
    except _ERRORS:
        return _fill_nan(len(ids), classes)


def _fill_nan(rows: int, classes: int) -> Array:
    return np.full((rows, classes) if classes > 2 else rows, np.nan, np.float32)


def _limit_threads() -> Any:
    """Return a context in which OpenMP and BLAS use one thread: on a busy machine several wait for each other.

    Three seconds for census became half a minute.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


@dataclass(frozen=True)
class _Deadline:
    """Time at which a fit has to end, of the monotonic clock."""

    at: float

    def check(self, seconds: float = 0.0) -> None:
        """Check that there is time for so many seconds more.

        Raises:
          TimeoutError: there is none.
        """
        if time.monotonic() + seconds > self.at:
            raise TimeoutError


def _read_sample(features: FeatureSet, transform_uri: str, folder: str, limit: int) -> RowSample:
    """Return the IDs, numbers, labels and weights of `train`, of at most so many rows."""
    spec = tft.TFTransformOutput(make_literal_path(transform_uri)).transformed_feature_spec()
    width = len(features.id_columns) + len(features.number_columns)
    sample = RowSample(limit=limit)
    for file in list_files(folder):
        records = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "", buffer_size=_READ_BYTES)
        first = 0
        for batch in records.batch(compute_batch_rows(width, _READ_ROWS)).prefetch(1):
            columns = tf.io.parse_example(batch, spec)
            inputs = build_network_inputs(features, columns)
            rows = len(batch)
            weights = columns[TRANSFORMED_WEIGHT].numpy() if features.weight is not None else np.ones(rows, np.float32)
            values = {
                IDS: inputs[IDS].numpy().astype(np.int32),
                NUMBERS: inputs[NUMBERS].numpy(),
                LABEL: columns[features.label.name].numpy(),
                WEIGHT: weights,
            }
            sample = sample.merge(RowSample.from_rows(number_rows(os.path.basename(file), first, rows), values, limit))
            first += rows
    if not sample.rows:
        raise ValueError(f"{folder}: there are no rows")
    return sample.sort_rows()


def _fit_linear(task: _Task) -> Predict:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    sample, classes = task.sample, task.classes
    wide = _Wide.from_features(task.features, sample.columns[NUMBERS])
    inputs = wide.encode(sample.columns[IDS], sample.columns[NUMBERS])
    labels, weights = _prepare_labels(sample)
    task.deadline.check()
    if not classes:
        mean, deviation = _compute_scale(labels, weights)
        ridge = Ridge(alpha=_RIDGE, solver="sparse_cg", max_iter=_LINEAR_STEPS * _LINEAR_ITERATIONS)
        ridge.fit(inputs, (labels - mean) / deviation, sample_weight=weights)
        task.deadline.check()
        return lambda ids, numbers: mean + deviation * ridge.predict(wide.encode(ids, numbers))
    _check_classes(labels)
    classifier = LogisticRegression(C=1 / _RIDGE, max_iter=_LINEAR_ITERATIONS, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(_LINEAR_STEPS):
            classifier.fit(inputs, labels, sample_weight=weights)
            task.deadline.check()
            if classifier.n_iter_.max() < _LINEAR_ITERATIONS:
                break
    return lambda ids, numbers: _predict_classes(classifier, wide.encode(ids, numbers), classes)


def _fit_trees(task: _Task) -> Predict:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    sample, classes = task.sample, task.classes
    columns = _TreeColumns.from_features(task.features)
    inputs = columns.select(sample.columns[IDS], sample.columns[NUMBERS])
    if not inputs.shape[1]:
        raise UnfitError("there are no columns of numbers or of one ID for trees")
    labels, weights = _prepare_labels(sample)
    tree_class = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    if classes:
        _check_classes(labels)
    trees = tree_class(
        categorical_features=columns.is_category, early_stopping=False, random_state=task.seed, warm_start=True
    )
    began = time.monotonic()
    for iterations in (_count_first_iterations(classes), _TREE_ITERATIONS):
        trees.set_params(max_iter=iterations).fit(inputs, labels, sample_weight=weights)
        task.deadline.check((_TREE_ITERATIONS / iterations - 1) * (time.monotonic() - began))
    if not classes:
        return lambda ids, numbers: np.asarray(trees.predict(columns.select(ids, numbers)))
    return lambda ids, numbers: _predict_classes(trees, columns.select(ids, numbers), classes)


def _count_first_iterations(classes: int) -> int:
    """Return the number of iterations that have the first trees; each has a tree for each of several classes."""
    return max(_FIRST_TREES // (classes if classes > 2 else 1), 1)


def _prepare_labels(sample: RowSample) -> tuple[Array, Array]:
    """Return the labels, and weights with a mean of 1, which the penalty is relative to."""
    weights = sample.columns[WEIGHT].astype(np.float64)
    return sample.columns[LABEL].reshape(len(sample.ids)), weights * (len(weights) / weights.sum())


def _compute_scale(labels: Array, weights: Array) -> tuple[float, float]:
    mean = float(np.average(labels, weights=weights))
    return mean, float(np.sqrt(np.average((labels - mean) ** 2, weights=weights))) or 1.0


def _check_classes(labels: Array) -> None:
    if len(np.unique(labels)) < 2:
        raise UnfitError("all rows that it is fitted to have the same class")


def _predict_classes(classifier: Any, inputs: Any, classes: int) -> Array:
    """Return probabilities, of the second class of two [rows], or of all [rows, classes]."""
    probabilities = np.zeros((inputs.shape[0], classes), np.float32)
    probabilities[:, classifier.classes_.astype(np.int64)] = classifier.predict_proba(inputs)
    return probabilities[:, 1] if classes == 2 else probabilities


@dataclass(frozen=True)
class _Wide:
    """The wide part's columns as one sparse matrix.

    Attributes:
      columns: columns of IDs, each with its places, its first column of the matrix, and the places of its weights.
      numbers: places of numbers.
      width: number of columns of the matrix without the numbers.
      center: number that is subtracted from each number.
      scale: number that each number is divided by.
    """

    columns: Sequence[tuple[IdColumn, Sequence[int], int, Sequence[int]]]
    numbers: Sequence[int]
    width: int
    center: Array
    scale: Array

    @classmethod
    def from_features(cls, features: FeatureSet, sample: Array) -> "_Wide":
        """Return the columns of a declaration; undeclared numbers are scaled by those of a sample."""
        id_places, number_places = compute_places(features.id_columns), compute_places(features.number_columns)
        columns, width = [], 0
        for column in features.id_columns:
            if column.wide:
                weights = number_places[column.weights] if column.weights is not None else ()
                columns.append((column, id_places[column.name], width, weights))
                width += column.num_ids
        own = {column.name for column in features.own_columns}
        numbers: list[int] = []
        center, scale = np.zeros(sample.shape[1]), np.ones(sample.shape[1])
        for number in (number for number in features.number_columns if number.wide):
            of_column = [*number_places[number.name]]
            numbers += of_column
            if number.name in own:
                values = sample[:, of_column].astype(np.float64)
                if not np.isfinite(values).all():
                    raise UnfitError(f"'{number.name}' has NaN or infinite values")
                center[of_column], deviation = values.mean(axis=0), values.std(axis=0)
                scale[of_column] = np.where(deviation > 0, deviation, 1)
        return cls(columns, numbers, width, center[numbers], scale[numbers])

    def encode(self, ids: Array, numbers: Array) -> Any:
        """Return the matrix, [rows, columns]."""
        rows = len(ids)
        places_of_ids = [np.asarray(ids[:, places], np.int64) + first for _, places, first, _ in self.columns]
        values = [
            numbers[:, weights] if len(weights) else np.ones((rows, len(places)))
            for _, places, _, weights in self.columns
        ]
        indices = np.concatenate([*places_of_ids, np.zeros((rows, 0), np.int64)], axis=1)
        data = np.concatenate([*values, np.zeros((rows, 0))], axis=1).astype(np.float64)
        matrix = sparse.csr_matrix(
            (data.ravel(), indices.ravel(), np.arange(rows + 1) * indices.shape[1]), (rows, self.width)
        )
        scaled = (numbers[:, self.numbers].astype(np.float64) - self.center) / self.scale
        return sparse.hstack([matrix, scaled], format="csr")


@dataclass(frozen=True)
class _TreeColumns:
    """The columns that trees split by.

    Attributes:
      ids: places of IDs.
      numbers: places of numbers.
      is_category: whether each of them is a category.
    """

    ids: Sequence[int]
    numbers: Sequence[int]
    is_category: Sequence[bool]

    @classmethod
    def from_features(cls, features: FeatureSet) -> "_TreeColumns":
        id_places, number_places = compute_places(features.id_columns), compute_places(features.number_columns)
        crosses = {cross.name for cross in features.crosses}
        buckets = {name_buckets(name): escape_name(name) for name in features.encoded_features}
        weights = {column.weights for column in features.id_columns}
        ids, is_category = [], []
        for column in features.id_columns:
            is_scaled = buckets.get(column.name) in number_places
            if column.width == 1 and column.weights is None and column.name not in crosses and not is_scaled:
                ids.append(id_places[column.name][0])
                # The IDs of buckets, and of many categories, are in an order: by value, or by frequency.
                is_category.append(column.name not in buckets and column.num_ids <= _MAX_CATEGORIES)
        used: list[NumberColumn] = [column for column in features.number_columns if column.name not in weights]
        numbers = [place for column in used for place in number_places[column.name]]
        return cls(ids, numbers, [*is_category, *([False] * len(numbers))])

    def select(self, ids: Array, numbers: Array) -> Array:
        """Return the matrix, [rows, columns]."""
        return np.concatenate([ids[:, self.ids], numbers[:, self.numbers]], axis=1).astype(np.float32)
