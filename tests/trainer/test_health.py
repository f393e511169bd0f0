"""A training stops at the first step that is not finite, and names its batch and its column."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cli.errors import DataError
from schemas.features import FeatureSet
from tests.trainer.test_model import FEATURES, SPEC, training
from trainer.config import Model, Optimizer
from trainer.health import DivergenceError
from trainer.input import Source, read_training_rows
from trainer.run import fit

pytestmark = pytest.mark.integration

HUGE = Optimizer(name="sgd", learning_rate=1e30)
FINE = Optimizer(name="sgd", learning_rate=0.01)


def write_rows(path: Path, sizes: np.ndarray, features: FeatureSet = FEATURES) -> Source:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for number, size in enumerate(sizes.tolist()):
            ids = {"color": number % 4, "shape": number % 3, "color_X_shape": number % 12, "y": number % 2}
            columns = {k: tf.train.Feature(int64_list=tf.train.Int64List(value=[v])) for k, v in ids.items()}
            columns["size"] = tf.train.Feature(float_list=tf.train.FloatList(value=[size]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=columns)).SerializeToString())
    return Source([str(path)], features, SPEC)


def fit_rows(train: Source, evaluation: Source, **settings: Any) -> None:
    fit(
        train=train,
        evaluation=evaluation,
        model=Model(hidden_units=(4,)),
        training=training(**{"deep_optimizer": FINE, "wide_optimizer": FINE, **settings}),
        seed=1,
        log_folder=None,
    )


def find_batch(train: Source, row: float, folder: Path, **settings: Any) -> int:
    """Return the number of the first batch, from 1, that has a row with this size."""
    folder.mkdir()
    rows = read_training_rows(train, training(**settings), seed=1, cache_folder=str(folder))
    numbers = (inputs["numbers"].numpy() for inputs, *_ in rows.batches)
    return next(number for number, values in enumerate(numbers, 1) if (values == row).any())


@pytest.mark.parametrize("settings", [{}, {"imbalance": "oversample"}], ids=["plain", "oversample"])
def test_an_infinite_value_is_named_with_its_batch(settings: dict[str, Any], tmp_path: Path) -> None:
    sizes = np.random.default_rng(2).normal(size=200)
    fine = write_rows(tmp_path / "fine.gz", sizes)
    sizes[77] = 12345.0
    batch = find_batch(write_rows(tmp_path / "mark.gz", sizes), 12345.0, tmp_path / "cache", **settings)
    sizes[77] = np.inf
    with pytest.raises(DataError) as stopped:
        fit_rows(write_rows(tmp_path / "train.gz", sizes), fine, **settings)
    epoch, number = divmod(batch - 1, 4)
    text = str(stopped.value)
    assert text.startswith(
        f"training stopped at step {batch} (batch {number + 1} of 4 of epoch {epoch + 1}): the loss is not finite: "
        "feature 'size' is inf in "
    )
    assert text.endswith(" of 50 rows; correct the data, or the preprocessing_fn that makes the column")


def test_the_step_is_exact_where_several_are_taken_in_one_call(tmp_path: Path) -> None:
    """With 4,000 rows of 20, an epoch has 200 steps, of which TensorFlow takes 8 in one call."""
    batch_size = 20
    sizes = np.random.default_rng(2).normal(size=4_000)
    fine = write_rows(tmp_path / "fine.gz", sizes[:100])
    sizes[3_500] = 12345.0
    marked = write_rows(tmp_path / "mark.gz", sizes)
    batch = find_batch(marked, 12345.0, tmp_path / "cache", batch_size=batch_size)
    sizes[3_500] = np.nan
    with pytest.raises(DataError, match=rf"^training stopped at step {batch} \(.*feature 'size' is nan in 1 of "):
        fit_rows(write_rows(tmp_path / "train.gz", sizes), fine, batch_size=batch_size)


def test_a_huge_learning_rate_is_named_with_the_largest_value(tmp_path: Path) -> None:
    sizes = np.random.default_rng(2).normal(size=200)
    sizes[5] = -9.5
    train = write_rows(tmp_path / "train.gz", sizes)
    with pytest.raises(DivergenceError) as stopped:
        fit_rows(train, train, deep_optimizer=HUGE)
    text = str(stopped.value)
    assert text.startswith("training stopped at step ")
    assert ", though the values of the batch are (largest: feature 'size', " in text
    assert text.endswith(
        "; lower training.deep_optimizer.learning_rate (now 1e+30), or set training.deep_optimizer.clip_norm"
    )


def test_values_of_a_table_with_sensitive_columns_are_not_printed(tmp_path: Path) -> None:
    declared = FEATURES.model_dump(mode="json")
    declared["features"]["size"]["sensitive"] = True
    features = FeatureSet.model_validate(declared)
    train = write_rows(tmp_path / "train.gz", np.random.default_rng(2).normal(size=200), features)
    with pytest.raises(DivergenceError, match=r"\(largest: feature 'size'\); lower training.deep_optimizer"):
        fit_rows(train, train, deep_optimizer=HUGE)


def test_a_gradient_without_a_bound_is_named(tmp_path: Path) -> None:
    """The loss of a logit of 1e20 is finite in float32, and the square in the gradient of a norm is not."""
    sizes = np.full(200, 3e38)
    train = write_rows(tmp_path / "train.gz", sizes)
    with pytest.raises(DivergenceError, match="largest: feature 'size', 3e\\+38"):
        fit_rows(train, train)


def test_an_infinite_value_of_eval_is_named(tmp_path: Path) -> None:
    sizes = np.random.default_rng(2).normal(size=200)
    train = write_rows(tmp_path / "train.gz", sizes)
    sizes[3] = -np.inf
    with pytest.raises(
        DataError, match=r"^predictions on eval after epoch 1 are not finite: feature 'size' is -inf in "
    ):
        fit_rows(train, write_rows(tmp_path / "eval.gz", sizes))
