"""A peer with its defaults; a program of the peers' environment, which benchmarks/peers.py starts.

    python peer_program.py ROWS RESULT PEER KIND SEED

ROWS has fitted.parquet and test.parquet. Numbers are floats, NaN where one is missing; categories are strings, empty
where one is missing. The last column is the label. RESULT gets predictions.npy: numbers [rows], or shares of
the classes [rows, classes]. It also gets result.json, with the names of the classes, the seconds of the training and
the microseconds that a row takes to predict.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

# The limit of HistGradientBoosting: a category is a bin, and one of 256 bins is that of missing values.
_MAX_CATEGORIES = 255
_TIMED_ROWS = 10_000
_TIMED_CALLS = 3

Rows = TypeVar("Rows")
# A trained model: its predictions of rows, and the names of its classes.
Trained = tuple[Callable[[pd.DataFrame], Any], list[Any]]


def main(rows: Path, result: Path, peer: str, kind: str, seed: int) -> None:
    """Fit and predict.

    Args:
      rows: Folder of the rows.
      result: Folder of the predictions.
      peer: Name of the peer.
      kind: Kind of label: binary, multiclass or regression.
      seed: Seed of the training.
    """
    fit, encode = PEERS[peer]
    fitted, test = (pd.read_parquet(rows / f"{split}.parquet") for split in ("fitted", "test"))
    labels = fitted.iloc[:, -1] if kind == "regression" else fitted.iloc[:, -1].astype(str)
    fitted, test = encode(fitted.iloc[:, :-1], test.iloc[:, :-1])
    started = time.perf_counter()
    predict, classes = fit(fitted, labels, kind, seed)
    seconds = time.perf_counter() - started
    np.save(result / "predictions.npy", np.asarray(predict(test)))
    times = -(-_TIMED_ROWS // len(test))
    timed = measure_microseconds(predict, pd.concat([test] * times, ignore_index=True), times * len(test))
    measured = {"classes": [str(name) for name in classes], "train_seconds": seconds, "microseconds": timed}
    (result / "result.json").write_text(json.dumps(measured))


def measure_microseconds(predict: Callable[[Rows], object], rows: Rows, count: int) -> float:
    """Return the microseconds a row of the fastest call; the first call is not timed.

    Args:
      predict: Function that predicts.
      rows: Its argument.
      count: Number of rows.
    """
    predict(rows)
    seconds = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        predict(rows)
        seconds.append(time.perf_counter() - started)
    return 1e6 * min(seconds) / count


def _keep(fitted: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return fitted, test


def encode_categories(fitted: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the columns of strings as categories; a string that was not fitted is missing.

    Args:
      fitted: Rows that the model is fitted to.
      test: Further rows.
    """
    both = fitted.copy(), test.copy()
    for name in _categories(fitted):
        dtype = pd.CategoricalDtype(sorted(set(fitted[name]) - {""}))
        for frame in both:
            frame[name] = frame[name].astype(dtype)
    return both


def encode_few_categories(fitted: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return categories; columns with too many for HistGradientBoosting are their codes.

    Args:
      fitted: Rows that the model is fitted to.
      test: Further rows.
    """
    both = encode_categories(fitted, test)
    for name in _categories(fitted):
        if len(both[0][name].cat.categories) > _MAX_CATEGORIES:
            for frame in both:
                frame[name] = frame[name].cat.codes.astype(float).where(frame[name].notna())
    return both


def _categories(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]


def _fit_catboost(fitted: pd.DataFrame, labels: "pd.Series[Any]", kind: str, seed: int) -> Trained:
    import catboost

    settings = {"cat_features": _categories(fitted), "random_seed": seed}
    settings |= {"verbose": False, "allow_writing_files": False}
    if kind == "regression":
        return catboost.CatBoostRegressor(**settings).fit(fitted, labels).predict, []
    classifier = catboost.CatBoostClassifier(**settings).fit(fitted, labels)
    return classifier.predict_proba, list(classifier.classes_)


def _fit_lightgbm(fitted: pd.DataFrame, labels: "pd.Series[Any]", kind: str, seed: int) -> Trained:
    import lightgbm

    settings = {"random_state": seed, "verbose": -1}
    if kind == "regression":
        return lightgbm.LGBMRegressor(**settings).fit(fitted, labels).predict, []
    classifier = lightgbm.LGBMClassifier(**settings).fit(fitted, labels)
    return classifier.predict_proba, list(classifier.classes_)


def _fit_scikit_learn(fitted: pd.DataFrame, labels: "pd.Series[Any]", kind: str, seed: int) -> Trained:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    # The default from scikit-learn 1.6 on.
    settings = {"categorical_features": "from_dtype", "random_state": seed}
    if kind == "regression":
        return HistGradientBoostingRegressor(**settings).fit(fitted, labels).predict, []
    classifier = HistGradientBoostingClassifier(**settings).fit(fitted, labels)
    return classifier.predict_proba, list(classifier.classes_)


def _fit_ydf(fitted: pd.DataFrame, labels: "pd.Series[Any]", kind: str, seed: int) -> Trained:
    import ydf

    ydf.verbose(0)
    task = ydf.Task.REGRESSION if kind == "regression" else ydf.Task.CLASSIFICATION
    label = "label"
    learner = ydf.GradientBoostedTreesLearner(label=label, task=task, random_seed=seed)
    model = learner.train(fitted.assign(**{label: labels}))
    if kind == "regression":
        return model.predict, []
    if kind == "multiclass":
        return model.predict, model.label_classes()

    def predict_shares(rows: pd.DataFrame) -> Any:
        # Those of the second class alone.
        shares = model.predict(rows)
        return np.stack([1 - shares, shares], axis=1)

    return predict_shares, model.label_classes()


# By name: how to fit it, and how it takes the rows.
PEERS: dict[str, tuple[Callable[..., Trained], Callable[..., tuple[pd.DataFrame, pd.DataFrame]]]] = {
    "lightgbm": (_fit_lightgbm, encode_categories),
    "catboost": (_fit_catboost, _keep),
    "ydf": (_fit_ydf, _keep),
    "scikit-learn": (_fit_scikit_learn, encode_few_categories),
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
