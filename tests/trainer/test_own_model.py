"""A `build_model` of the user's own is fitted, calibrated and served like the built-in network."""

import re
from functools import partial
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from cli.errors import PipelineError
from schemas.features import FeatureSet, OwnColumn
from schemas.user_code import UserCode
from trainer.config import Model
from trainer.model import WideAndDeep, build_model
from trainer.own_model import build_own_outputs
from trainer.run import fit
from trainer.warm_start import name_weights

from .test_model import FEATURES, training, write_source

_OWN = """
import keras


def build_model(features, config):
    size = keras.Input((1,), name="size")
    color = keras.Input((1,), name="color", dtype="int64")
    vector = keras.layers.Flatten()(keras.layers.Embedding(4, 2)(color))
    hidden = keras.layers.Dense(config.hidden_units[0], activation="relu")(keras.layers.Concatenate()([size, vector]))
    return keras.Model([size, color], keras.layers.Dense(1)(hidden))
"""


def read(folder: Path, text: str) -> UserCode:
    (folder / "own.py").write_text(text)
    return UserCode.read("model.module", str(folder / "own.py"))


def build(code: UserCode, features: FeatureSet = FEATURES) -> WideAndDeep:
    return build_model(features, Model(), build_outputs=partial(build_own_outputs, code, features, Model()))


@pytest.mark.integration
def test_it_is_fitted_and_calibrated(tmp_path: Path) -> None:
    source = write_source(tmp_path / "rows.gz")
    network, history = fit(
        train=source,
        evaluation=source,
        model=Model(),
        training=training(epochs=4, calibration="temperature", ema_momentum=0.5),
        seed=1,
        log_folder=None,
        code=read(tmp_path, _OWN),
    )
    losses = history.metrics["val_log_loss"]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    assert len(name_weights(network)) == len(network.weights)


def test_the_built_in_network_may_be_built_with_another_shape(tmp_path: Path) -> None:
    own = "from trainer.model import build_model as built_in\n"
    own += "def build_model(features, config):\n"
    own += "    return built_in(features, config.model_copy(update={'hidden_units': (5,)}))\n"
    shapes = [tuple(weight.shape) for weight in build(read(tmp_path, own)).weights]
    assert (5, 1) in shapes
    assert (64, 1) not in shapes


def test_columns_of_an_own_preprocessing_fn_are_inputs_too(tmp_path: Path) -> None:
    own_columns = (OwnColumn(name="ratio", width=2), OwnColumn(name="town", num_ids=7))
    features = FEATURES.model_copy(update={"own_columns": own_columns})
    own = "import keras\ndef build_model(features, config):\n"
    own += "    ratio, town = keras.Input((2,), name='ratio'), keras.Input((1,), name='town')\n"
    own += "    return keras.Model([ratio, town], keras.layers.Dense(1)(keras.layers.Concatenate()([ratio, town])))\n"
    network = build(read(tmp_path, own), features)
    shapes = {name: tensor.shape[1] for name, tensor in network.input.items()}
    assert shapes == {"ids": 4, "numbers": 3}
    kernel = next(weight for weight in network.weights if tuple(weight.shape) == (3, 1))
    kernel.assign([[1.0], [2.0], [4.0]])
    inputs = {"ids": tf.constant([[0, 0, 0, 5]], tf.int64), "numbers": tf.constant([[9.0, 10.0, 20.0]])}
    assert network(inputs).numpy().tolist() == [[70.0]]
    assert isinstance(build_model(features, Model()), keras.Model)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "own.py:2: build_model returns NoneType; return a keras.Model"),
        (
            "return keras.Model(x, keras.layers.Dense(3)(x))",
            "own.py:2: build_model returns a model with outputs of shape",
        ),
        (
            "return keras.Model(x, keras.layers.Dense(1, activation='sigmoid')(x))",
            "own.py:2: build_model returns a model that ends in sigmoid; the training takes logits: remove the activation",
        ),
        (
            "return keras.Model(x, keras.ops.sigmoid(keras.layers.Dense(1)(x)))",
            "own.py:2: build_model returns a model that ends in sigmoid; the training takes logits: remove the activation",
        ),
        (
            "return keras.Model(x, keras.layers.Softmax()(keras.layers.Dense(1)(x)))",
            "own.py:2: build_model returns a model that ends in softmax; ",
        ),
        (
            "return keras.Model(x, {'y': keras.layers.Dense(1)(x)})",
            "own.py:2: build_model returns a model whose output is a dict; expected one logit: (None, 1)",
        ),
        (
            "return keras.Model(x, keras.ops.cast(keras.layers.Dense(1)(x), 'int32'))",
            "own.py:2: build_model returns a model with outputs of type int32; expected one logit: float32",
        ),
        (
            "x = keras.Input((3,), name='size'); return keras.Model(x, keras.layers.Dense(1)(x))",
            "own.py:2: build_model returns a model with the input 'size' of shape (None, 3) and type float32; the "
            "transformed column has shape (None, 1) and type float32",
        ),
        ("raise SystemExit(2)", "own.py:4: build_model raised SystemExit: 2; correct it there"),
        (
            "return keras.Sequential([keras.layers.Dense(1)])",
            "own.py:2: the model of build_model raised ValueError: Cannot convert 'ids' to a shape",
        ),
        (
            "x = keras.Input((1,), name='sizes'); return keras.Model(x, keras.layers.Dense(1)(x))",
            "own.py:2: build_model returns a model with the input 'sizes', which is not a transformed column; did you mean "
            "'size'?",
        ),
        ("return keras.layers.Dense(units=0)(x)", "own.py:4: build_model raised ValueError: "),
    ],
)
def test_a_model_that_cannot_be_trained_is_one_line(tmp_path: Path, body: str, message: str) -> None:
    text = f"import keras\ndef build_model(features, config):\n    x = keras.Input((1,), name='size')\n    {body}\n"
    with pytest.raises(PipelineError, match=re.escape(f"model.module: {message}")) as error:
        build(read(tmp_path, text))
    assert "\n" not in str(error.value)
