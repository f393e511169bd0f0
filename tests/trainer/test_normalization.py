"""The served network normalizes by the rows it was trained on, however few steps the training had."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.test_model import FEATURES, inputs, training, write_source
from trainer.config import Model, Normalization, Optimizer
from trainer.input import Source, read_training_rows
from trainer.model import WideAndDeep, build_model
from trainer.normalization import PopulationStatistics, build_normalization
from trainer.run import fit

pytestmark = pytest.mark.integration


def batch_norms(network: WideAndDeep) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


def layer_inputs(network: WideAndDeep, source: Source) -> list[np.ndarray]:
    """Return the inputs of each normalization, over all rows in one block, as in serving."""
    ((ids, numbers, _),) = source.read_blocks()
    outputs = [layer.input for layer in batch_norms(network)]
    values = keras.Model(network.input, outputs)(source.unpack(ids, numbers), training=False)
    return [value.numpy().astype(np.float64) for value in values]


@pytest.mark.parametrize(("normalization", "dropout"), [("batch", 0.5), ("batch_renorm", 0.0)])
def test_statistics_are_those_of_all_rows_after_few_steps(
    normalization: Normalization, dropout: float, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "rows.gz")
    network, history = fit(
        train=source,
        evaluation=source,
        model=Model(hidden_units=(8, 4), normalization=normalization, dropout=dropout),
        training=training(epochs=2, deep_optimizer=Optimizer(name="adam", learning_rate=0.05)),
        seed=1,
        log_folder=None,
    )
    for layer, values in zip(batch_norms(network), layer_inputs(network, source), strict=True):
        np.testing.assert_allclose(layer.moving_mean, values.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, values.var(axis=0), rtol=1e-4, atol=1e-6)
    # What early stopping compares is what is served.
    ((ids, numbers, labels),) = source.read_blocks()
    logit = network(source.unpack(ids, numbers), training=False)
    loss = float(keras.losses.BinaryCrossentropy(from_logits=True)(labels[:, None], logit))
    assert loss == pytest.approx(history.metrics["val_log_loss"][-1], rel=1e-4)


def test_batches_larger_than_the_table_are_served_as_they_were_trained(tmp_path: Path) -> None:
    """One step an epoch sees all rows: training and serving normalize by the same numbers."""
    source = write_source(tmp_path / "rows.gz")
    network, _ = fit(
        train=source, evaluation=source, model=Model(), training=training(batch_size=200), seed=1, log_folder=None
    )
    ((ids, numbers, _),) = source.read_blocks()
    rows = source.unpack(ids, numbers)
    np.testing.assert_allclose(network(rows, training=False), network(rows, training=True), rtol=1e-3, atol=1e-4)


def test_statistics_weigh_rows_as_the_training_repeats_them(tmp_path: Path) -> None:
    source = write_source(tmp_path / "rows.gz", positive_share=0.1)
    rows = read_training_rows(source, training(imbalance="oversample"), seed=1, cache_folder=str(tmp_path))
    network = build_model(FEATURES, Model(hidden_units=(8,)))
    statistics = PopulationStatistics(rows.sample)
    statistics.set_model(network)
    statistics.update()
    ((_, _, labels),) = source.read_blocks()
    weights = np.where(labels.numpy() == 1, 5.0, 5 / 9)
    dense = network.get_layer("hidden_1").output
    ((ids, numbers, _),) = source.read_blocks()
    values = keras.Model(network.input, dense)(source.unpack(ids, numbers)).numpy()
    expected = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(batch_norms(network)[0].moving_mean, expected, rtol=1e-4, atol=1e-5)


def test_statistics_need_no_more_rows_than_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.input._SAMPLE_ROWS", 500)
    monkeypatch.setattr("trainer.input._BLOCK_ROWS", 64)
    source = write_source(tmp_path / "rows.gz", rows=2000)
    sample = read_training_rows(source, training(), seed=1, cache_folder=str(tmp_path)).sample
    sizes = np.concatenate([rows["numbers"].numpy()[:, 0] for rows, _ in sample])
    assert 150 < len(sizes) <= 500
    every = np.concatenate([numbers.numpy()[:, 0] for _, numbers, _ in source.read_blocks()])
    # From all parts of the table, each row at most once.
    places = np.sort([int(np.flatnonzero(every == size)[0]) for size in sizes])
    assert len({*places}) == len(sizes)
    assert [100 < np.sum(places // 500 == quarter) * 4 * 500 / len(sizes) < 900 for quarter in range(4)] == [True] * 4


def renorm(**values: list[float]) -> keras.layers.BatchNormalization:
    layer: Any = build_normalization("batch_renorm", 1, "float32")
    layer.build((None, 1))
    for name, value in values.items():
        getattr(layer, name).assign(value)
    return layer


# Mean 4, variance 4, epsilon 0.001.
BATCH = tf.constant([[2.0], [2.0], [6.0], [6.0]])
DEVIATION = 4.001**0.5


@pytest.mark.parametrize(
    ("mean", "deviation", "r", "d"),
    [
        (4.0, DEVIATION, 1.0, 0.0),
        (3.0, 1.6, DEVIATION / 1.6, 1 / 1.6),
        (5.0, 2.5, DEVIATION / 2.5, -1 / 2.5),
        # Both limits: r is at most 3 and at least 1/3, d at most 5 either way.
        (-9.0, 0.5, 3.0, 5.0),
        (400.0, 50.0, 1 / 3, -5.0),
    ],
)
def test_batch_renormalization_is_the_papers(mean: float, deviation: float, r: float, d: float) -> None:
    """x_hat = (x - mean_B) / std_B * r + d, with r = std_B / std and d = (mean_B - mean) / std (Ioffe 2017)."""
    layer = renorm(renorm_mean=[mean], renorm_stddev=[deviation], gamma=[2.0], beta=[0.5])
    expected = 2 * ((np.array([2.0, 2.0, 6.0, 6.0]) - 4) / DEVIATION * r + d) + 0.5
    np.testing.assert_allclose(layer(BATCH, training=True)[:, 0], expected, rtol=1e-5)


def test_batch_renormalization_is_batch_normalization_without_corrections() -> None:
    layer = renorm(renorm_mean=[4.0], renorm_stddev=[DEVIATION])
    plain: Any = build_normalization("batch", 2, "float32")
    np.testing.assert_allclose(layer(BATCH, training=True), plain(BATCH, training=True), rtol=1e-6)


def test_batch_renormalization_serves_the_moving_statistics() -> None:
    layer = renorm(moving_mean=[1.0], moving_variance=[8.999], renorm_mean=[7.0], renorm_stddev=[7.0])
    np.testing.assert_allclose(layer(BATCH, training=False)[:, 0], (np.array([2, 2, 6, 6]) - 1) / 3, rtol=1e-5)


@pytest.mark.parametrize(("normalization", "count"), [("none", 0), ("batch", 2), ("batch_renorm", 2)])
def test_a_network_has_the_normalization_it_was_asked_for(normalization: Normalization, count: int) -> None:
    network = build_model(FEATURES, Model(hidden_units=(4, 4), normalization=normalization))
    assert [layer.renorm for layer in batch_norms(network)] == [normalization == "batch_renorm"] * count
    assert network.get_layer("hidden_1").use_bias == (normalization == "none")
    assert np.isfinite(network(inputs(2)).numpy()).all()
