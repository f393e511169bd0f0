"""A metric that is undefined is never a number, and decides nothing."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from cli import progress
from cli.errors import DataError, PipelineError
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from tests.trainer.test_model import FEATURES, SPEC, training, write_source
from trainer.config import EarlyStopping, Model, Optimizer, Training
from trainer.health import DivergenceError
from trainer.input import Source
from trainer.run import FitHistory, _EarlyStopping, fit
from trainer.search import tuner_fn
from trainer.summary import TrainerSummary

pytestmark = pytest.mark.integration

AUC_IS_UNDEFINED = (
    "auc is undefined on eval, which has no row of class '{}'; give eval rows of both classes (data.splits.eval), or "
    "choose log_loss"
)
DIVERGING = Optimizer(name="sgd", learning_rate=1e30)


@pytest.fixture
def heard() -> Any:
    lines: list[str] = []
    progress.listeners.append(lines.append)
    yield lines
    progress.listeners.remove(lines.append)


def fit_network(train: Source, evaluation: Source, settings: Training, log_folder: Path | None = None) -> FitHistory:
    model = Model(hidden_units=(4,))
    folder = str(log_folder) if log_folder is not None else None
    return fit(train=train, evaluation=evaluation, model=model, training=settings, seed=1, log_folder=folder)[1]


@pytest.fixture
def train(tmp_path: Path) -> Source:
    return write_source(tmp_path / "train.gz")


@pytest.fixture
def one_class(tmp_path: Path) -> Source:
    """Return an eval split without a row of class 'yes'."""
    return write_source(tmp_path / "eval.gz", rows=40, positive_share=0)


def list_logged(folder: Path) -> set[str]:
    """Return the names that TensorBoard shows for eval."""
    files = sorted((folder / "validation").glob("events*"))
    events = [e for file in files for e in tf.compat.v1.train.summary_iterator(str(file))]
    return {value.tag for event in events for value in event.summary.value}


def test_auc_without_both_classes_is_undefined_wherever_it_is_shown(
    train: Source, one_class: Source, tmp_path: Path, heard: list[str]
) -> None:
    settings = training(epochs=4, early_stopping=EarlyStopping(patience=0))
    history = fit_network(train, one_class, settings, tmp_path / "logs")
    losses = history.metrics["val_log_loss"]
    assert history.metrics["val_auc"] == [None] * len(losses)
    assert losses[history.kept_epoch] == min(losses)  # type: ignore[type-var]
    written = json.loads(json.dumps(asdict(history), allow_nan=False))
    assert written["metrics"]["val_auc"][0] is None
    assert heard[0] == "auc is undefined on eval, which has no row of class 'yes'"
    assert heard[1].startswith("epoch 1 of 4: loss 0.")
    assert heard[1].endswith(", val_auc undefined")
    names = list_logged(tmp_path / "logs")
    assert "epoch_log_loss" in names
    assert "epoch_auc" not in names
    summary = TrainerSummary(epochs=4, kept_epoch=2, metrics={"log_loss": 0.25, "auc": None})
    assert summary.headline == "eval log loss 0.2500, AUC undefined, kept epoch 2 of 4"


@pytest.mark.parametrize(("share", "absent"), [(0.0, "yes"), (1.0, "no")])
def test_early_stopping_on_an_undefined_metric_is_rejected_before_training(
    share: float, absent: str, train: Source, tmp_path: Path, heard: list[str]
) -> None:
    evaluation = write_source(tmp_path / "eval.gz", rows=40, positive_share=share)
    with pytest.raises(DataError) as rejected:
        fit_network(train, evaluation, training(early_stopping=EarlyStopping(metric="auc", patience=1)))
    assert str(rejected.value) == f"training.early_stopping.metric: {AUC_IS_UNDEFINED.format(absent)}"
    assert heard == []


def make_tuner(
    train: Source, evaluation: Source, settings: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Return what TFX's Tuner gets, without a Transform output."""
    metadata = SimpleNamespace(schema=schema_pb2.Schema())
    output = SimpleNamespace(transformed_feature_spec=lambda: SPEC, transformed_metadata=metadata)
    monkeypatch.setattr("trainer.search.tft.TFTransformOutput", lambda _: output)
    config = {
        "feature_set": FEATURES.model_dump_json(),
        "model": Model(hidden_units=(4,)).model_dump_json(),
        "training": training(**settings).model_dump_json(),
        "seed": 3,
        "read_options": ReadOptions().model_dump_json(),
    }
    files = {
        "train_files": pattern_of(train, folder / "splits" / "train"),
        "eval_files": pattern_of(evaluation, folder / "splits" / "eval"),
    }
    return tuner_fn(
        SimpleNamespace(custom_config=config, transform_graph_path="", working_dir=str(folder), **files)
    ).tuner


def pattern_of(source: Source, folder: Path) -> list[str]:
    """Return what TFX gives for a split: a pattern of the files in a folder of its own."""
    folder.mkdir(parents=True)
    for file in source.files:
        shutil.copy(file, folder)
    return [str(folder / "*")]


EPOCHS = {"training.epochs": {"choices": [1, 2]}}


def test_a_search_by_an_undefined_metric_is_rejected_before_its_first_trial(
    train: Source, one_class: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"search": {"max_trials": 2, "metric": "auc", "parameters": EPOCHS}}
    with pytest.raises(DataError) as rejected:
        make_tuner(train, one_class, settings, tmp_path, monkeypatch)
    assert str(rejected.value) == f"training.search.metric: {AUC_IS_UNDEFINED.format('yes')}"
    settings["search"]["metric"] = "log_loss"
    tuner = make_tuner(train, one_class, settings, tmp_path / "defined", monkeypatch)
    tuner.search()
    assert all(np.isfinite(trial.score) for trial in tuner.oracle.get_best_trials(2))


def test_a_split_without_rows_is_named(train: Source, tmp_path: Path) -> None:
    empty = write_source(tmp_path / "empty.gz", rows=0)
    with pytest.raises(DataError, match=r"^eval has no rows, and training is watched on it; check data.splits.eval$"):
        fit_network(train, empty, training())
    with pytest.raises(DataError, match=r"^train has no rows; check data.splits.train$"):
        fit_network(empty, train, training())
    with pytest.raises(DataError, match=r"^train has no rows; check data.splits.train$"):
        fit_network(Source([], FEATURES, SPEC), train, training())


def test_accuracy_of_an_eval_split_with_one_of_several_classes_is_defined(train: Source, tmp_path: Path) -> None:
    features = FeatureSet.model_validate(
        {
            "features": {"color_X_shape": {"kind": "hash", "num_ids": 12, "embedding": 4}, "size": {"kind": "numeric"}},
            "label": {"kind": "multiclass", "column": "shape", "classes": ["a", "b", "c"]},
        }
    )
    evaluation = Source(write_source(tmp_path / "eval.gz", rows=1).files, features, SPEC)
    stopping = EarlyStopping(metric="accuracy", patience=1)
    history = fit_network(Source(train.files, features, SPEC), evaluation, training(early_stopping=stopping))
    assert {*history.metrics["val_accuracy"]} <= {0.0, 1.0}


def test_a_training_that_diverges_ends_with_its_remedy(train: Source, heard: list[str]) -> None:
    with pytest.raises(DivergenceError) as diverged:
        fit_network(train, train, training(deep_optimizer=DIVERGING, wide_optimizer=DIVERGING))
    assert str(diverged.value).startswith(
        "training stopped at step 2 (batch 2 of 4 of epoch 1): the loss is not finite"
    )
    assert str(diverged.value).endswith(
        "; lower training.deep_optimizer.learning_rate (now 1e+30), or set training.deep_optimizer.clip_norm"
    )
    assert heard == []


def test_early_stopping_skips_an_epoch_whose_metric_is_undefined() -> None:
    stopping = _EarlyStopping(monitor="val_log_loss", mode="min", patience=1, restore_best_weights=True)
    stopping.set_model(SimpleNamespace(get_weights=lambda: [], set_weights=lambda _: None, stop_training=False))
    stopping.on_train_begin()
    for epoch, logs in enumerate([{}, {"val_log_loss": 0.5}, {"val_log_loss": 0.4}, {}]):
        stopping.on_epoch_end(epoch, logs)
    assert (stopping.best_epoch, stopping.model.stop_training) == (2, False)


def test_a_trial_that_diverges_is_never_the_best(
    train: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: list[str]
) -> None:
    rates = {"training.deep_optimizer.learning_rate": {"choices": [1e30, 0.01]}}
    settings = {"deep_optimizer": DIVERGING.model_dump(), "search": {"max_trials": 2, "parameters": rates}}
    tuner = make_tuner(train, train, settings, tmp_path / "some", monkeypatch)
    tuner.search()
    best, diverged = tuner.oracle.get_best_trials(2)
    assert (best.status, diverged.status, diverged.score) == ("COMPLETED", "FAILED", None)
    assert tuner.get_best_hyperparameters()[0].values == {"training.deep_optimizer.learning_rate": "0.01"}
    assert any("log_loss undefined: training stopped at step 2" in line for line in heard)
    rates["training.deep_optimizer.learning_rate"]["choices"] = [1e30, 1e29]
    tuner = make_tuner(train, train, settings, tmp_path / "all", monkeypatch)
    with pytest.raises(PipelineError, match=r"^training.search: all 2 trials diverged; search lower learning rates"):
        tuner.search()
