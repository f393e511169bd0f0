"""TFMA's own metrics and plots, Keras's, and classes of the user's own, on the arrays of rows that Evaluator has.

These take one row after the other, unless all they need is a histogram of the predictions: that is counted at once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import calibration_histogram, metric_types, metric_util
from tensorflow_model_analysis.metrics import multi_class_confusion_matrix_metrics as matrices
from tensorflow_model_analysis.metrics.tf_metric_wrapper import tf_metric_computations
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils.keras_lib import tf_keras

from cli.errors import ConfigError, PipelineError
from components.config import TfmaMetric
from components.evaluator.model_outputs import to_probabilities
from schemas.declaration import did_you_mean
from schemas.features import LabelKind
from schemas.user_code import UserCode

_KEY = "evaluation.metrics"
ROW_METRIC = "RowMetric"
_COMPUTATIONS = (metric_types.DerivedMetricComputation, metric_types.CrossSliceMetricComputation)
# Attribute of a class of the user's own whose combiner takes arrays of rows.
TAKES_BATCHES = "takes_batches"
# Plots by the kind of label: curves of precision, recall and ROC are drawn from the matrices of the first.
PLOTS: Mapping[LabelKind, tuple[TfmaMetric, ...]] = {
    "binary": (TfmaMetric(class_name="ConfusionMatrixPlot"), TfmaMetric(class_name="CalibrationPlot")),
    "multiclass": (TfmaMetric(class_name="MultiClassConfusionMatrixPlot"),),
    "regression": (),
}


def check_metrics(metrics: Sequence[TfmaMetric], columns: Iterable[str]) -> None:
    """Check that the classes exist, take their arguments, and ask for features of the table.

    Args:
      metrics: Metrics of the config.
      columns: Columns of the table.

    Raises:
      ConfigError: One does not.
    """
    build_metrics(metrics)
    try:
        find_features([build_metric_config(metric) for metric in metrics if metric.is_own], columns)
    except PipelineError as error:
        raise ConfigError(str(error)) from error


def build_metrics(metrics: Sequence[TfmaMetric]) -> None:
    """Check that the classes exist and take their arguments.

    Raises:
      ConfigError: One does not.
    """
    try:
        for metric in metrics:
            _build(metric.class_name, metric.name, metric.config, read_code(metric))
    except PipelineError as error:
        raise ConfigError(str(error)) from error


def find_features(metrics: Iterable[config_pb2.MetricConfig], columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that metrics of the user's own ask for by TFMA's preprocessors.

    Args:
      metrics: TFMA's configs of metrics.
      columns: Columns of the table.

    Raises:
      ConfigError: One asks for a column that does not exist, or for columns that the network reads.
    """
    names = tuple(columns)
    asked: set[str] = set()
    for metric in metrics:
        arguments = json.loads(metric.config) if metric.class_name == ROW_METRIC else {}
        if not arguments.get("code"):
            continue
        for computation in RowMetric(**{**arguments, "is_batched": False}).computations(model_names=[""]):
            for preprocessor in getattr(computation, "preprocessors", None) or ():
                asked |= _read_filter(arguments["class_name"], preprocessor, names)
    return tuple(name for name in names if name in asked)


def _read_filter(class_name: str, preprocessor: Any, columns: Sequence[str]) -> set[str]:
    """Return the columns that a preprocessor reads: all, if it does not declare which."""
    declared = getattr(preprocessor, "include_filter", None)
    if declared is None:
        return {*columns}
    if constants.TRANSFORMED_FEATURES_KEY in declared:
        raise ConfigError(f"{_KEY}: {class_name} asks for transformed features; use metric_types.FeaturePreprocessor")
    if constants.FEATURES_KEY not in declared:
        return set()
    names = declared[constants.FEATURES_KEY]
    for name in names:
        if name not in columns:
            raise ConfigError(
                f"{_KEY}: {class_name} asks for the feature '{name}', which is not declared; "
                f"{did_you_mean(name, list(columns))}"
            )
    return {*(names or columns)}


def read_code(metric: TfmaMetric) -> UserCode | None:
    """Return the code of a class of the user's own; None for one of TFMA or Keras."""
    return UserCode.read(_KEY, metric.class_name) if metric.is_own else None


def build_metric_config(
    metric: TfmaMetric, *, is_batched: bool = True, is_logits: bool = False
) -> config_pb2.MetricConfig:
    """Return TFMA's config of a metric.

    Args:
      metric: Metric of the config.
      is_batched: Whether it gets arrays of rows, as from this project's Evaluator, not single rows.
      is_logits: Whether the predictions are logits, which it gets as probabilities.
    """
    code = read_code(metric)
    arguments = {
        "name": metric.name,
        "class_name": metric.class_name if code is None else f"{code.module}:{code.name}",
        "arguments": metric.config,
        "is_batched": is_batched,
        "is_logits": is_logits,
        "code": code.to_json() if code is not None else None,
    }
    return config_pb2.MetricConfig(class_name=ROW_METRIC, module=__name__, config=json.dumps(arguments))


def take_rows(config: str) -> str:
    """Return the config of a `RowMetric` that gets single rows, as TFMA itself has them."""
    return json.dumps({**json.loads(config), "is_batched": False})


class RowMetric(metric_types.Metric):
    """A metric that TFMA computes row by row; TFMA finds it through `MetricConfig(class_name="RowMetric", ...)`."""

    def __init__(
        self,
        name: str,
        class_name: str,
        arguments: Mapping[str, Any] | None = None,
        code: str | None = None,
        is_batched: bool = True,
        is_logits: bool = False,
    ) -> None:
        """Args:
        name: name of the metric.
        class_name: name of its class in TFMA or Keras.
        arguments: arguments of the class.
        code: code of a class of the user's own, as JSON.
        is_batched: whether it gets arrays of rows, not single rows.
        is_logits: whether the predictions are logits, which it gets as probabilities.
        """
        super().__init__(
            _build_computations,
            name=name,
            class_name=class_name,
            arguments=arguments,
            code=code,
            is_batched=is_batched,
            is_logits=is_logits,
        )


def _build_computations(
    name: str,
    class_name: str,
    arguments: Mapping[str, Any] | None = None,
    code: str | None = None,
    is_batched: bool = True,
    is_logits: bool = False,
    eval_config: Any = None,
    schema: Any = None,
    model_names: list[str] | None = None,
    output_names: list[str] | None = None,
    example_weighted: bool = False,
) -> list[Any]:
    own_code = UserCode.from_json(code) if code else None
    metric = _build(class_name, name, arguments or {}, own_code)
    # The combiner of such a class takes arrays of any number of rows.
    is_batched = is_batched and not getattr(metric, TAKES_BATCHES, False)
    if isinstance(metric, metric_types.Metric):
        with own_code.report_errors(own_code.name, type(metric)) if own_code is not None else nullcontext():
            computations = metric.computations(
                eval_config=eval_config,
                schema=schema,
                model_names=model_names or [""],
                output_names=output_names or [""],
                sub_keys=[None],
                example_weighted=example_weighted,
            )
        if own_code is not None:
            _check_computations(computations, own_code.locate(type(metric)), own_code.name)
    else:
        computations = [
            computation
            for model_name in model_names or [""]
            for computation in tf_metric_computations(
                [metric], eval_config=eval_config, model_name=model_name, example_weighted=example_weighted
            )
        ]
    if own_code is not None:
        computations = [_convert(computation, partial(_report_errors, code=own_code)) for computation in computations]
    if is_logits:
        computations = [_convert(computation, _take_logits) for computation in computations]
    return [_convert(computation, _take_arrays) for computation in computations] if is_batched else list(computations)


def _check_computations(computations: Any, place: str, name: str) -> None:
    """Check what a metric of the user's own makes, which TFMA does not.

    Raises:
      ConfigError: It is not a list of computations, or an argument of one has the wrong type.
    """
    problem = ""
    if not isinstance(computations, list | tuple):
        problem = f"returns {type(computations).__name__}; expected a list of MetricComputation"
        computations = ()
    for computation in computations:
        if isinstance(computation, metric_types.MetricComputation):
            preprocessors, combiner = computation.preprocessors, computation.combiner
            if not isinstance(preprocessors, list | tuple | None):
                kind = type(preprocessors).__name__
                problem = f"the second argument of MetricComputation is {kind}; expected a list of preprocessors"
            elif not isinstance(combiner, beam.CombineFn):
                kind = type(combiner).__name__
                problem = f"the third argument of MetricComputation is {kind}; expected a beam.CombineFn"
        elif not isinstance(computation, _COMPUTATIONS):
            problem = f"has {type(computation).__name__} in its list; expected MetricComputation alone"
    if problem:
        raise ConfigError(f"{_KEY}: {place}: {name}: {problem}")


def _convert(computation: Any, convert: Callable[[Any], Any]) -> Any:
    """Return a computation that is converted if it reads rows, and not other computations."""
    return convert(computation) if isinstance(computation, metric_types.MetricComputation) else computation


def _take_logits(computation: Any) -> Any:
    preprocessors = [_Probabilities(), *(computation.preprocessors or []), _Inputs()]
    return metric_types.MetricComputation(computation.keys, preprocessors, computation.combiner)


def _build(class_name: str, name: str, arguments: Mapping[str, Any], code: UserCode | None) -> Any:
    """Return the metric.

    Raises:
      ConfigError: There is no such class, or it is not of a metric.
      PipelineError: It does not take the arguments.
    """
    if code is not None:
        metric_class = code.load()
        if not isinstance(metric_class, type) or not issubclass(metric_class, metric_types.Metric):
            raise ConfigError(
                f"{_KEY}: {code.locate(metric_class)}: {code.name} is not a metric; expected a subclass of "
                "tensorflow_model_analysis.metrics.Metric"
            )
        with code.report_errors(code.name, metric_class):
            return metric_class(**{"name": name, **arguments})
    classes = {**_list_keras_classes(), **metric_types.registered_metrics()}
    if class_name not in classes:
        raise ConfigError(
            f"{_KEY}: TFMA and Keras have no metric '{class_name}'; {did_you_mean(class_name, sorted(classes))}"
        )
    try:
        return classes[class_name](**{"name": name, **arguments})
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{_KEY}: {class_name} does not take {dict(arguments)}: {str(error).splitlines()[0]}"
        ) from error


def _list_keras_classes() -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(tf_keras.metrics).items()
        if isinstance(value, type) and issubclass(value, tf_keras.metrics.Metric)
    }


def _take_arrays(computation: Any) -> Any:
    """Return a computation that takes arrays of rows."""
    combiner = computation.combiner
    if type(combiner) is calibration_histogram._CalibrationHistogramCombiner and not computation.preprocessors:
        return metric_types.MetricComputation(computation.keys, None, _BatchedHistogram(combiner))
    if type(combiner) is matrices._MultiClassConfusionMatrixCombiner and not computation.preprocessors:
        return metric_types.MetricComputation(computation.keys, None, _BatchedMatrix(combiner))
    return metric_types.MetricComputation(computation.keys, [_Rows(), *computation.preprocessors, _Inputs()], combiner)


def _report_errors(computation: Any, code: UserCode) -> Any:
    combiner = _OwnCombiner(computation.combiner, code)
    return metric_types.MetricComputation(computation.keys, computation.preprocessors, combiner)


class _OwnCombiner(beam.CombineFn):
    """A combiner of the user's own, whose errors name the line of its code and not the rows."""

    def __init__(self, combiner: beam.CombineFn, code: UserCode) -> None:
        self._combiner = combiner
        self._code = code

    def setup(self, *args: Any, **kwargs: Any) -> None:
        with self._code.report_errors("setup"):
            self._combiner.setup(*args, **kwargs)

    def create_accumulator(self) -> Any:
        with self._code.report_errors("create_accumulator"):
            return self._combiner.create_accumulator()

    def add_input(self, accumulator: Any, element: Any) -> Any:
        with self._code.report_errors("add_input"):
            return self._combiner.add_input(accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        with self._code.report_errors("merge_accumulators"):
            return self._combiner.merge_accumulators(accumulators)

    def compact(self, accumulator: Any) -> Any:
        with self._code.report_errors("compact"):
            return self._combiner.compact(accumulator)

    def extract_output(self, accumulator: Any) -> Any:
        """Return the values by MetricKey.

        Raises:
          PipelineError: the combiner raises, or returns something else.
        """
        with self._code.report_errors("extract_output"):
            values = self._combiner.extract_output(accumulator)
        if not isinstance(values, Mapping) or not all(isinstance(key, metric_types.MetricKey) for key in values):
            raise PipelineError(
                f"{_KEY}: {self._code.locate(self._combiner.extract_output)}: extract_output returns "
                f"{type(values).__name__}; return a dict of values by MetricKey"
            )
        return values


class _Rows(metric_types.Preprocessor):
    """From arrays of rows to single rows."""

    def process(self, extracts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for row in range(len(extracts[constants.LABELS_KEY])):
            yield {key: _SELECT_ROW.get(key, _select_row)(value, row) for key, value in extracts.items()}


def _select_row(value: Any, row: int) -> Any:
    if isinstance(value, dict):
        return {key: _select_row(inner, row) for key, inner in value.items()}
    return value[row] if value.ndim > 1 else value[row : row + 1]


# By the key of an extract: features are arrays of values by row, and the slices are those of all rows.
_SELECT_ROW: Mapping[str, Callable[[Any, int], Any]] = {
    constants.SLICE_KEY_TYPES_KEY: lambda value, _: value,
    constants.FEATURES_KEY: lambda value, row: {name: values[row] for name, values in value.items()},
}


class _Probabilities(metric_types.Preprocessor):
    """From logits to probabilities: one logit, or one for each class."""

    def process(self, extracts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {
            **extracts,
            constants.PREDICTIONS_KEY: _map_arrays(
                extracts[constants.PREDICTIONS_KEY], lambda row: to_probabilities(row, row.size)
            ),
        }


def _map_arrays(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the arrays of a model, or those by the names of models and outputs."""
    if isinstance(value, Mapping):
        return {key: _map_arrays(inner, convert) for key, inner in value.items()}
    return convert(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


class _Inputs(metric_types.Preprocessor):
    """From a row's extracts to what TFMA's combiners take."""

    def process(self, extracts: Any) -> Iterator[Any]:
        yield metric_util.to_standard_metric_inputs(extracts) if isinstance(extracts, dict) else extracts


# Places of buckets, and their sums.
_Histogram = tuple[np.ndarray, np.ndarray]


def _extract_arrays(combiner: Any, element: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions and weights of the rows that a combiner gets."""
    predictions = element.prediction
    if isinstance(predictions, dict):
        predictions = predictions[combiner._key.model_name]
    labels = np.asarray(element.label, np.float64)
    weights = np.asarray(element.example_weight, np.float64) if combiner._example_weighted else np.ones_like(labels)
    return labels, np.asarray(predictions, np.float64), weights


class _BatchedMatrix(matrices._MultiClassConfusionMatrixCombiner):
    """TFMA's confusion matrix of several classes, counted for all rows of an array at once."""

    def __init__(self, combiner: Any) -> None:
        """Count what another combiner would."""
        self.__dict__.update(combiner.__dict__)

    def add_input(self, accumulator: dict[float, Any], element: Any) -> dict[float, Any]:
        """Add all rows of an array."""
        labels, predictions, weights = _extract_arrays(self, element)
        predicted = predictions.argmax(axis=1)
        for threshold in self._thresholds:
            below = predictions.max(axis=1) <= threshold
            pairs = np.stack([labels.astype(np.int64), np.where(below, matrices.NO_PREDICTED_CLASS_ID, predicted)])
            distinct, rows = np.unique(pairs, axis=1, return_inverse=True)
            matrix = accumulator.setdefault(threshold, {})
            for (label, prediction), weight in zip(
                distinct.T.tolist(), np.bincount(rows.ravel(), weights, distinct.shape[1]).tolist(), strict=True
            ):
                key = matrices.MatrixEntryKey(label, prediction)
                matrix[key] = matrix.get(key, 0.0) + weight
        return accumulator


class _BatchedHistogram(calibration_histogram._CalibrationHistogramCombiner):
    """TFMA's histogram of the predictions of a binary label, counted for all rows of an array at once.

    An accumulator has the places of the buckets with rows, and their sums of labels, predictions and weights, [3,
    buckets]. Beam would encode each `Bucket` of TFMA's own by itself, half a million times for the 16,000 rows and 22
    slices of census.
    """

    def __init__(self, combiner: Any) -> None:
        """Count what another combiner would."""
        self.__dict__.update(combiner.__dict__)

    def create_accumulator(self) -> _Histogram:
        return np.zeros(0, np.int64), np.zeros((3, 0))

    def add_input(self, accumulator: _Histogram, element: Any) -> _Histogram:
        """Add all rows of an array."""
        labels, predictions, weights = _extract_arrays(self, element)
        finite = np.isfinite(predictions)
        predictions, labels, weights = predictions[finite], labels[finite], weights[finite]
        values = predictions if self._prediction_based_bucketing else labels
        places = ((values - self._left) / self._range * self._num_buckets + 1).astype(np.int64)
        rows = np.clip(places, 0, self._num_buckets + 1), np.stack([labels * weights, predictions * weights, weights])
        return self.merge_accumulators([accumulator, rows])

    def merge_accumulators(self, accumulators: Iterable[_Histogram]) -> _Histogram:
        """Add up the sums of equal places."""
        places, sums = zip(*accumulators, strict=True)
        distinct, buckets = np.unique(np.concatenate(places), return_inverse=True)
        parts = np.concatenate(sums, axis=1)
        return distinct, np.stack([np.bincount(buckets, part, len(distinct)) for part in parts])

    def extract_output(self, accumulator: _Histogram) -> dict[Any, list[Any]]:
        """Return TFMA's buckets."""
        places, sums = accumulator
        buckets = zip(places.tolist(), *sums.tolist(), strict=True)
        return {self._key: [calibration_histogram.Bucket(*bucket) for bucket in buckets]}
