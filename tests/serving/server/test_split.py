"""A share of the requests is answered by the candidate: by key, whatever the protocol, the worker and the restart."""

import base64
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2, prediction_service_pb2_grpc

from serving.registry import LocalRegistry, compute_content_hash
from serving.request_log.shards import ERROR, VERSION
from serving.server.label_share import LabelShare
from tests.serving.models import ROW, example, export_model, push
from tests.serving.running import RunningServer, ask, registry_of
from tests.serving.server.test_request_log import read
from tests.serving.server.test_shadow import QUICK, read_metrics

pytestmark = pytest.mark.integration

MODEL = "/v1/models/shop-model"
SHARE = 0.3
KEYS = [f"customer-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> LocalRegistry:
    folder = tmp_path_factory.mktemp("registry")
    made = registry_of(folder / "registry")
    for number, offset in enumerate((-5.0, -3.0), start=1):
        push(made, export_model(folder / str(number), offset), run_id=f"run-{number}", promote=number == 1)
    return made


def expect_version(registry: LocalRegistry, key: str) -> int:
    """Return the version for a key, by the salt that restarts and workers agree on."""
    salt = f"split {compute_content_hash(registry.find_folder(2))}"
    return 2 if LabelShare("candidate", SHARE).has_key(salt, key) else 1


def _predict(server: RunningServer, headers: dict[str, str]) -> int:
    body = json.dumps({"instances": [ROW]}).encode()
    code, content = ask(urllib.request.Request(f"{server.url}/predict", body, headers))
    assert code == 200, content
    return int(content["predictions"][0]["model_version"])


def test_a_key_has_one_version_after_restarts(registry: LocalRegistry) -> None:
    expected = {key: expect_version(registry, key) for key in KEYS}
    assert {*expected.values()} == {1, 2}
    flags = ("--split", f"candidate={SHARE}", *QUICK)
    with RunningServer("--model-dir", str(registry.folder), *flags) as server:
        for _ in range(3):
            assert {key: _predict(server, {"x-split-key": key}) for key in KEYS} == expected
        # Without a key, the request's ID is one.
        assert {key: _predict(server, {"x-request-id": key}) for key in KEYS} == expected


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def serving(registry: LocalRegistry, log: Path) -> Iterator[RunningServer]:
    flags = ("--split", f"candidate={SHARE}", "--split-key", "shop name", "--grpc-port", "0", *QUICK)
    flags = (*flags, "--log-requests", str(log))
    with RunningServer("--model-dir", str(registry.folder), *flags) as running:
        yield running


def _post(server: RunningServer, path: str, body: Any) -> Any:
    code, content = server.post(path, body)
    assert code == 200, content
    return content


def _by_row(server: RunningServer, row: dict[str, Any]) -> int:
    return int(_post(server, f"{MODEL}:predict", {"instances": [row]})["predictions"][0]["model_version"])


def _by_column(server: RunningServer, row: dict[str, Any]) -> int:
    inputs = {name: [value] for name, value in row.items()}
    return int(_post(server, f"{MODEL}:predict", {"inputs": inputs})["outputs"]["model_version"][0])


def _by_record(server: RunningServer, row: dict[str, Any]) -> int:
    record = base64.b64encode(example(row)).decode()
    body = {"signature_name": "serving_examples", "instances": [{"b64": record}]}
    return int(_post(server, f"{MODEL}:predict", body)["predictions"][0]["model_version"])


def _by_infer(server: RunningServer, row: dict[str, Any]) -> int:
    kinds = {str: "BYTES", int: "INT64", float: "FP32"}
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": kinds[type(value)], "data": [value]} for name, value in row.items()
    ]
    return int(_post(server, "/v2/models/shop-model/infer", {"inputs": inputs})["model_version"])


def _by_grpc(server: RunningServer, row: dict[str, Any]) -> int:
    request = predict_pb2.PredictRequest()
    for column, value in row.items():
        kind = {str: tf.string, int: tf.int64, float: tf.float32}[type(value)]
        request.inputs[column].CopyFrom(tf.make_tensor_proto([value], kind))
    with grpc.insecure_channel(server.grpc) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=30)
    return int(answer.model_spec.version.value)


def _by_classify(server: RunningServer, row: dict[str, Any]) -> int:
    request = classification_pb2.ClassificationRequest()
    # As the training table has the name.
    named = {"shop name" if name == "shop_name" else name: value for name, value in row.items()}
    request.input.example_list.examples.append(tf.train.Example.FromString(example(named)))
    with grpc.insecure_channel(server.grpc) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify(request, timeout=30)
    return int(answer.model_spec.version.value)


@pytest.mark.parametrize("send", [_by_row, _by_column, _by_record, _by_infer, _by_grpc, _by_classify])
def test_a_column_is_the_key_in_all_protocols(
    registry: LocalRegistry, serving: RunningServer, send: Callable[[RunningServer, dict[str, Any]], int]
) -> None:
    inside = next(key for key in KEYS if expect_version(registry, key) == 2)
    outside = next(key for key in KEYS if expect_version(registry, key) == 1)
    for _ in range(2):
        assert [send(serving, {**ROW, "shop_name": key}) for key in (inside, outside)] == [2, 1]


def test_the_header_is_before_the_column_and_several_keys_are_not_split(
    registry: LocalRegistry, serving: RunningServer
) -> None:
    inside = [key for key in KEYS if expect_version(registry, key) == 2][:2]
    outside = next(key for key in KEYS if expect_version(registry, key) == 1)
    body = json.dumps({"instances": [{**ROW, "shop_name": inside[0]}]}).encode()
    _, content = ask(urllib.request.Request(f"{serving.url}/predict", body, {"x-split-key": outside}))
    assert content["predictions"][0]["model_version"] == "1"
    before = read_metrics(serving).get('split_keys_total{source="mixed"}', 0.0)
    rows = [{**ROW, "shop_name": key} for key in inside]
    content = _post(serving, "/predict", {"instances": rows})
    assert {row["model_version"] for row in content["predictions"]} == {"1"}
    assert read_metrics(serving)['split_keys_total{source="mixed"}'] == before + 1


def test_a_request_that_names_a_version_or_a_label_is_not_split(
    registry: LocalRegistry, serving: RunningServer
) -> None:
    inside = next(key for key in KEYS if expect_version(registry, key) == 2)
    body = {"instances": [{**ROW, "shop_name": inside}]}
    for path, version in (("versions/1", "1"), ("labels/champion", "1"), ("labels/candidate", "2")):
        content = _post(serving, f"{MODEL}/{path}:predict", body)
        assert content["predictions"][0]["model_version"] == version


def test_tasks_of_which_one_names_a_version_are_not_split(registry: LocalRegistry, serving: RunningServer) -> None:
    inside = next(key for key in KEYS if expect_version(registry, key) == 2)
    request = inference_pb2.MultiInferenceRequest()
    for method in ("classify", "regress"):
        request.tasks.add(method_name=f"tensorflow/serving/{method}")
    request.input.example_list.examples.append(tf.train.Example.FromString(example({**ROW, "shop name": inside})))
    with grpc.insecure_channel(serving.grpc) as channel:
        infer = prediction_service_pb2_grpc.PredictionServiceStub(channel).MultiInference
        versions = []
        for label in ("", "champion"):
            request.tasks[1].model_spec.version_label = label
            answer = infer(request, timeout=30, metadata=[("x-split-key", inside)])
            versions.append([result.model_spec.version.value for result in answer.results])
    assert versions == [[2, 2], [1, 1]]


def test_requests_are_counted_by_version_and_outcome(
    registry: LocalRegistry, serving: RunningServer, log: Path
) -> None:
    inside = next(key for key in KEYS if expect_version(registry, key) == 2)
    before = read_metrics(serving)
    assert serving.post("/predict", {"instances": [{**ROW, "shop_name": inside}]})[0] == 200
    assert serving.post("/predict", {"instances": [{**ROW, "shop_name": inside, "size": "wide"}]})[0] == 400
    after = read_metrics(serving)
    for name in (
        'split_requests_total{other="2",outcome="answered",version="2"}',
        'split_requests_total{other="2",outcome="rejected",version="2"}',
        'split_request_seconds_count{other="2",version="2"}',
    ):
        assert after[name] == before.get(name, 0.0) + 1
    # The split had not chosen yet when the second one was rejected.
    assert serving.post("/predict", {"instance": []})[0] == 400
    assert serving.post(f"{MODEL}/labels/champion:predict", {"instance": []})[0] == 400
    # Tasks of several versions are of none.
    request = inference_pb2.MultiInferenceRequest()
    for label in ("champion", "candidate"):
        task = request.tasks.add(method_name="tensorflow/serving/classify")
        task.model_spec.version_label = label
    with grpc.insecure_channel(serving.grpc) as channel, pytest.raises(grpc.RpcError, match="name several versions"):
        prediction_service_pb2_grpc.PredictionServiceStub(channel).MultiInference(request, timeout=30)
    rejections: list[dict[str, Any]] = []
    for _ in range(200):
        rejections = [row for row in read(log, 1) if row[ERROR] is not None]
        if len(rejections) == 4:
            break
        threading.Event().wait(0.05)
    assert [row[VERSION] for row in rejections] == [2, None, 1, None]
