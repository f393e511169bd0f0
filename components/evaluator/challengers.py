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
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from apache_beam.utils import shared
from numpy.typing import NDArray
from scipy import sparse

from components.artifact_files import files_in
from components.batch_rows import batch_rows
from components.config import Challengers
from schemas.bootstrap import number_rows
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, IdColumn, NumberColumn, bucketized_name, safe_name
from schemas.row_sample import RowSample
from serving.model.literal_paths import literal_path
from serving.model.network_inputs import IDS, NUMBERS, network_inputs, places
from serving.model.served_model import TransformGraph

LINEAR, TREES = "linear", "trees"
TITLES: Mapping[str, str] = {LINEAR: "linear model", TREES: "boosted trees"}
# The limit of HistGradientBoosting: a category is a bin, and one of 256 bins is that of missing values.
_MAX_CATEGORIES = 255
# Strength of the linear model's penalty; crosses have weights that few rows fit.
_RIDGE = 3.0
# After each step, the time is compared with the limit.
_LINEAR_STEPS, _LINEAR_ITERATIONS = 4, 25
# The time of the first iterations is an estimate of that of all. A step for each few of them would take twice as long:
# it starts with the bins and the predictions of all trees so far.
_FIRST_TREE_ITERATIONS, _TREE_ITERATIONS = 25, 100
_READ_ROWS, _READ_BYTES = 8192, 1 << 20
_LABEL, _WEIGHT = "label", "weight"
# Errors of a challenger that a run continues after.
_ERRORS = (ArithmeticError, MemoryError, ValueError)

Array = NDArray[Any]
# From matrices of IDs and numbers to probabilities [rows] or [rows, classes], or numbers [rows].
Predict = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Outcome:
    """How the fit of a challenger ended.

    Attributes:
      name: name of the challenger.
      problem: reason why there is none; empty if there is one.
      rows: number of rows that it was fitted to.
      rows_of: number of rows that these are a sample of.
      seconds: wall time of the fit.
    """

    name: str
    problem: str = ""
    rows: int = 0
    rows_of: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class FittedChallengers:
    """Fitted models, and the graph that encodes their input.

    Attributes:
      transform_uri: folder of the Transform graph.
      features: declaration of the columns.
      models: models by name.
    """

    transform_uri: str
    features: FeatureSet
    models: Mapping[str, Predict]
    _shared: Any = field(default_factory=shared.Shared)

    def load(self) -> "Encoder":
        """Return the encoder, which is loaded once in each process; to be held as long as `predict` needs it."""
        encoder: Encoder = self._shared.acquire(lambda: Encoder(self.transform_uri, self.features))
        return encoder

    def predict(self, encoder: "Encoder", records: tf.Tensor) -> dict[str, Array]:
        """Return the predictions of each model for serialized raw tf.Example; NaN from one that rejects the rows."""
        ids, numbers = encoder.encode(records)
        with _one_thread():
            classes = len(self.features.label.classes)
            return {name: _predict_or_nan(predict, ids, numbers, classes) for name, predict in self.models.items()}


class Encoder:
    """The Transform graph: from raw rows to matrices of IDs and numbers."""

    def __init__(self, transform_uri: str, features: FeatureSet) -> None:
        self._graph = TransformGraph(tft.TFTransformOutput(literal_path(transform_uri)))
        self._features = features
        self._encode = tf.function(self._transform, autograph=False)

    def _transform(self, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raw = tf.io.parse_example(records, dict(self._graph.raw_feature_spec))
        inputs = network_inputs(self._features, self._graph(raw))
        return inputs[IDS], inputs[NUMBERS]

    def encode(self, records: tf.Tensor) -> tuple[Array, Array]:
        """Return IDs and numbers of serialized tf.Example, [rows, places] each."""
        ids, numbers = self._encode(records)
        return ids.numpy(), numbers.numpy()


def fit_challengers(
    settings: Challengers, features: FeatureSet, transform_uri: str, train_folder: str, seed: int
) -> tuple[FittedChallengers, list[Outcome]]:
    """Fit the challengers to `train`; the outcome of one that fails or exceeds its time has the reason.

    Args:
      settings: section of the config.
      features: declaration of the columns.
      transform_uri: folder of the Transform graph.
      train_folder: folder of the transformed examples of `train`.
      seed: seed of the trees.
    """
    started = time.monotonic()
    sample = _read_sample(features, transform_uri, train_folder, settings.max_rows)
    fits: dict[str, Callable[..., Predict]] = {}
    if settings.linear:
        fits[LINEAR] = _fit_linear
    if settings.trees:
        fits[TREES] = _fit_trees
    models, outcomes = {}, []
    for name, fit in fits.items():
        problem, began = "", time.monotonic()
        try:
            with _one_thread():
                models[name] = fit(sample, features, seed, _Deadline(started + settings.max_seconds))
        except TimeoutError:
            problem = f"not fitted within {settings.max_seconds:g} s (evaluation.challengers.max_seconds)"
        except _ERRORS as error:
            problem = f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
        outcomes.append(Outcome(name, problem, len(sample.ids), sample.rows, time.monotonic() - began))
    return FittedChallengers(transform_uri, features, models), outcomes


def _predict_or_nan(predict: Predict, ids: Array, numbers: Array, classes: int) -> Array:
    """Return predictions; NaN from a model that rejects the rows, such as the linear one for an infinite number."""
    try:
        return predict(ids, numbers)
    except _ERRORS:
        return np.full((len(ids), classes) if classes > 2 else len(ids), np.nan, np.float32)


def _one_thread() -> Any:
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
    spec = tft.TFTransformOutput(literal_path(transform_uri)).transformed_feature_spec()
    width = len(features.id_columns) + len(features.number_columns)
    sample = RowSample(limit=limit)
    for file in files_in(folder):
        records = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "", buffer_size=_READ_BYTES)
        first = 0
        for batch in records.batch(batch_rows(width, _READ_ROWS)).prefetch(1):
            columns = tf.io.parse_example(batch, spec)
            inputs = network_inputs(features, columns)
            rows = len(batch)
            weights = columns[TRANSFORMED_WEIGHT].numpy() if features.weight is not None else np.ones(rows, np.float32)
            values = {
                IDS: inputs[IDS].numpy().astype(np.int32),
                NUMBERS: inputs[NUMBERS].numpy(),
                _LABEL: columns[features.label.name].numpy(),
                _WEIGHT: weights,
            }
            sample = sample.merge(RowSample.of(number_rows(os.path.basename(file), first, rows), values, limit))
            first += rows
    if not sample.rows:
        raise ValueError(f"{folder}: there are no rows")
    return sample.in_order()


def _fit_linear(sample: RowSample, features: FeatureSet, seed: int, deadline: _Deadline) -> Predict:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    del seed  # The fit is not random.
    wide = _Wide.of(features)
    inputs = wide.encode(sample.columns[IDS], sample.columns[NUMBERS])
    labels, weights = _labels_and_weights(sample)
    deadline.check()
    if not features.label.classes:
        mean, deviation = _scale_of(labels, weights)
        ridge = Ridge(alpha=_RIDGE, solver="sparse_cg", max_iter=_LINEAR_STEPS * _LINEAR_ITERATIONS)
        ridge.fit(inputs, (labels - mean) / deviation, sample_weight=weights)
        deadline.check()
        return lambda ids, numbers: mean + deviation * ridge.predict(wide.encode(ids, numbers))
    _check_classes(labels)
    classifier = LogisticRegression(C=1 / _RIDGE, max_iter=_LINEAR_ITERATIONS, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(_LINEAR_STEPS):
            classifier.fit(inputs, labels, sample_weight=weights)
            deadline.check()
            if classifier.n_iter_.max() < _LINEAR_ITERATIONS:
                break
    return lambda ids, numbers: _by_class(classifier, wide.encode(ids, numbers), len(features.label.classes))


def _fit_trees(sample: RowSample, features: FeatureSet, seed: int, deadline: _Deadline) -> Predict:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    columns = _TreeColumns.of(features)
    inputs = columns.select(sample.columns[IDS], sample.columns[NUMBERS])
    if not inputs.shape[1]:
        raise ValueError("there are no columns of numbers or of one ID for trees")
    labels, weights = _labels_and_weights(sample)
    tree_class = HistGradientBoostingClassifier if features.label.classes else HistGradientBoostingRegressor
    if features.label.classes:
        _check_classes(labels)
    trees = tree_class(
        categorical_features=columns.is_category, early_stopping=False, random_state=seed, warm_start=True
    )
    began = time.monotonic()
    for iterations in (_FIRST_TREE_ITERATIONS, _TREE_ITERATIONS):
        trees.set_params(max_iter=iterations).fit(inputs, labels, sample_weight=weights)
        deadline.check((_TREE_ITERATIONS / iterations - 1) * (time.monotonic() - began))
    if not features.label.classes:
        return lambda ids, numbers: np.asarray(trees.predict(columns.select(ids, numbers)))
    return lambda ids, numbers: _by_class(trees, columns.select(ids, numbers), len(features.label.classes))


def _labels_and_weights(sample: RowSample) -> tuple[Array, Array]:
    """Return the labels, and weights with a mean of 1, which the penalty is relative to."""
    weights = sample.columns[_WEIGHT].astype(np.float64)
    return sample.columns[_LABEL].reshape(len(sample.ids)), weights * (len(weights) / weights.sum())


def _scale_of(labels: Array, weights: Array) -> tuple[float, float]:
    mean = float(np.average(labels, weights=weights))
    return mean, float(np.sqrt(np.average((labels - mean) ** 2, weights=weights))) or 1.0


def _check_classes(labels: Array) -> None:
    if len(np.unique(labels)) < 2:
        raise ValueError("all rows that it is fitted to have the same class")


def _by_class(classifier: Any, inputs: Any, classes: int) -> Array:
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
    """

    columns: Sequence[tuple[IdColumn, Sequence[int], int, Sequence[int]]]
    numbers: Sequence[int]
    width: int

    @classmethod
    def of(cls, features: FeatureSet) -> "_Wide":
        id_places, number_places = places(features.id_columns), places(features.number_columns)
        columns, width = [], 0
        for column in features.id_columns:
            if column.wide:
                weights = number_places[column.weights] if column.weights is not None else ()
                columns.append((column, id_places[column.name], width, weights))
                width += column.num_ids
        numbers = [place for column in features.number_columns if column.wide for place in number_places[column.name]]
        return cls(columns, numbers, width)

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
        return sparse.hstack([matrix, numbers[:, self.numbers].astype(np.float64)], format="csr")


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
    def of(cls, features: FeatureSet) -> "_TreeColumns":
        id_places, number_places = places(features.id_columns), places(features.number_columns)
        crosses = {cross.name for cross in features.crosses}
        buckets = {bucketized_name(name): safe_name(name) for name in features.encoded_features}
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
