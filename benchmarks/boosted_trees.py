"""scikit-learn's HistGradientBoosting with its defaults, on the splits and the columns of a run of the pipeline."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score

from pipeline.config import PipelineConfig
from pipeline.run_root import RunRoot
from schemas.data import CsvOptions
from schemas.features import BinaryLabel, MulticlassLabel, RegressionLabel
from schemas.readers import open_table

# The limit of HistGradientBoosting: a category is a bin, and one of 256 bins is that of missing values.
_MAX_CATEGORIES = 255
_RESAMPLES = 200

Array = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """The metrics of a model on `test`.

    Attributes:
      metric: Name of the metric that is compared: auc, accuracy or r2.
      value: Its value.
      error: Its standard error, from resampled rows of `test`.
      rows: Number of rows of `test`.
      log_loss: Log loss of classes; None for a regression.
    """

    metric: str
    value: float
    error: float
    rows: int
    log_loss: float | None


def score(config: PipelineConfig, root: RunRoot) -> Score:
    """Fit the trees on `train` and `eval` of the last run and return their metrics on `test`.

    The pipeline stops its training early by `eval`; the trees split off rows of their own for that, if they need them.

    Args:
      config: Config of the run.
      root: Run root of the run.
    """
    examples = max((root.artifacts / "ExampleGen" / "examples").iterdir(), key=lambda folder: int(folder.name))
    fitted = pa.concat_tables([_split(examples, name) for name in ("train", "eval")], promote_options="default")
    test = _split(examples, config.evaluation.split)
    encoder = _Encoder(config, fitted)
    label = config.label.column
    match config.label:
        case RegressionLabel():
            model = HistGradientBoostingRegressor(categorical_features=encoder.categorical, random_state=0)
            model.fit(encoder.encode(fitted), _numbers(fitted[label]))
            return _score("r2", _numbers(test[label]), model.predict(encoder.encode(test)))
        case BinaryLabel() | MulticlassLabel():
            model = HistGradientBoostingClassifier(categorical_features=encoder.categorical, random_state=0)
            model.fit(encoder.encode(fitted), _strings(fitted[label]))
            shares = model.predict_proba(encoder.encode(test))
            labels = np.searchsorted(model.classes_, _strings(test[label]))
    if isinstance(config.label, BinaryLabel):
        positive = int(np.searchsorted(model.classes_, config.label.positive))
        return _score("auc", labels == positive, shares[:, positive])
    return _score("accuracy", labels, shares)


def _split(examples: Path, name: str) -> pa.Table:
    batches = [
        texts.columns
        for path in sorted((examples / f"Split-{name}").iterdir())
        for texts in open_table(str(path), "tfrecord", CsvOptions()).batches()
    ]
    return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="default")


class _Encoder:
    """Columns as numbers: numbers as they are, strings as the codes of their categories, NaN where one is missing.

    Args:
      config: Config of the run.
      fitted: Rows that the trees are fitted on.
    """

    def __init__(self, config: PipelineConfig, fitted: pa.Table) -> None:
        types = config.feature_set.column_types
        self._names = [name for name in config.features if name in fitted.column_names]
        self._categories: dict[str, pa.Array] = {}
        for name in self._names:
            if types[name] == "string":
                values = pc.unique(fitted[name].drop_null())
                self._categories[name] = values.take(pc.sort_indices(values))
        self.categorical = [
            len(self._categories.get(name, ())) in range(1, _MAX_CATEGORIES + 1) for name in self._names
        ]

    def encode(self, table: pa.Table) -> Array:
        return np.column_stack([self._encode(table, name) for name in self._names])

    def _encode(self, table: pa.Table, name: str) -> Array:
        if name not in table.column_names:
            return np.full(table.num_rows, np.nan)
        if name not in self._categories:
            return _numbers(table[name])
        codes = pc.index_in(table[name], self._categories[name], skip_nulls=True)
        return np.asarray(codes.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False))


def _numbers(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False))


def _strings(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.to_pylist(), dtype=object).astype(str)


def _score(metric: str, labels: Array, predictions: Array) -> Score:
    rng = np.random.default_rng(0)
    resampled: list[float] = []
    while len(resampled) < _RESAMPLES:
        rows = rng.integers(len(labels), size=len(labels))
        if metric == "r2" or len(np.unique(labels[rows])) > 1:
            resampled.append(_value(metric, labels[rows], predictions[rows]))
    classes = range(predictions.shape[1] if metric == "accuracy" else 2)
    loss = None if metric == "r2" else float(log_loss(labels, predictions, labels=classes))
    return Score(metric, _value(metric, labels, predictions), float(np.std(resampled)), len(labels), loss)


def _value(metric: str, labels: Array, predictions: Array) -> float:
    match metric:
        case "auc":
            return float(roc_auc_score(labels, predictions))
        case "accuracy":
            return float(accuracy_score(labels, predictions.argmax(axis=1)))
    return float(r2_score(labels, predictions))
