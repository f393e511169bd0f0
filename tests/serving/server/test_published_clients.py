"""The forms of published clients, over plain connections and over TLS with a token.

Written after, not copied from, tensorflow/serving's examples (mnist_client, resnet_client, resnet_client_grpc,
resnet_warmup, half_plus_two of the REST page) and KServe's InferenceRESTClient.
"""

import base64
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

from tests.serving.certificates import Certificates
from tests.serving.running import RunningServer, ask

pytestmark = pytest.mark.integration
TOKEN = "token-of-a-published-client"
REGRESS = "tensorflow/serving/regress"
WEIGHTS = np.random.default_rng(7).normal(size=(784, 10)).astype(np.float32)


class Mnist(tf.Module):
    """Scores of ten classes for flat images."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(input_signature=[tf.TensorSpec([None, 784], tf.float32, "images")])
    def predict(self, images: Any) -> dict[str, Any]:
        return {"scores": tf.nn.softmax(images @ self.weights)}


class Resnet(tf.Module):
    """Probabilities of classes for images of any size."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, "input_1")])
    def predict(self, input_1: Any) -> dict[str, Any]:
        return {"activation_49": tf.nn.softmax(tf.reduce_mean(input_1, [1, 2]))}


class ImageBytes(tf.Module):
    """The length of an encoded image in place of its class."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def predict(self, image_bytes: Any) -> dict[str, Any]:
        lengths = tf.strings.length(image_bytes)
        probabilities = tf.cast(lengths, tf.float32)[:, None] / 10
        return {
            "classes": lengths,
            "probabilities": probabilities,
            "thumbnail_bytes": tf.strings.substr(image_bytes, 254, 4),
        }


class HalfPlusTwo(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def predict(self, x: Any) -> dict[str, Any]:
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs: Any) -> dict[str, Any]:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return {"outputs": x / 2 + 2}


class Client:
    """A connection to a server, plain or over TLS with a token.

    Attributes:
      running: the server.
      channel: channel of gRPC.
    """

    def __init__(self, running: RunningServer, certificates: Certificates | None) -> None:
        self.running, self._context = running, None
        self._headers: dict[str, str] = {}
        if certificates is None:
            self.channel = grpc.insecure_channel(running.grpc)
            return
        self._context: ssl.SSLContext | None = certificates.client_context()
        self._headers = {"Authorization": f"Bearer {TOKEN}"}
        tls = grpc.ssl_channel_credentials(certificates.authority.read_bytes())
        credentials = grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(TOKEN))
        self.channel = grpc.secure_channel(running.grpc, credentials)

    @property
    def stub(self) -> Any:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def send(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the answer, for a body of JSON or of bytes."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.running.url}{path}", content, {**self._headers, **headers})
        return ask(request, self._context)


@pytest.fixture(scope="module", params=["plain", "tls"])
def flags(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Any]:
    if request.param == "plain":
        return [], None
    folder = tmp_path_factory.mktemp("tls")
    certificates = Certificates(folder)
    tokens = folder / "tokens"
    tokens.touch(0o600)
    tokens.write_text(f"{TOKEN}\n")
    return [*certificates.flags(), "--token-file", str(tokens)], certificates


def connect(model: Any, signatures: Any, base: Path, flags: tuple[list[str], Any]) -> RunningServer:
    """Return a server of a model in a base path as TF Serving has it."""
    tf.saved_model.save(model, str(base / "00000001"), signatures=signatures)
    return RunningServer("--model-dir", str(base), "--allow-unvalidated", "--grpc-port", "0", *flags[0])


@pytest.fixture(scope="module")
def mnist(flags: tuple[list[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    model = Mnist()
    with connect(model, {"serving_default": model.predict}, tmp_path_factory.mktemp("m") / "mnist", flags) as running:
        yield Client(running, flags[1])


def test_mnist_client_counts_errors_of_concurrent_calls(mnist: Client) -> None:
    images = np.random.default_rng(3).random((40, 784)).astype(np.float32)
    labels = (images @ WEIGHTS).argmax(axis=1)
    wrong: list[Any] = []
    ended = threading.Semaphore(0)

    def count(future: Any, label: int) -> None:
        failure = future.exception()
        scores = np.array([] if failure else future.result().outputs["scores"].float_val)
        if failure or scores.size != 10 or scores.argmax() != label:
            wrong.append(failure or scores)
        ended.release()

    for image, label in zip(images, labels, strict=True):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "mnist", "serving_default"
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(image, shape=[1, image.size]))
        mnist.stub.Predict.future(request, 30.0).add_done_callback(lambda done, label=label: count(done, label))
    assert all(ended.acquire(timeout=60) for _ in images)
    assert wrong == []


def test_many_rows_are_in_one_flat_list(mnist: Client) -> None:
    images = np.random.default_rng(4).random((5, 784)).astype(np.float32)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnist"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    scores = mnist.stub.Predict(request, 30.0).outputs["scores"]
    assert [dimension.size for dimension in scores.tensor_shape.dim] == [5, 10]
    by_row = np.reshape(scores.float_val, [5, 10])
    np.testing.assert_array_equal(by_row.argmax(axis=1), (images @ WEIGHTS).argmax(axis=1))


def test_resnet_client_of_grpc_reads_float_val(flags: tuple[list[str], Any], tmp_path: Path) -> None:
    model = Resnet()
    with connect(model, {"serving_default": model.predict}, tmp_path / "resnet", flags) as running:
        client = Client(running, flags[1])
        image = np.random.default_rng(5).random((1, 16, 12, 3)).astype(np.float32)
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "resnet", "serving_default"
        request.inputs["input_1"].CopyFrom(tf.make_tensor_proto(image))
        probabilities = client.stub.Predict(request, 30.0).outputs["activation_49"].float_val
        assert int(np.argmax(probabilities)) == int(image.mean(axis=(0, 1, 2)).argmax())
        # The client of REST sends the same numbers as nested lists.
        code, content = client.send("/v1/models/resnet:predict", {"instances": image.tolist()})
        assert code == 200
        np.testing.assert_allclose(content["predictions"][0], probabilities, rtol=1e-5)


def test_resnet_client_sends_an_image_as_base64_after_its_warm_up(flags: tuple[list[str], Any], tmp_path: Path) -> None:
    model, image = ImageBytes(), bytes(range(256)) * 4
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "resnet", "serving_default"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(image, shape=[1]))
    extra = tmp_path / "resnet" / "00000001" / "assets.extra"
    extra.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
        writer.write(log.SerializeToString())
    with connect(model, {"serving_default": model.predict}, tmp_path / "resnet", flags) as running:
        client = Client(running, flags[1])
        body = {"instances": [{"b64": base64.b64encode(image).decode()}]}
        answer = client.send("/v1/models/resnet:predict", body)
        thumbnail = {"b64": base64.b64encode(image[254:258]).decode()}
        row = {"classes": 1024, "probabilities": [pytest.approx(102.4)], "thumbnail_bytes": thumbnail}
        assert answer == (200, {"predictions": [row]})
        code, content = client.send("/v1/models/resnet:predict", {"inputs": body["instances"]})
        assert (code, content["outputs"]["thumbnail_bytes"]) == (200, [thumbnail])
        outputs = client.stub.Predict(request, 30.0).outputs
        assert (list(outputs["classes"].int_val), len(outputs["probabilities"].float_val)) == ([1024], 1)


@pytest.fixture(scope="module")
def half_plus_two(flags: tuple[list[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    model = HalfPlusTwo()
    signatures = {"serving_default": model.predict, REGRESS: model.regress}
    with connect(model, signatures, tmp_path_factory.mktemp("h") / "half_plus_two", flags) as running:
        yield Client(running, flags[1])


def test_half_plus_two_of_the_rest_page(half_plus_two: Client) -> None:
    path = "/v1/models/half_plus_two"
    code, content = half_plus_two.send(path)
    (status,) = content["model_version_status"]
    assert (code, status) == (
        200,
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
    )
    assert half_plus_two.send(f"{path}:predict", {"instances": [1.0, 2.0, 5.0]}) == (
        200,
        {"predictions": [2.5, 3.0, 4.5]},
    )
    assert half_plus_two.send(f"{path}:predict", {"inputs": [1.0, 2.0]}) == (200, {"outputs": [2.5, 3.0]})
    body = {"signature_name": REGRESS, "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert half_plus_two.send(f"{path}:regress", body) == (200, {"results": [2.5, 3.0]})
    code, content = half_plus_two.send("/v1/models/half:predict", {"instances": [1.0, 5.0]})
    assert (code, [*content]) == (404, ["error"])


def test_kserves_client_of_v1(half_plus_two: Client) -> None:
    assert half_plus_two.send("/v1/models") == (200, {"models": ["half_plus_two"]})
    code, content = half_plus_two.send("/v1/models/half_plus_two")
    assert (code, content["name"], content["ready"]) == (200, "half_plus_two", True)
    answer = half_plus_two.send(
        "/v1/models/half_plus_two:predict", {"instances": [4]}, **{"content-type": "application/json"}
    )
    assert answer == (200, {"predictions": [4.0]})


def test_kserves_client_of_v2(half_plus_two: Client) -> None:
    assert half_plus_two.send("/v2/health/live") == (200, {"live": True})
    assert half_plus_two.send("/v2/health/ready")[1]["ready"] is True
    assert half_plus_two.send("/v2/models/half_plus_two/ready") == (200, {"name": "half_plus_two", "ready": True})
    code, metadata = half_plus_two.send("/v2/models/half_plus_two")
    assert (code, metadata["inputs"]) == (200, [{"name": "x", "datatype": "FP32", "shape": [-1]}])
    entry = {"name": "x", "shape": [3], "datatype": "FP32", "parameters": {}}
    code, content = half_plus_two.send(
        "/v2/models/half_plus_two/infer", {"id": "a", "inputs": [{**entry, "data": [1.0, 2.0, 5.0]}]}
    )
    assert (code, content["id"], content["outputs"][0]["data"]) == (200, "a", [2.5, 3.0, 4.5])
    # Arrays of numpy go as bytes behind the JSON.
    tensor = np.array([1, 2, 5], "<f4").tobytes()
    head = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": len(tensor)}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)), "content-type": "application/octet-stream"}
    code, content = half_plus_two.send("/v2/models/half_plus_two/infer", head + tensor, **headers)
    assert (code, content["outputs"][0]["data"]) == (200, [2.5, 3.0, 4.5])
