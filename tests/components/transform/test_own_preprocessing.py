"""A `preprocessing_fn` of the user's own: its outputs, and the one line for outputs that the network does not take."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_transform import annotators, graph_context

from cli.errors import PipelineError
from components.transform import own_preprocessing
from schemas.features import FeatureSet
from schemas.user_code import UserCode

FEATURES = FeatureSet.model_validate(
    {
        "features": {"x": {"kind": "numeric", "scale": "identity"}, "c": {"kind": "hash", "num_ids": 4}},
        "label": {"column": "y", "positive": "1", "negative": "0"},
    }
)
_TYPES = {"x": tf.float32, "c": tf.string, "y": tf.string}
_IMPORT = "import tensorflow as tf\nfrom components.transform import preprocessing\n"


@pytest.fixture(autouse=True)
def new_graph() -> Iterator[None]:
    """Leave no tensors in the collections of the default graph, which each later graph gets a copy of."""
    yield
    tf.compat.v1.reset_default_graph()


def call(
    folder: Path,
    body: str,
    *,
    is_network_ours: bool = True,
    arguments: str = "inputs, custom_config",
    inputs: dict[str, tf.Tensor] | None = None,
) -> dict[str, Any]:
    """Call a function with this body, on two rows if there are no other inputs."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "own.py").write_text(f"{_IMPORT}def preprocessing_fn({arguments}):\n{lines}")
    code = UserCode.read("transform.module", str(folder / "own.py"))
    inputs = inputs or {
        "x": tf.constant([[1.0], [2.0]]),
        "c": tf.constant([["a"], ["b"]]),
        "y": tf.constant([["1"], ["0"]]),
    }
    custom_config = {
        "feature_set": FEATURES.to_model_json(),
        own_preprocessing.CODE_KEY: code.to_json(),
        own_preprocessing.IS_NETWORK_OURS_KEY: is_network_ours,
        "factor": 3.0,
    }
    return own_preprocessing.preprocessing_fn(inputs, custom_config)


def test_it_may_add_columns_to_the_built_in_ones(tmp_path: Path) -> None:
    body = "outputs = preprocessing.preprocessing_fn(inputs, custom_config)\n"
    body += "return {**outputs, 'tripled': outputs['x'] * custom_config['factor']}"
    outputs = call(tmp_path, body)
    assert isinstance(outputs, dict)
    assert {*outputs} == {"x", "c", "y", "tripled"}
    assert outputs["tripled"].numpy().tolist() == [3.0, 6.0]


def test_for_a_run_fn_of_the_users_own_any_columns_do(tmp_path: Path) -> None:
    body = "return {'text': inputs['c']}"
    assert isinstance(call(tmp_path, body, is_network_ours=False, arguments="inputs"), dict)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "own.py:3: preprocessing_fn returns NoneType; return a dict of tensors by name"),
        ("return {}", "own.py:3: preprocessing_fn returns an empty dict; return a dict of tensors by name"),
        ("return {1: inputs['x']}", "own.py:3: preprocessing_fn returns a tensor by the name 1; names are strings"),
        ("raise SystemExit('bye')", "own.py:4: preprocessing_fn raised SystemExit: bye; correct it there"),
        ("return {'x': 1.0}", "own.py:3: preprocessing_fn returns 'x' as float; return a tensor"),
        (
            "return {'x': inputs['x']}",
            "own.py:3: preprocessing_fn returns no 'c', which the network reads; to keep the",
        ),
        ("return {'x': inputs['agee']}", "own.py:4: preprocessing_fn raised KeyError: 'agee'; correct it there"),
        (
            "return {**preprocessing.preprocessing_fn(inputs, custom_config), 'x': inputs['c']}",
            "own.py:3: preprocessing_fn returns 'x' as string; the network takes float32: tf.cast",
        ),
        (
            "return {**preprocessing.preprocessing_fn(inputs, custom_config), 'text': inputs['c']}",
            "own.py:3: preprocessing_fn returns 'text' as string; the network takes float32 numbers and int64 ids",
        ),
        (
            "return {**preprocessing.preprocessing_fn(inputs, custom_config), 's': tf.sparse.from_dense(inputs['x'])}",
            "own.py:3: preprocessing_fn returns 's' as SparseTensor; the network takes dense tensors: tf.sparse.to_dense",
        ),
    ],
)
def test_outputs_that_the_network_does_not_take_are_one_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(f"transform.module: {message}")) as error:
        call(tmp_path, body)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("tf.reshape(inputs['x'], [-1, 1, 1])", "of shape (None, 1, 1); the network takes [batch] or [batch, width]"),
        ("tf.reduce_mean(inputs['x'])", "of shape (); the network takes [batch] or [batch, width]"),
        ("tf.cast(inputs['x'], tf.int64)", "as integers in an unknown range, from below 0, or several in a row; the"),
        ("tft.compute_and_apply_vocabulary(inputs['c'])", "as integers in an unknown range, from below 0, or several"),
        ("tf.strings.split(inputs['c'][:, 0], 'x')", "as RaggedTensor; the network takes dense tensors: to_tensor(sh"),
        ("tft.compute_and_apply_vocabulary(inputs['c'], num_oov_buckets=1)", None),
        ("tft.bucketize(inputs['x'], 3)", None),
    ],
)
def test_columns_of_the_users_own_need_a_width_and_a_range(tmp_path: Path, column: str, message: str | None) -> None:
    body = "import tensorflow_transform as tft\n"
    body += f"return {{**preprocessing.preprocessing_fn(inputs, custom_config), 'own': {column}}}"
    tracker, context = annotators.ObjectTracker(), graph_context.TFGraphContext(tf.Module(), str(tmp_path), {})
    with annotators.object_tracker_scope(tracker), context, tf.Graph().as_default():
        inputs = {name: tf.compat.v1.placeholder(kind, [None, 1]) for name, kind in _TYPES.items()}
        if message is None:
            assert "own" in call(tmp_path, body, inputs=inputs)
        else:
            with pytest.raises(PipelineError, match=re.escape(f"own.py:3: preprocessing_fn returns 'own' {message}")):
                call(tmp_path, body, inputs=inputs)
