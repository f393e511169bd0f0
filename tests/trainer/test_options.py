"""Whole trainings with the options of the network: each learns, repeats, is finite and keeps what it measured."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas.features import FeatureSet
from tests.trainer.test_model import training
from trainer.config import EarlyStopping, Model, Optimizer
from trainer.input import Source, read_training_rows
from trainer.model import WIDE_PREFIX, WideAndDeep, build_model, compile_model, set_calibration
from trainer.run import FitHistory, fit

pytestmark = pytest.mark.integration
KINDS: dict[str, dict[str, Any]] = {
    "binary": {"positive": "yes", "negative": "no"},
    "multiclass": {"kind": "multiclass", "classes": ["a", "b", "c"]},
    "regression": {"kind": "regression"},
}
RECIPE = Model(
    hidden_units=(16,),
    normalization="layer",
    number_encoding="piecewise_linear",
    members=4,
    dropout=0.1,
    squash=3,
)


def write_rows(
    path: Path, kind: str, rows: int, *, unit: float = 1.0, classes: int = 3, constant: bool = False
) -> Source:
    """Return rows whose label follows from x and the color: a step in x, which no line fits."""
    random = np.random.default_rng(7)
    label = KINDS[kind] if classes == 3 else {"kind": "multiclass", "classes": [str(n) for n in range(classes)]}
    declared = {"color": {"kind": "hash", "num_ids": 4, "embedding": 2}, "x": {"kind": "numeric"}}
    declared |= {"other": {"kind": "numeric"}}
    features = FeatureSet.model_validate({"features": declared, "label": {"column": "y", **label}})
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for number in range(rows):
            x, color = float(random.normal()), number % 4
            inside = abs(x) < 0.7
            y: float = {"binary": int(inside), "multiclass": int(inside) + int(inside and color == 0)}.get(
                kind, unit * (3 * inside + color + 10)
            )
            y = number % classes if classes != 3 else y
            values = {"color": color} | ({} if kind == "regression" else {"y": int(y)})
            numbers = {"x": x, "other": 0.0 if constant else float(random.normal())}
            numbers |= {"y": y} if kind == "regression" else {}
            feature = {k: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])) for k, v in values.items()}
            feature |= {k: tf.train.Feature(float_list=tf.train.FloatList(value=[v])) for k, v in numbers.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    spec = {name: tf.io.FixedLenFeature([], tf.float32) for name in ("x", "other")}
    spec["color"] = tf.io.FixedLenFeature([], tf.int64)
    spec["y"] = tf.io.FixedLenFeature([], tf.float32 if kind == "regression" else tf.int64)
    return Source([str(path)], features, spec)


def fit_network(source: Source, model: Model = RECIPE, **changes: Any) -> tuple[WideAndDeep, FitHistory]:
    settings = training(**{"epochs": 12, "deep_optimizer": Optimizer(name="adam", learning_rate=0.01), **changes})
    return fit(train=source, evaluation=source, model=model, training=settings, seed=3, log_folder=None)


def predictions(network: WideAndDeep, source: Source) -> tuple[np.ndarray, np.ndarray]:
    ids, numbers, labels = next(iter(source.read_blocks()))
    return network(source.unpack(ids, numbers), training=False).numpy(), labels.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_all_options_together_learn_and_serve_what_was_measured(kind: str, tmp_path: Path) -> None:
    unit = 1e12
    source = write_rows(tmp_path / "rows.gz", kind, 600, unit=unit)
    changes: dict[str, Any] = {"ema_momentum": 0.9, "early_stopping": EarlyStopping(patience=12)}
    if kind != "regression":
        changes |= {"calibration": "temperature", "label_smoothing": 0.02}
    network, history = fit_network(source, **changes)
    outputs, labels = predictions(network, source)
    assert outputs.shape == (600, 3 if kind == "multiclass" else 1)
    match kind:
        case "binary":
            assert ((outputs[:, 0] > 0) == labels).mean() > 0.95
        case "multiclass":
            assert (outputs.argmax(1) == labels).mean() > 0.93
        case "regression":
            rmse = float(np.sqrt(((outputs[:, 0] - labels) ** 2).mean()))
            # Of a deviation of 1.9.
            assert rmse < 0.6 * unit
            assert rmse == pytest.approx(history.metrics["val_rmse"][history.kept_epoch], rel=1e-4)
    if kind == "binary":
        again, _ = fit_network(source, **changes)
        np.testing.assert_allclose(predictions(again, source)[0], outputs, rtol=1e-2, atol=1e-2)


def test_the_temperature_is_that_of_the_least_loss_on_eval(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.gz", "binary", 400)
    network, history = fit_network(source, label_smoothing=0.3, calibration="temperature")
    inverse = float(network.get_layer("temperature").inverse)
    # Smoothed labels make the network less certain than it should be.
    assert inverse > 1.2
    after, labels = predictions(network, source)
    set_calibration(network, 1.0)
    before, _ = predictions(network, source)
    np.testing.assert_allclose(after, before * inverse, rtol=1e-5, atol=1e-5)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    losses = [float(cross_entropy(labels[:, None], logits)) for logits in (before, after)]
    assert losses[1] < 0.9 * losses[0]
    # What is served is reported.
    assert history.metrics["val_log_loss"][-1] == pytest.approx(losses[1], rel=1e-4)


def test_the_averages_follow_their_formula_and_training_continues_with_the_weights(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.gz", "binary", 50)
    model = Model(hidden_units=(4,), normalization="none")
    settings = training(ema_momentum=0.3, deep_optimizer=Optimizer(name="sgd", learning_rate=0.1))
    rows = read_training_rows(source, settings, seed=1, cache_folder=str(tmp_path))
    keras.utils.set_random_seed(1)
    network = build_model(source.features, model)
    compile_model(network, settings, "binary", steps=4)
    expected = [weight.numpy() for weight in network.trainable_variables]
    steps = rows.batches.take(4)
    for number, batch in enumerate(steps, start=1):
        network.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
        decay = min(0.3, (1 + number) / (10 + number))
        expected = [
            decay * average + (1 - decay) * weight.numpy()
            for average, weight in zip(expected, network.trainable_variables, strict=True)
        ]
    trained = [weight.numpy() for weight in network.trainable_variables]
    network.swap_averages()
    for weight, average in zip(network.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), average, rtol=1e-4, atol=1e-6)
    assert any((a != b).any() for a, b in zip(trained, expected, strict=True))
    network.swap_averages()
    for weight, last in zip(network.trainable_variables, trained, strict=True):
        np.testing.assert_array_equal(weight.numpy(), last)


def test_a_wide_part_is_the_same_for_all_members(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.gz", "multiclass", 100)
    network = build_model(source.features, Model(hidden_units=(4,), members=3, normalization="none"))
    ids, numbers, _ = next(iter(source.read_blocks()))
    before = network.trained_part(source.unpack(ids, numbers)).numpy()
    for weight in network.trainable_variables:
        if weight.path.startswith(WIDE_PREFIX):
            weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    change = network.trained_part(source.unpack(ids, numbers)).numpy() - before
    assert change.shape == (100, 3, 3) and np.ptp(change[:, 0]) > 1
    np.testing.assert_allclose(change[:, 1:], change[:, [0, 0]], atol=1e-5)


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_fewer_rows_than_members_and_a_constant_column_give_finite_predictions(kind: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.gz", kind, 6, constant=True)
    network, history = fit_network(source, RECIPE.model_copy(update={"members": 16}), ema_momentum=0.99, epochs=3)
    assert np.isfinite(predictions(network, source)[0]).all()
    assert all(value is not None for values in history.metrics.values() for value in values)


@pytest.mark.parametrize("scale", ["log_z_score", "quantile"])
def test_labels_of_1e12_are_learned_in_their_own_unit(scale: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.gz", "regression", 300, unit=1e12)
    model = Model.model_validate({**RECIPE.model_dump(), "label_scale": scale, "clip_predictions": True})
    network, history = fit_network(source, model)
    outputs, labels = predictions(network, source)
    assert labels.min() <= outputs.min() and outputs.max() <= labels.max()
    assert history.metrics["val_rmse"][-1] < 1e12


def test_a_logarithm_that_is_calibrated_predicts_the_mean_unless_the_error_on_eval_is_larger(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.gz", "regression", 300)
    # So short a training is far from the labels.
    model = Model.model_validate({**RECIPE.model_dump(), "label_scale": "log_z_score"})
    settings = training(epochs=1, calibration="mean", deep_optimizer=Optimizer(name="adam", learning_rate=1e-4))
    factors, means = [], []
    # The factor is below 1, which fits labels that are smaller than those of train, and no larger ones.
    for unit in (0.5, 2.0):
        evaluation = write_rows(tmp_path / f"{unit}.gz", "regression", 100, unit=unit)
        network, history = fit(
            train=train, evaluation=evaluation, model=model, training=settings, seed=3, log_folder=None
        )
        factors.append(float(network.get_layer("unit_of_label").factor))
        outputs, labels = predictions(network, train)
        means.append(outputs.mean() / labels.mean())
        outputs, labels = predictions(network, evaluation)
        # What is served is reported.
        rmse = float(np.sqrt(((outputs[:, 0] - labels) ** 2).mean()))
        assert history.metrics["val_rmse"][-1] == pytest.approx(rmse, rel=1e-5)
    assert factors[0] < 0.997
    assert factors[1] == 1
    assert means == [pytest.approx(1, rel=1e-3), pytest.approx(1 / factors[0], rel=1e-3)]


def test_hundreds_of_classes_of_which_some_have_one_row(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.gz", "multiclass", 400, classes=300)
    network, history = fit_network(source, epochs=2, label_smoothing=0.1, calibration="temperature")
    outputs, _ = predictions(network, source)
    assert outputs.shape == (400, 300) and np.isfinite(outputs).all()
    assert history.metrics["val_log_loss"][-1] == pytest.approx(np.log(300), rel=0.1)
