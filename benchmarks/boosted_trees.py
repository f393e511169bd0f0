"""Gradient-boosted trees with their defaults, on the splits and the columns of a run of the pipeline.

scikit-learn's HistGradientBoosting is fitted here. CatBoost has an environment of its own, which is made when it is
first needed: requirements/catboost.txt names its packages.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score, root_mean_squared_error

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.run_root import RunRoot
from schemas.data import CsvOptions
from schemas.features import BinaryLabel, RegressionLabel
from schemas.tables.readers import open_table

# The limit of HistGradientBoosting: a category is a bin, and one of 256 bins is that of missing values.
_MAX_CATEGORIES = 255
_RESAMPLES = 200
_ROOT = Path(__file__).parent.parent
_CATBOOST_PROGRAM = Path(__file__).parent / "catboost_defaults.py"
_CATBOOST_REQUIREMENTS = _ROOT / "requirements" / "catboost.txt"
_CATBOOST_FOLDER = _ROOT / "data" / "tables" / "catboost"

Array = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """The metrics of a model on `test`.

    Attributes:
      metric: Name of the metric that is compared: auc, accuracy or r2.
      value: Its value.
      error: Its standard error, from resampled rows of `test`.
      rows: Number of rows of `test`.
      loss: Log loss of classes, or root mean squared error of a regression.
    """

    metric: str
    value: float
    error: float
    rows: int
    loss: float


@dataclass(frozen=True)
class Rows:
    """Input of the trees from a run.

    Attributes:
      fitted: Rows that they are fitted on: `train` and `eval`. The pipeline stops its training early by `eval`; the
        trees split off rows of their own for that, if they need them.
      test: Rows that they are judged on.
    """

    fitted: pa.Table
    test: pa.Table


def rows_of(config: PipelineConfig, root: RunRoot) -> Rows:
    """Return the rows of the last run.

    Args:
      config: Config of the run.
      root: Run root of the run.
    """
    examples = max((root.artifacts / "ExampleGen" / "examples").iterdir(), key=lambda folder: int(folder.name))
    fitted = pa.concat_tables([_split(examples, name) for name in ("train", "eval")], promote_options="default")
    return Rows(fitted, _split(examples, config.evaluation.split))


def hist_gradient_boosting(config: PipelineConfig, rows: Rows) -> Score:
    """Fit scikit-learn's trees and return their metrics on `test`.

    Args:
      config: Config of the run.
      rows: Rows of the run.
    """
    encoder = _Encoder(config, rows.fitted)
    fitted, test = encoder.encode(rows.fitted), encoder.encode(rows.test)
    settings: dict[str, Any] = {"categorical_features": encoder.categorical, "random_state": 0}
    labels = rows.fitted[config.label.column]
    if isinstance(config.label, RegressionLabel):
        regressor = HistGradientBoostingRegressor(**settings).fit(fitted, _numbers(labels))
        return _judge(config, rows.test, regressor.predict(test), [])
    classifier = HistGradientBoostingClassifier(**settings).fit(fitted, _strings(labels))
    return _judge(config, rows.test, classifier.predict_proba(test), list(classifier.classes_))


def catboost(config: PipelineConfig, rows: Rows) -> Score:
    """Fit CatBoost and return its metrics on `test`.

    A column whose values are all numbers is a number; the others are categories.

    Args:
      config: Config of the run.
      rows: Rows of the run.
    """
    label = config.label.column
    names = [name for name in config.features if name in rows.fitted.column_names]
    categories = [name for name in names if not _has_numbers(rows.fitted[name])]
    with tempfile.TemporaryDirectory() as folder:
        for split, table in (("fitted", rows.fitted), ("test", rows.test)):
            columns = [_catboost_column(table, name, name in categories) for name in names]
            labels = _numbers(table[label]) if config.label.kind == "regression" else table[label]
            packed = pa.table([*columns, labels], names=[*names, ""])
            pyarrow.parquet.write_table(packed, Path(folder) / f"{split}.parquet")
        command = [_catboost_environment(), str(_CATBOOST_PROGRAM), folder, config.label.kind, *categories]
        subprocess.run(command, check=True)
        predictions = np.load(Path(folder) / "predictions.npy")
        classes = (Path(folder) / "classes.txt").read_text().splitlines()
    return _judge(config, rows.test, predictions, classes)


def _catboost_column(table: pa.Table, name: str, is_category: bool) -> pa.Array:
    """Return a column as CatBoost takes it: a missing number is NaN, a missing category an empty string."""
    if name not in table.column_names:
        return pa.array([""] * table.num_rows) if is_category else pa.array(np.full(table.num_rows, np.nan))
    return pc.fill_null(table[name], "") if is_category else pa.array(_numbers(table[name]))


def _has_numbers(column: pa.ChunkedArray) -> bool:
    try:
        column.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _catboost_environment() -> Path:
    """Return the Python of CatBoost's environment, which is made where it does not exist or is another one."""
    done = _CATBOOST_FOLDER / _CATBOOST_REQUIREMENTS.name
    python = _CATBOOST_FOLDER / "bin" / "python"
    if not done.exists() or done.read_bytes() != _CATBOOST_REQUIREMENTS.read_bytes():
        shutil.rmtree(_CATBOOST_FOLDER, ignore_errors=True)
        uv = _ROOT / ".venv" / "tools" / "bin" / "uv"
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", _CATBOOST_FOLDER], check=True)
        subprocess.run(
            [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, _CATBOOST_REQUIREMENTS], check=True
        )
        # Last: it marks an environment that is whole.
        shutil.copyfile(_CATBOOST_REQUIREMENTS, done)
    return python


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


def _judge(config: PipelineConfig, test: pa.Table, predictions: Array, classes: list[str]) -> Score:
    """Return the metrics of predictions for `test`.

    Args:
      config: Config of the run.
      test: Rows of `test`.
      predictions: Numbers [rows], or shares of the classes [rows, classes].
      classes: Names of the classes.
    """
    if isinstance(config.label, RegressionLabel):
        return _score("r2", _numbers(test[config.label.column]), predictions)
    positions = {name: position for position, name in enumerate(classes)}
    labels = np.array([positions[name] for name in test[config.label.column].to_pylist()])
    if isinstance(config.label, BinaryLabel):
        positive = positions[config.label.positive]
        return _score("auc", labels == positive, predictions[:, positive])
    return _score("accuracy", labels, predictions)


def _score(metric: str, labels: Array, predictions: Array) -> Score:
    rng = np.random.default_rng(0)
    resampled: list[float] = []
    while len(resampled) < _RESAMPLES:
        rows = rng.integers(len(labels), size=len(labels))
        if metric == "r2" or len(np.unique(labels[rows])) > 1:
            resampled.append(_value(metric, labels[rows], predictions[rows]))
    if metric == "r2":
        loss = root_mean_squared_error(labels, predictions)
    else:
        loss = log_loss(labels, predictions, labels=range(predictions.shape[1] if metric == "accuracy" else 2))
    return Score(metric, _value(metric, labels, predictions), float(np.std(resampled)), len(labels), float(loss))


def _value(metric: str, labels: Array, predictions: Array) -> float:
    match metric:
        case "auc":
            return float(roc_auc_score(labels, predictions))
        case "accuracy":
            return float(accuracy_score(labels, predictions.argmax(axis=1)))
    return float(r2_score(labels, predictions))
