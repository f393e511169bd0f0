"""Gradient-boosted trees with their defaults, on the splits and the columns of a run of the pipeline.

scikit-learn is in the lock. The other peers have an environment of their own, which is made when one is first needed:
requirements/peers.txt names their packages.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score, root_mean_squared_error

from benchmarks import peer_program, public_tables
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.run_root import RunRoot
from schemas.data import CsvOptions
from schemas.features import BinaryLabel, Label, RegressionLabel
from schemas.tables.readers import open_table

SCIKIT_LEARN = "scikit-learn"
# By their packages' names.
PEERS = {"lightgbm": "LightGBM", "catboost": "CatBoost", "ydf": "YDF", SCIKIT_LEARN: SCIKIT_LEARN}
REQUIREMENTS = Path(__file__).parent.parent / "requirements" / "peers.txt"
# Packages that the program needs beside the peer: it reads rows, and LightGBM's classes are scikit-learn's.
_FURTHER = ("pandas", "pyarrow", SCIKIT_LEARN)
_RESAMPLES = 200
# Files of the rows in a folder, which the program reads.
ROW_FILES = ("fitted.parquet", "test.parquet")
_PROGRAM = Path(peer_program.__file__)
_UV = Path(__file__).parent.parent / ".venv" / "tools" / "bin" / "uv"

Array = NDArray[Any]


class PeerError(Exception):
    """A peer that cannot be installed, fitted or judged; the text is one line."""


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


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model for `test`, and the time that it took.

    Attributes:
      values: Numbers [rows], or shares of the classes [rows, classes].
      classes: Names of the classes; none of a regression.
      train_seconds: Seconds of the training.
      microseconds: Microseconds that a row takes to predict.
    """

    values: Array
    classes: list[str]
    train_seconds: float
    microseconds: float


@dataclass(frozen=True)
class Score:
    """The metrics of a model on `test`.

    Attributes:
      metric: Name of the metric that is compared: auc, accuracy or r2.
      value: Its value.
      rows: Number of rows of `test`.
      loss: Log loss of classes, or root mean squared error of a regression.
    """

    metric: str
    value: float
    rows: int
    loss: float


def rows_of(config: PipelineConfig, root: RunRoot) -> Rows:
    """Return the rows of the last run.

    Args:
      config: Config of the run.
      root: Run root of the run.
    """
    examples = max((root.artifacts / "ExampleGen" / "examples").iterdir(), key=lambda folder: int(folder.name))
    fitted = pa.concat_tables([_split(examples, name) for name in ("train", "eval")], promote_options="default")
    return Rows(fitted, _split(examples, config.evaluation.split))


def _split(examples: Path, name: str) -> pa.Table:
    batches = [
        texts.columns
        for path in sorted((examples / f"Split-{name}").iterdir())
        for texts in open_table(str(path), "tfrecord", CsvOptions()).read_batches()
    ]
    return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="default")


def write_rows(config: PipelineConfig, rows: Rows, folder: Path) -> str:
    """Write the rows for the program, and return the SHA-256 of their values.

    A column whose values are all numbers is a number, such as the seconds of a time. Any other column is a category.

    Args:
      config: Config of the run.
      rows: Rows of the run.
      folder: Folder of the files.
    """
    names = [name for name in config.features if name in rows.fitted.column_names]
    categories = {name for name in names if not _has_numbers(rows.fitted[name])}
    label = config.label.column
    digest = hashlib.sha256()
    for file, table in zip(ROW_FILES, (rows.fitted, rows.test), strict=True):
        columns = [_column(table, name, name in categories) for name in names]
        labels = _numbers(table[label]) if isinstance(config.label, RegressionLabel) else table[label]
        # Some packages reject characters in names.
        packed = pa.table([*columns, labels], names=[*(f"x{number}" for number in range(len(names))), "label"])
        pyarrow.parquet.write_table(packed, folder / file)
        digest.update(pd.util.hash_pandas_object(packed.to_pandas(), index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _column(table: pa.Table, name: str, is_category: bool) -> pa.Array:
    """Return a column; a missing number is NaN, a missing category an empty string."""
    if name not in table.column_names:
        return pa.array([""] * table.num_rows) if is_category else pa.array(np.full(table.num_rows, np.nan))
    return pc.fill_null(table[name], "") if is_category else pa.array(_numbers(table[name]))


def _has_numbers(column: pa.ChunkedArray) -> bool:
    try:
        column.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _numbers(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False))


def version(peer: str) -> str:
    """Return the version of a peer's package.

    Args:
      peer: Key of `PEERS`.
    """
    return metadata.version(peer) if peer == SCIKIT_LEARN else _pin(peer).partition("==")[2]


def _pin(package: str) -> str:
    """Return a package with its version as `REQUIREMENTS` pins it."""
    match = re.search(rf"^{re.escape(package)}==[^ ]+", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        raise PeerError(f"{package}: requirements/{REQUIREMENTS.name} does not pin it; run: make lock")
    return match[0]


def install(peer: str, environment: Path = public_tables.FOLDER / "peers") -> Path:
    """Return the Python of the peer's environment, with the packages of the peer.

    Args:
      peer: Key of `PEERS`.
      environment: Folder of the environment.

    Raises:
      PeerError: The packages cannot be installed.
    """
    if peer == SCIKIT_LEARN:
        return Path(sys.executable)
    python = environment / "bin" / "python"
    done = environment / f"{peer}.txt"
    pins = [_pin(package) for package in (peer, *_FURTHER)]
    content = " ".join(pins) + "\n" + REQUIREMENTS.read_text()
    if done.exists() and done.read_text() == content:
        return python
    if not (python.exists() and any(environment.glob("*.txt"))):
        # An interrupted command leaves half of one.
        shutil.rmtree(environment, ignore_errors=True)
        _run_uv(peer, "venv", "--python", "3.11", environment)
    # Each peer by itself: one that cannot be installed leaves the others.
    _run_uv(peer, "pip", "install", "--require-hashes", "--python", python, "--constraint", REQUIREMENTS, *pins)
    # Last: it marks a peer that is installed.
    done.write_text(content)
    return python


def _run_uv(peer: str, *arguments: str | Path) -> None:
    command = [str(_UV), *map(str, arguments), "--quiet", "--color", "never"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerError(f"{PEERS[peer]} is not installed: {_UV.name}: {error.strerror}; run: make lock") from error
    if done.returncode:
        reason = " ".join(done.stderr.split()).removeprefix("error: ")[:300]
        raise PeerError(f"{PEERS[peer]} is not installed: {reason}")


def fit(peer: str, python: Path, rows: Path, label: Label, seed: int = 0) -> Predictions:
    """Fit a peer and return its predictions for `test`.

    Args:
      peer: Key of `PEERS`.
      python: Python that has its packages.
      rows: Folder that `write_rows` has filled.
      label: Declaration of the label.
      seed: Seed of the training.

    Raises:
      PeerError: The program failed.
    """
    with tempfile.TemporaryDirectory() as result:
        command = [str(python), str(_PROGRAM), str(rows), result, peer, label.kind, str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise PeerError(f"{PEERS[peer]} failed: {reason}")
        measured = json.loads((Path(result) / "result.json").read_text())
        return Predictions(np.load(Path(result) / "predictions.npy"), **measured)


def judge(label: Label, test: pa.Table, predictions: Predictions) -> Score:
    """Return the metrics of predictions for `test`.

    Args:
      label: Declaration of the label.
      test: Rows of `test`.
      predictions: Predictions for them.

    Raises:
      PeerError: A class of `test` is not among those predicted.
    """
    return score(*_pairs(label, test, predictions))


def standard_error(label: Label, test: pa.Table, predictions: Predictions) -> float:
    """Return the standard error of the metric, from resampled rows of `test`.

    Args:
      label: Declaration of the label.
      test: Rows of `test`.
      predictions: Predictions for them.
    """
    metric, labels, values = _pairs(label, test, predictions)
    rng = np.random.default_rng(0)
    resampled: list[float] = []
    while len(resampled) < _RESAMPLES:
        rows = rng.integers(len(labels), size=len(labels))
        if metric == "r2" or len(np.unique(labels[rows])) > 1:
            resampled.append(_value(metric, labels[rows], values[rows]))
    return float(np.std(resampled))


def _pairs(label: Label, test: pa.Table, predictions: Predictions) -> tuple[str, Array, Array]:
    """Return the metric, the labels and what is predicted of them."""
    if isinstance(label, RegressionLabel):
        return "r2", _numbers(test[label.column]), predictions.values
    positions = {name: position for position, name in enumerate(predictions.classes)}
    names = test[label.column].to_pylist()
    if unknown := sorted(set(names) - positions.keys()):
        raise PeerError(f"{label.column}: the class '{unknown[0]}' of test is in no row of train and eval")
    labels = np.array([positions[name] for name in names])
    if isinstance(label, BinaryLabel):
        positive = positions[label.positive]
        return "auc", labels == positive, predictions.values[:, positive]
    return "accuracy", labels, predictions.values


def score(metric: str, labels: Array, values: Array) -> Score:
    """Return the metrics of predictions.

    Args:
      metric: Name of the metric beside the loss: auc, accuracy or r2.
      labels: Numbers, IDs of the classes, or whether a row is of the positive class, [rows].
      values: Numbers [rows], or shares of the classes [rows, classes].
    """
    if metric == "r2":
        loss = root_mean_squared_error(labels, values)
    else:
        loss = log_loss(labels, values, labels=range(values.shape[1] if metric == "accuracy" else 2))
    return Score(metric, _value(metric, labels, values), len(labels), float(loss))


def _value(metric: str, labels: Array, values: Array) -> float:
    match metric:
        case "auc":
            return float(roc_auc_score(labels, values))
        case "accuracy":
            return float(accuracy_score(labels, values.argmax(axis=1)))
    return float(r2_score(labels, values))
