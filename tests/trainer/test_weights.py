"""Weights of rows in the loss, in the statistics of labels, and in all that is measured on eval."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from schemas.features import TRANSFORMED_WEIGHT
from tests.trainer.test_model import FEATURES, SPEC, training, write_source
from trainer.config import Model
from trainer.input import Source, read_evaluation_rows, read_training_rows
from trainer.outputs import choose_temperature, compute_quantiles
from trainer.run import ValidationMetrics, fit

pytestmark = pytest.mark.integration

ROWS = 200


def write_weights(source: Source, path: Path, weights: Sequence[float]) -> Source:
    """Return a source of the same rows with weights."""
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        records = tf.data.TFRecordDataset(list(source.files), "GZIP").as_numpy_iterator()
        for record, weight in zip(records, weights, strict=True):
            example = tf.train.Example.FromString(record)
            example.features.feature[TRANSFORMED_WEIGHT].float_list.value.append(weight)
            writer.write(example.SerializeToString())
    features = source.features.model_copy(update={"weight": "w"})
    return Source(
        [str(path)], features, {**source.feature_spec, TRANSFORMED_WEIGHT: tf.io.FixedLenFeature([], tf.float32)}
    )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return write_source(tmp_path / "rows.gz", flipped=5)


def make_weights() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, ROWS).astype(np.float32)


def read_totals(source: Source, folder: Path, **changes: Any) -> tuple[dict[int, float], float]:
    """Return the weight of each class in the batches of twenty epochs, and the mean weight."""
    rows = read_training_rows(source, training(**changes), seed=1, cache_folder=str(folder))
    batches = list(rows.batches.take(20 * rows.steps_per_epoch))
    labels, weights = (np.concatenate([batch[part].numpy() for batch in batches]) for part in (1, 2))
    return {value: float(weights[labels == value].sum()) for value in (0, 1)}, float(weights.mean())


@pytest.mark.parametrize(("imbalance", "tolerance"), [("none", 1e-6), ("class_weights", 1e-6), ("oversample", 0.1)])
def test_the_mean_weight_in_the_loss_is_1_and_balanced_classes_have_the_same_weight(
    imbalance: str, tolerance: float, source: Source, tmp_path: Path
) -> None:
    weights = 1000 * make_weights()
    weighted = write_weights(source, tmp_path / "weighted.gz", weights.tolist())
    totals, mean = read_totals(weighted, tmp_path, imbalance=imbalance)
    assert mean == pytest.approx(1, rel=tolerance)
    labels = np.concatenate([label.numpy() for _, _, label, _ in weighted.read_blocks()])
    share = 0.5 if imbalance != "none" else weights[labels == 1].sum() / weights.sum()
    assert totals[1] / sum(totals.values()) == pytest.approx(share, rel=tolerance)


def test_weights_that_are_all_1_give_the_model_without_weights(source: Source, tmp_path: Path) -> None:
    ones = write_weights(source, tmp_path / "ones.gz", [1.0] * ROWS)
    histories = [
        fit(
            train=rows,
            evaluation=rows,
            model=Model(hidden_units=(8,)),
            training=training(epochs=4, calibration="temperature"),
            seed=4,
            log_folder=None,
        )[1]
        for rows in (source, ones)
    ]
    for name, values in histories[0].metrics.items():
        np.testing.assert_allclose(values, histories[1].metrics[name], rtol=1e-4, err_msg=name)


def test_metrics_after_each_epoch_are_weighted(source: Source, tmp_path: Path) -> None:
    weights = make_weights()
    weighted = write_weights(source, tmp_path / "weighted.gz", weights.tolist())
    rows = read_evaluation_rows(weighted, cache_folder=str(tmp_path))
    metric = keras.metrics.BinaryCrossentropy(from_logits=True, name="log_loss")

    class Network(keras.Model):
        def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
            return inputs["numbers"][:, :1]

    measured = ValidationMetrics(rows.batches, [metric]).measure(Network())["log_loss"]
    ((_, numbers, labels, _),) = weighted.read_blocks()
    logits = numbers.numpy()[:, 0].astype(np.float64)
    losses = np.logaddexp(0, np.where(labels.numpy() == 1, -logits, logits))
    assert measured == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_statistics_of_the_labels_of_a_regression_are_those_of_repeated_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    labels, weights = random.lognormal(3, 1, ROWS), make_weights()
    # The least and the greatest label do not count.
    labels[:2], weights[:2] = (-1000, 9000), 0
    path = tmp_path / "numbers.gz"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for label in labels:
            ids = {
                n: tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
                for n in ("color", "shape", "color_X_shape")
            }
            numbers = {n: tf.train.Feature(float_list=tf.train.FloatList(value=[label])) for n in ("size", "y")}
            writer.write(tf.train.Example(features=tf.train.Features(feature=ids | numbers)).SerializeToString())
    regression = FEATURES.model_validate({**FEATURES.model_dump(), "label": {"column": "y", "kind": "regression"}})
    plain = Source([str(path)], regression, {**SPEC, "y": tf.io.FixedLenFeature([], tf.float32)})
    weighted = write_weights(plain, tmp_path / "weighted.gz", weights.tolist())
    values = read_training_rows(weighted, training(), seed=1, cache_folder=str(tmp_path)).labels
    repeated = np.repeat(labels.astype(np.float32).astype(np.float64), weights.astype(int))
    assert (values.mean, values.std) == (pytest.approx(repeated.mean()), pytest.approx(repeated.std()))
    assert (values.low, values.high) == (pytest.approx(repeated.min()), pytest.approx(repeated.max()))
    assert values.log_mean == pytest.approx((np.sign(repeated) * np.log1p(np.abs(repeated))).mean())
    assert np.median(values.quantiles) == pytest.approx(np.median(repeated), rel=0.05)


def test_quantiles_of_equal_weights_are_those_of_numpy() -> None:
    labels = np.random.default_rng(3).normal(size=100)
    expected = np.quantile(labels, np.linspace(0, 1, 257))
    np.testing.assert_allclose(compute_quantiles(labels), expected, rtol=1e-9)
    np.testing.assert_allclose(compute_quantiles(labels, np.full(100, 2.5)), expected, rtol=1e-9)


def test_the_temperature_is_chosen_by_the_weighted_log_loss() -> None:
    """Rows of weight 9 are a coin's toss, and the others are sure and right: by their number, 1 or less is the likeliest."""
    logits = np.tile([3.0, 3.0, -3.0, 3.0], 500)[:, None]
    labels = np.tile([1, 1, 0, 0], 500)
    weights = np.tile([1.0, 1.0, 1.0, 9.0], 500)
    temperature, before, after = choose_temperature(logits, labels, weights)
    assert temperature == 2 and after < before
    losses = np.logaddexp(0, np.where(labels == 1, -logits[:, 0], logits[:, 0]))
    assert before == pytest.approx(np.average(losses, weights=weights))
    assert choose_temperature(logits, labels)[1] == pytest.approx(losses.mean())
