"""A `preprocessing_fn` of the user's own: its outputs, and the one line for outputs that the network does not take."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

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
_IMPORT = "import tensorflow as tf\nfrom components.transform import preprocessing\n"


@pytest.fixture(autouse=True)
def new_graph() -> Iterator[None]:
    """Leave no tensors in the collections of the default graph, which each later graph gets a copy of."""
    yield
    tf.compat.v1.reset_default_graph()


def call(folder: Path, body: str, *, is_network_ours: bool = True, arguments: str = "inputs, custom_config") -> object:
    """Call a function with this body on two rows."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "own.py").write_text(f"{_IMPORT}def preprocessing_fn({arguments}):\n{lines}")
    code = UserCode.read("transform.module", str(folder / "own.py"))
    inputs = {"x": tf.constant([[1.0], [2.0]]), "c": tf.constant([["a"], ["b"]]), "y": tf.constant([["1"], ["0"]])}
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
