"""Models of another origin are called as TF Serving calls them, and what they reject is named."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.model.inputs import RequestError
from serving.model.session_model import ModelError
from serving.model.tensor_predictor import TensorPredictor
from tests.serving.running import RunningServer

pytestmark = pytest.mark.integration

SPECS = {
    "x": tf.TensorSpec([None, 1], tf.float32, name="x"),
    "image": tf.TensorSpec([None, 2, 2], tf.float32, name="image"),
    "small": tf.TensorSpec([None], tf.int32, name="small"),
    "words": tf.TensorSpec([None, None], tf.string, name="words"),
}


class Several(tf.Module):
    """Takes tensors of several types and shapes."""

    @tf.function(input_signature=list(SPECS.values()))
    def call(self, x: Any, image: Any, small: Any, words: Any) -> dict[str, Any]:
        total = x[:, 0] / 2 + tf.reduce_sum(image, [1, 2]) + tf.cast(small, tf.float32)
        return {"total": total, "joined": tf.strings.reduce_join(words, axis=1)}


class Examples(tf.Module):
    """Takes serialized tf.Example, as the models of TFX's examples do."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def call(self, examples: Any) -> dict[str, Any]:
        size = tf.io.parse_example(examples, {"size": tf.io.FixedLenFeature([1], tf.float32)})["size"]
        return {"outputs": tf.concat([size, 1 / size], axis=1)}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> TensorPredictor:
    folder = str(tmp_path_factory.mktemp("several"))
    model = Several()
    tf.saved_model.save(model, folder, signatures={"serving_default": model.call})
    return TensorPredictor(folder)


@pytest.fixture(scope="module")
def of_examples(tmp_path_factory: pytest.TempPathFactory) -> TensorPredictor:
    """Return a model whose only signature has another name."""
    folder = str(tmp_path_factory.mktemp("examples"))
    model = Examples()
    tf.saved_model.save(model, folder, signatures={"predict": model.call})
    return TensorPredictor(folder)


def row(**values: Any) -> dict[str, Any]:
    return {"x": [4.0], "image": [[1, 0], [0, 1]], "small": 3, "words": ["a", {"b64": "Yg=="}], **values}


def record(size: float) -> bytes:
    example = tf.train.Example()
    example.features.feature["size"].float_list.value.append(size)
    return bytes(example.SerializeToString())


def test_tensors_of_any_shape_are_taken_by_row_and_by_column(several: TensorPredictor) -> None:
    answers = [{"joined": "ab", "total": 7.0}, {"joined": "ab", "total": 5.5}]
    # One number stands for a list of one.
    rows = [row(), row(x=1.0)]
    assert several.predict(rows) == answers
    columns = {name: [values[name] for values in rows] for name in SPECS}
    outputs = several.predict_columns(several.convert_columns(columns))
    assert outputs["total"].tolist() == [7.0, 5.5]


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (row(x="four"), r"instances\[0\]: x: expected float32 of shape \[1\], found four"),
        (row(image=[1, 2]), r"instances\[0\]: image: expected float32 of shape \[2, 2\], found \[1, 2\]"),
        (row(small=1.5), r"instances\[0\]: small: expected one int32, found 1.5"),
        (row(small=2**40), r"instances\[0\]: small: expected one int32, found 1099511627776"),
        (row(words=[1]), r"instances\[0\]: words: expected string of shape \[None\], found \[1\]"),
        (
            row(words=[{"b64": "?"}]),
            r"instances\[0\]: words: expected string of shape \[None\], found \[{'b64': '\?'}\]",
        ),
        (row(smal=1), r"instances\[0\]: 'smal' is unknown; did you mean 'small'\?"),
        (
            {"x": 1},
            r"instances\[0\]: 'image' is missing; expected 'image', float32 of shape \(None, 2, 2\), 'small', int32",
        ),
        (1, r"instances\[0\]: expected an object of the inputs 'image', float32"),
    ],
)
def test_a_row_that_does_not_fit_is_named(several: TensorPredictor, instance: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        several.predict([instance])


def test_rows_of_different_shapes_do_not_make_a_tensor(several: TensorPredictor) -> None:
    with pytest.raises(RequestError, match="all input arrays must have the same shape"):
        several.predict([row(), row(words=["a"])])


def test_serialized_examples_are_the_single_input_named_or_not(of_examples: TensorPredictor) -> None:
    coded = {"b64": base64.b64encode(record(4)).decode()}
    assert of_examples.predict([coded, {"examples": coded}]) == [{"outputs": [4.0, 0.25]}] * 2
    columns = of_examples.convert_examples([record(4)])
    np.testing.assert_array_equal(of_examples.predict_columns(columns)["outputs"], [[4, 0.25]])


def test_what_the_model_rejects_is_named_in_its_own_words(
    of_examples: TensorPredictor, several: TensorPredictor
) -> None:
    with pytest.raises(RequestError, match=r"the model rejects the values: .*Feature: size .*is required but could no"):
        of_examples.predict([{"b64": ""}])
    with pytest.raises(RequestError, match=r"^instances\[0\]: the model rejects the values: Could not parse"):
        of_examples.predict(["neither base64 nor an example"])
    with pytest.raises(RequestError, match=r"the model's outputs is not a finite number"):
        of_examples.predict([{"b64": base64.b64encode(record(0)).decode()}])
    with pytest.raises(RequestError, match="the model takes 'image', float32.*not serialized tf.Example"):
        several.convert_examples([record(1)])


def test_an_example_row_has_the_inputs_shapes(several: TensorPredictor, of_examples: TensorPredictor) -> None:
    assert several.build_example_row() == {"x": [0.0], "image": [[0.0, 0.0]] * 2, "small": 0, "words": [""]}
    several.predict([several.build_example_row()])
    assert of_examples.build_example_row() == {"examples": ""}


class Scalar(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def call(self, x: Any) -> dict[str, Any]:
        return {"y": x}


def test_a_model_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model can be loaded from it"):
        TensorPredictor(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(ModelError, match="expected the signature serving_default; it has no signatures"):
        TensorPredictor(tmp_path / "none")
    model = Scalar()
    tf.saved_model.save(model, str(tmp_path / "scalar"), signatures={"serving_default": model.call})
    with pytest.raises(ModelError, match=r"input 'x' has shape \(\); expected one whose first dimension is the number"):
        TensorPredictor(tmp_path / "scalar")
    signatures = {"a": model.call, "b": model.call}
    tf.saved_model.save(model, str(tmp_path / "two"), signatures=signatures)
    with pytest.raises(ModelError, match="expected the signature serving_default; its signatures are a, b"):
        TensorPredictor(tmp_path / "two")


def test_grpc_takes_the_tensors_of_a_model_without_declared_features(tmp_path: Path) -> None:
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    model = Several()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.call})
    flags = ("--model-dir", str(tmp_path), "--allow-unvalidated", "--grpc-port", "0")
    with RunningServer(*flags) as server, grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        values = {"x": [[2.0], [4.0]], "image": np.ones([2, 2, 2]), "small": [1, 2], "words": [["a", "b"], ["c", "d"]]}
        for name, value in values.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value, SPECS[name].dtype))
        outputs = stub.Predict(request, timeout=60).outputs
        np.testing.assert_array_equal(tf.make_ndarray(outputs["total"]), [6.0, 8.0])
        assert tf.make_ndarray(outputs["joined"]).tolist() == [b"ab", b"cd"]
        request.inputs["small"].CopyFrom(tf.make_tensor_proto([1, 2, 3], tf.int32))
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(request, timeout=60)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
