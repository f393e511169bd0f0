from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from cli.errors import DataError
from schemas.features import FeatureSet
from trainer.config import Activation, EarlyStopping, GpuOptions, Model, Optimizer, OptimizerName, Training
from trainer.devices import adapt_to_device
from trainer.input import Source, read_training_rows
from trainer.model import WIDE_PREFIX, WideAndDeep, build_model, compile_model
from trainer.optimizers import Schedule
from trainer.run import DeadActivations, fit

pytestmark = pytest.mark.integration

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "color": {"kind": "hash", "num_ids": 4, "embedding": 2},
            "shape": {"kind": "hash", "num_ids": 3, "embedding": "one_hot", "wide": False},
            "size": {"kind": "numeric"},
        },
        "crosses": [{"features": ["color", "shape"], "num_ids": 12}],
        "label": {"column": "y", "positive": "yes", "negative": "no"},
    }
)
SPEC = {
    **{name: tf.io.FixedLenFeature([], tf.int64) for name in ("color", "shape", "color_X_shape", "y")},
    "size": tf.io.FixedLenFeature([], tf.float32),
}


def write_source(path: Path, rows: int = 200, positive_share: float = 0.25, flipped: int = 0) -> Source:
    """Return rows whose label is 1 exactly for color 0, but for every `flipped`-th row."""
    random = np.random.default_rng(3)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for number in range(rows):
            positive = number < rows * positive_share
            values = {
                "color": 0 if positive else 1 + number % 3,
                "shape": number % 3,
                "color_X_shape": number % 12,
                "y": int(positive != (flipped and number % flipped == 0)),
            }
            features = {k: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])) for k, v in values.items()}
            features["size"] = tf.train.Feature(float_list=tf.train.FloatList(value=[random.normal()]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return Source([str(path)], FEATURES, SPEC)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return write_source(tmp_path / "rows.gz")


def training(**changes: Any) -> Training:
    return Training.model_validate({"epochs": 2, "batch_size": 50, **changes})


def inputs(rows: int) -> dict[str, tf.Tensor]:
    return {"ids": tf.zeros([rows, 3], tf.int64), "numbers": tf.ones([rows, 1])}


def weights(network: WideAndDeep, *, wide: bool) -> list[np.ndarray]:
    return [w.numpy().copy() for w in network.trainable_variables if w.path.startswith(WIDE_PREFIX) == wide]


def test_an_untrained_wide_model_gives_a_logit_of_zero() -> None:
    network = build_model(FEATURES, Model(architecture="wide"))
    np.testing.assert_array_equal(network(inputs(5)).numpy(), np.zeros((5, 1)))
    # One weight for each id of color and of the cross (shape is not wide), a slope, a bias and the temperature.
    assert network.count_params() == 4 + 12 + 1 + 1 + 1


@pytest.mark.parametrize(
    ("parts", "wide", "deep"), [("wide", True, False), ("deep", False, True), ("wide_and_deep", True, True)]
)
def test_a_model_has_the_parts_it_was_asked_for(parts: Any, wide: bool, deep: bool) -> None:
    network = build_model(FEATURES, Model(architecture=parts, hidden_units=(4,)))
    assert (bool(weights(network, wide=True)), bool(weights(network, wide=False))) == (wide, deep)
    assert network(inputs(3)).shape == (3, 1)


@pytest.mark.parametrize("activation", Activation.__args__)  # type: ignore[attr-defined]
def test_every_activation_builds(activation: Activation) -> None:
    network = build_model(FEATURES, Model(activation=activation, hidden_units=(4, 3), l1=0.1, l2=0.1, dropout=0.1))
    assert np.isfinite(network(inputs(2)).numpy()).all()


@pytest.mark.parametrize("name", OptimizerName.__args__)  # type: ignore[attr-defined]
def test_every_optimizer_changes_its_own_part_and_no_other(name: OptimizerName, source: Source, tmp_path: Path) -> None:
    network = build_model(FEATURES, Model(hidden_units=(4,)))
    frozen = Optimizer(name="sgd", learning_rate=1e-30)
    compile_model(
        network,
        training(wide_optimizer=Optimizer(name=name, learning_rate=0.1), deep_optimizer=frozen),
        "binary",
        steps=4,
    )
    before = weights(network, wide=True), weights(network, wide=False)
    rows = read_training_rows(source, training(), seed=1, cache_folder=str(tmp_path))
    network.fit(rows.batches, steps_per_epoch=rows.steps_per_epoch, verbose=0)
    assert any((a != b).any() for a, b in zip(before[0], weights(network, wide=True), strict=True))
    for old, new in zip(before[1], weights(network, wide=False), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-20)


def test_early_stopping_keeps_the_best_epoch(source: Source, tmp_path: Path) -> None:
    evaluation = write_source(tmp_path / "noisy.gz", flipped=5)
    settings = training(epochs=30, early_stopping=EarlyStopping(metric="log_loss", patience=2))
    network, history = fit(
        train=source, evaluation=evaluation, model=Model(hidden_units=(8,)), training=settings, seed=1, log_folder=None
    )
    losses = history.metrics["val_log_loss"]
    assert 1 < history.kept_epoch < len(losses) - 1 < 29
    assert losses[history.kept_epoch] == min(losses)
    rows = list(evaluation.read_blocks())
    logit = network(evaluation.unpack(rows[0][0], rows[0][1]), training=False)
    loss_on_eval = float(keras.losses.BinaryCrossentropy(from_logits=True)(rows[0][2][:, None], logit))
    assert loss_on_eval == pytest.approx(min(losses), rel=1e-3)


def test_class_weights_give_both_classes_the_same_total(source: Source, tmp_path: Path) -> None:
    rows = read_training_rows(source, training(imbalance="class_weights"), seed=1, cache_folder=str(tmp_path))
    totals = {0: 0.0, 1: 0.0}
    for _, label, weight in rows.batches.take(rows.steps_per_epoch):
        for value in totals:
            totals[value] += float(tf.reduce_sum(tf.where(label == value, weight, 0.0)))
    assert totals == {0: pytest.approx(100), 1: pytest.approx(100)}


def test_oversampling_makes_both_classes_about_as_frequent(source: Source, tmp_path: Path) -> None:
    batches = read_training_rows(source, training(imbalance="oversample"), seed=1, cache_folder=str(tmp_path)).batches
    labels = np.concatenate([label.numpy() for _, label, _ in batches.take(20)])
    assert labels.mean() == pytest.approx(0.5, abs=0.06)


def sizes_of_epochs(source: Source, folder: Path, seed: int) -> list[list[float]]:
    """Return the `size` of each row, which names it, in the order in which two epochs give them."""
    folder.mkdir()
    rows = read_training_rows(source, training(batch_size=40), seed=seed, cache_folder=str(folder))
    assert rows.steps_per_epoch == 5
    sizes = np.concatenate([inputs["numbers"].numpy()[:, 0] for inputs, _, _ in rows.batches.take(10)])
    return sizes.reshape(2, 200).tolist()


def test_an_epoch_has_every_row_once_in_an_order_of_its_own_that_the_seed_repeats(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = sorted(float(v) for _, numbers, _ in source.read_blocks() for v in numbers.numpy()[:, 0])
    # Several windows in an epoch, the last of them short.
    monkeypatch.setattr("trainer.input._BLOCK_ROWS", 16)
    monkeypatch.setattr("trainer.input._WINDOW_ROWS", 64)
    first, second = sizes_of_epochs(source, tmp_path / "a", seed=1)
    assert sorted(first) == sorted(second) == every
    assert first != second
    assert [first, second] == sizes_of_epochs(source, tmp_path / "b", seed=1)
    assert first != sizes_of_epochs(source, tmp_path / "c", seed=2)[0]


@pytest.mark.parametrize(("batch_size", "steps", "together"), [(2, 168, 8), (4, 83, 1)])
def test_a_long_epoch_is_rounded_up_to_steps_that_are_taken_together(
    batch_size: int, steps: int, together: int, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "rows.gz", rows=330)
    rows = read_training_rows(source, training(batch_size=batch_size), seed=1, cache_folder=str(tmp_path))
    assert (rows.steps_per_epoch, rows.steps_together) == (steps, together)


def test_a_split_with_one_class_is_refused(tmp_path: Path) -> None:
    message = (
        r"^train has no row of class 'yes' of label 'y'; every class needs rows: check the declared classes, or add"
    )
    with pytest.raises(DataError, match=message):
        read_training_rows(
            write_source(tmp_path / "one.gz", positive_share=0), training(), seed=1, cache_folder=str(tmp_path)
        )


def with_label(source: Source, label: dict[str, Any], **spec: Any) -> Source:
    features = FeatureSet.model_validate({**FEATURES.model_dump(), "label": {"column": "y", **label}})
    return Source(source.files, features, {**SPEC, **spec})


def test_a_multiclass_network_learns_a_probability_for_each_class(source: Source) -> None:
    # The shape is the label, and the number of the cross gives it away.
    features = FeatureSet.model_validate(
        {
            "features": {"color_X_shape": {"kind": "hash", "num_ids": 12, "embedding": 4}, "size": {"kind": "numeric"}},
            "label": {"kind": "multiclass", "column": "shape", "classes": ["a", "b", "c"]},
        }
    )
    labelled = Source(source.files, features, SPEC)
    settings = training(epochs=30, imbalance="class_weights", early_stopping=EarlyStopping(patience=30))
    network, history = fit(
        train=labelled, evaluation=labelled, model=Model(hidden_units=(8,)), training=settings, seed=1, log_folder=None
    )
    inputs = {"ids": tf.zeros([5, 1], tf.int64), "numbers": tf.ones([5, 1])}
    assert network(inputs).shape == (5, 3)
    assert history.metrics["val_accuracy"][history.kept_epoch] > 0.95
    assert history.metrics["val_log_loss"][history.kept_epoch] == min(history.metrics["val_log_loss"])


def test_what_the_config_says_of_a_gpu_counts_where_there_is_one(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = Optimizer(name="adam", learning_rate=0.005)
    settings = training(
        epochs=30,
        batch_size=32,
        deep_optimizer=deep,
        gpu=GpuOptions(batch_size=64, learning_rate_factor=2, precision="mixed_bfloat16"),
    )
    assert adapt_to_device(settings) == (settings, "float32")
    # No machine of the tests has one; bfloat16 is computed by a CPU, too, slowly.
    list_devices = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [kind] if kind == "GPU" else list_devices(kind)
    )
    chosen, precision = adapt_to_device(settings)
    assert (chosen.batch_size, precision) == (64, "mixed_bfloat16")
    assert chosen.deep_optimizer == deep.model_copy(update={"learning_rate": 0.01})
    assert chosen.wide_optimizer.learning_rate == 2 * settings.wide_optimizer.learning_rate
    trained = build_model(FEATURES, Model(hidden_units=(8,)), precision=precision)
    assert trained.get_layer("hidden_1").compute_dtype == "bfloat16"
    assert {str(w.dtype) for w in trained.weights} == {trained(inputs(2)).dtype.name} == {"float32"}
    network, history = fit(
        train=source, evaluation=source, model=Model(hidden_units=(8,)), training=settings, seed=4, log_folder=None
    )
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert history.metrics["val_auc"][-1] > 0.99
    rows = list(source.read_blocks())
    logit = network(source.unpack(rows[0][0], rows[0][1]), training=False)
    loss = float(keras.losses.BinaryCrossentropy(from_logits=True)(rows[0][2][:, None], logit))
    # What is saved is what was measured, up to bfloat16's three digits.
    assert loss == pytest.approx(history.metrics["val_log_loss"][-1], rel=0.05)


def write_numbers(path: Path, rows: int, mean: float) -> Source:
    """Return rows whose label is `mean` + 1000 * size."""
    random = np.random.default_rng(5)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for _ in range(rows):
            ids = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
                for name in ("color", "shape", "color_X_shape")
            }
            size = random.normal()
            numbers = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                for name, value in (("size", size), ("y", mean + 1000 * size))
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=ids | numbers)).SerializeToString())
    return with_label(Source([str(path)], FEATURES, SPEC), {"kind": "regression"}, y=tf.io.FixedLenFeature([], "float"))


def test_a_regression_learns_in_the_unit_of_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The mean of means of blocks that are not equally long.
    monkeypatch.setattr("trainer.input._BLOCK_ROWS", 150)
    source = write_numbers(tmp_path / "rows.gz", 400, mean=50_000)
    rows = read_training_rows(source, training(), seed=1, cache_folder=str(tmp_path))
    untrained = build_model(source.features, Model(architecture="wide"), labels=rows.labels)
    assert untrained(inputs(1)).numpy() == pytest.approx(rows.labels.mean)
    labels = np.concatenate([labels.numpy() for _, _, labels in source.read_blocks()]).astype(np.float64)
    assert (rows.labels.mean, rows.labels.std) == (pytest.approx(labels.mean()), pytest.approx(labels.std()))
    settings = training(epochs=40, deep_optimizer=Optimizer(name="adam", learning_rate=0.01))
    network, history = fit(
        train=source,
        evaluation=source,
        model=Model(hidden_units=(8,), normalization="none"),
        training=settings,
        seed=1,
        log_folder=None,
    )
    assert history.metrics["val_rmse"][-1] < 150
    # `size` is 1 here.
    assert float(network(inputs(1))[0, 0]) == pytest.approx(51_000, abs=300)


def test_labels_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "same.gz", rows=10, positive_share=0)
    labelled = with_label(source, {"kind": "regression"})
    with pytest.raises(DataError, match="^label 'y' is 0 in every row of train; there is nothing to learn$"):
        read_training_rows(labelled, training(), seed=1, cache_folder=str(tmp_path))


def test_dead_units_are_counted(source: Source, tmp_path: Path) -> None:
    network = build_model(FEATURES, Model(hidden_units=(4,), normalization="none"))
    callback = DeadActivations(str(tmp_path), source.read_blocks().map(lambda i, n, y: (source.unpack(i, n), y)))
    callback.set_model(network)
    hidden = network.get_layer("hidden_1")
    kernel = np.zeros(hidden.kernel.shape)
    hidden.set_weights([kernel, np.array([-1.0, -1.0, -1.0, 1.0])])
    assert callback.compute_shares() == {"activation_1": 0.75}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("constant", [0.5, 1, 1, 1, 1]), ("cosine", [0.5, 1, 1, 0.5, 0]), ("exponential", [0.5, 1, 1, 0.1, 0.01])],
)
def test_a_schedule_warms_up_and_then_follows_its_shape(shape: Any, expected: list[float]) -> None:
    schedule = Schedule(1.0, shape, steps=10, warmup_steps=2)
    np.testing.assert_allclose([float(schedule(s)) for s in (0, 1, 2, 6, 10)], expected, atol=1e-6)
