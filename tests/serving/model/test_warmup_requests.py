"""Warm-up requests are TF Serving's file, made of the golden requests, and sent before a version is served."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from cli.errors import PushError
from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor
from serving.model.warmup_requests import build_warmup, run_warmup
from serving.registry import RELEASE_FILE, WARMUP_FILE, Candidate, LocalRegistry, compute_extra_hashes
from serving.server.model_versions import ServedVersions, VersionPolicy
from tests.serving.models import ROW, example, export_model, golden, golden_answers

pytestmark = pytest.mark.integration
ROWS = [ROW, {"color": "red", "size": 0.0}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tmp_path_factory.mktemp("model") / "exported")


def read(content: bytes, folder: Path) -> list[prediction_log_pb2.PredictionLog]:
    file = folder / "requests"
    file.write_bytes(content)
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]


def test_the_requests_are_the_golden_ones_as_the_graph_takes_them(model: Path, tmp_path: Path) -> None:
    first, both = read(build_warmup(model, golden_answers(model, ROWS).to_json()), tmp_path)
    for log, rows in ((first, ROWS[:1]), (both, ROWS)):
        request = log.predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        # TF Serving's own way: each tensor goes to the graph's input as it is.
        signature = tf.saved_model.load(str(model)).signatures["serving_default"]
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        assert {name: value.dtype for name, value in inputs.items()} == {
            name: spec.dtype for name, spec in signature.structured_input_signature[1].items()
        }
        expected = [row["probability"] for row in Predictor(model).predict(rows)]
        np.testing.assert_allclose(signature(**inputs)["probability"].numpy(), expected, rtol=1e-6)


def test_without_golden_requests_there_are_none(model: Path) -> None:
    assert build_warmup(model, b"") == b""
    assert build_warmup(model, b'{"instances": [], "predictions": [], "tolerance": 0.001}') == b""


def test_a_push_keeps_the_requests_beside_the_content(model: Path, tmp_path: Path) -> None:
    content = golden(model).to_json()
    warmup = build_warmup(model, content)
    registry = LocalRegistry(tmp_path, "shop-model")
    candidate = Candidate("shop", run_id="r", folder=model, golden=content, warmup=warmup)
    assert registry.push(candidate).version == 1
    assert (registry.find_folder(1) / WARMUP_FILE).read_bytes() == warmup
    release = registry.read_release(1)
    assert release is not None
    assert release.extra_hashes[WARMUP_FILE] == compute_extra_hashes({WARMUP_FILE: warmup})[WARMUP_FILE]
    # The same model without them is the same version.
    assert not registry.push(Candidate("shop", run_id="s", folder=model, golden=content)).pushed
    assert run_warmup(registry.find_folder(1), Predictor(model)) == 2
    assert ServedVersions(registry.folder, VersionPolicy()).refresh().default == 1
    (registry.find_folder(1) / WARMUP_FILE).write_bytes(b"")
    versions = ServedVersions(registry.folder, VersionPolicy())
    assert versions.refresh().default is None
    assert f"{WARMUP_FILE}: is not what was pushed" in versions.explain()
    assert (registry.find_folder(1) / RELEASE_FILE).is_file()


def write(folder: Path, *logs: prediction_log_pb2.PredictionLog) -> None:
    (folder / "assets.extra").mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def build_log(kind: str, row: dict[str, Any], signature: str = "") -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, kind).request
    request.input.example_list.examples.add().ParseFromString(example(row))
    if kind == "multi_inference_log":
        request.tasks.add().model_spec.signature_name = signature
    else:
        request.model_spec.signature_name = signature
    return log


def test_requests_of_every_kind_are_sent(model: Path, tmp_path: Path) -> None:
    predictor = Predictor(model)
    write(tmp_path, *(build_log(kind, ROW) for kind in ("classify_log", "regress_log", "multi_inference_log")))
    assert run_warmup(tmp_path, predictor) == 3
    assert run_warmup(tmp_path / "none", predictor) == 0


def test_requests_that_do_not_fit_are_named(model: Path, tmp_path: Path) -> None:
    predictor, other = Predictor(model), prediction_log_pb2.PredictionLog()
    other.predict_log.request.model_spec.signature_name = "other"
    (fewer, _), (other_type, _) = (read(build_warmup(model, golden(model).to_json()), tmp_path) for _ in range(2))
    del fewer.predict_log.request.inputs["size"]
    other_type.predict_log.request.inputs["size"].CopyFrom(tf.make_tensor_proto(["a"]))
    session = prediction_log_pb2.PredictionLog()
    session.session_run_log.request.fetch.append("other:0")
    for logs, message in (
        ([build_log("classify_log", ROW), build_log("classify_log", {"color": "red"})], "request 1: .*size: the value"),
        ([other], "request 0: there is no signature 'other'"),
        ([fewer], "request 0: expected the inputs color, size, shop_name, rank, weight"),
        ([other_type], "request 0: "),
        ([session], "request 0: .*other:0"),
        ([prediction_log_pb2.PredictionLog()], "request 0: expected a request of PredictionService .* found None"),
    ):
        write(tmp_path, *logs)
        with pytest.raises(PushError, match=message):
            run_warmup(tmp_path, predictor)
    for content, message in (
        (b"garbage", "holds no request"),
        (b"garbage" * 9, "request 0: .*corrupted record"),
    ):
        (tmp_path / WARMUP_FILE).write_bytes(content)
        with pytest.raises(PushError, match=message):
            run_warmup(tmp_path, predictor)
    write(tmp_path, *[build_log("classify_log", ROW)] * 1001)
    with pytest.raises(PushError, match="has more than 1,000 requests"):
        run_warmup(tmp_path, predictor)


class Doubled(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def call(self, x: Any) -> dict[str, Any]:
        return {"y": 2 * x}


def test_a_session_run_is_sent_as_tf_serving_does(model: Path, tmp_path: Path) -> None:
    predictor = Predictor(model)
    signature = predictor.get_signature("serving_examples")
    log = prediction_log_pb2.PredictionLog()
    request = log.session_run_log.request
    request.feed.add(name=signature.inputs["examples"].name, tensor=tf.make_tensor_proto([example(ROW)]))
    request.fetch.append(signature.outputs["probability"].name)
    write(tmp_path, log)
    assert run_warmup(tmp_path, predictor) == 1
    request.feed[0].tensor.CopyFrom(tf.make_tensor_proto([b"garbage"]))
    write(tmp_path, log)
    with pytest.raises(PushError, match="request 0: "):
        run_warmup(tmp_path, predictor)
    request.tensor_name_is_alias = True
    write(tmp_path, log)
    with pytest.raises(PushError, match="request 0: SessionRun: expected the graph's names of tensors, found aliases"):
        run_warmup(tmp_path, predictor)


def test_a_model_of_another_origin_has_them_too(tmp_path: Path) -> None:
    doubled = Doubled()
    tf.saved_model.save(doubled, str(tmp_path / "model"), signatures={"serving_default": doubled.call})
    content = b'{"instances": [{"x": [1.5, 2]}], "predictions": [{"y": [3, 4]}], "tolerance": 0.001}'
    first, _ = read(build_warmup(tmp_path / "model", content), tmp_path)
    assert list(first.predict_log.request.inputs["x"].float_val) == [1.5, 2.0]
    write(tmp_path / "model", first)
    assert run_warmup(tmp_path / "model", TensorPredictor(tmp_path / "model")) == 1
    del first.predict_log.request.inputs["x"]
    write(tmp_path / "model", first)
    with pytest.raises(PushError, match="request 0: "):
        run_warmup(tmp_path / "model", TensorPredictor(tmp_path / "model"))
