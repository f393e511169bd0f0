"""The model server over real HTTP and gRPC: Vertex AI's contract, TF Serving's paths and stubs, hostile requests."""

import base64
import contextlib
import gzip
import http.client
import json
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import CliRunner

from cli.page_style import read_style
from serving.model.predictor import Predictor
from serving.registry import LocalRegistry
from serving.server.command import main
from tests import forked
from tests.browser import needs_browser, open_page
from tests.serving.models import ROW, SCHEMA_HASH, export_model, push
from tests.serving.running import RunningServer, ask, registry_of
from tests.vertex_fixtures import BUCKET, Bench

pytestmark = pytest.mark.integration

MODEL = "/v1/models/shop-model"
METHODS = ("tensorflow/serving/classify", "tensorflow/serving/regress")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exported")
    return [export_model(folder / str(offset), float(offset)) for offset in (-5, -4)]


@pytest.fixture(scope="module")
def registry(exported: list[Path], tmp_path_factory: pytest.TempPathFactory) -> LocalRegistry:
    made = registry_of(tmp_path_factory.mktemp("registry"))
    for number, model in enumerate(exported, start=1):
        assert push(made, model, run_id=f"run-{number}") == number
    return made


@pytest.fixture(scope="module")
def serving(registry: LocalRegistry) -> Iterator[RunningServer]:
    flags = ("--versions", "labels", "--grpc-port", "0", "--oncall-url", "http://127.0.0.1:8502/?a=1&b=2")
    with RunningServer("--model-dir", str(registry.folder), *flags) as running:
        yield running


def predict_probability(model: Path) -> float:
    return float(Predictor(model).predict([ROW])[0]["probability"])


def test_vertex_contract_answers_rows_with_version_and_schema(serving: RunningServer, exported: list[Path]) -> None:
    code, content = serving.post("/predict", {"instances": [ROW, {"color": "red", "size": 1}]})
    assert code == 200
    first, second = content["predictions"]
    assert first == {
        "probability": pytest.approx(predict_probability(exported[1])),
        "predicted_label": first["predicted_label"],
        "model_version": "2",
        "schema_hash": SCHEMA_HASH,
    }
    assert 0 < second["probability"] < 1
    code, content = serving.post("/predict", {"instances": [ROW], "parameters": {"outputs": ["probability"]}})
    assert (code, content) == (200, {"predictions": [{"probability": pytest.approx(predict_probability(exported[1]))}]})
    code, health = serving.get("/health")
    assert sorted(health.pop("content")) == ["1", "2"]
    assert (code, health) == (200, {"ready": True, "versions": [1, 2], "default": 2, "policy": "labels"})
    assert serving.get("/live") == (200, {"live": True})


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", 400, "the request is not JSON"),
        (b"[]", 400, 'expected {"instances"'),
        (b'{"instances": []}', 400, "at least one row"),
        (b'{"instances": {}}', 400, "at least one row"),
        (b'{"instances": [3]}', 400, "instances[0]: expected an object of features, found int"),
        (b'{"instances": [{"color": "red"}]}', 400, "instances[0]: size: the value is missing"),
        (b'{"instances": [{"color": "red", "size": 1, "y": 2}]}', 400, "instances[0]: 'y' is unknown"),
        (
            b'{"instances": [{"color": "red", "size": "ten"}]}',
            400,
            "instances[0]: size: expected a finite number, found 'ten'",
        ),
        (
            b'{"instances": [{"color": "red", "size": NaN}]}',
            400,
            "instances[0]: size: expected a finite number, found 'nan'",
        ),
        (b'{"instances": [{"color": "red", "size": -Infinity}]}', 400, "expected a finite number, found '-inf'"),
        (b'{"instances": [{"color": "red", "size": NaN}]', 400, "the request is not JSON"),
        (b'{"instances": [{"color": "\xff", "size": 1}]}', 400, "the request is not JSON"),
        (b'{"instances": [], "extra": 1}', 400, "'extra' is unknown"),
        (b'{"instances": [{}], "parameters": {"run": "rm"}}', 400, "parameters: expected an object with no other keys"),
        (b'{"instances": [{}], "parameters": {"signature_name": "true_label"}}', 404, "no signature 'true_label'"),
        (b"[" * 100_000, 400, "the request is not JSON"),
        (b" " * 1_500_001, 413, "the request is larger than 1,500,000 bytes"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_says_why(
    serving: RunningServer, body: bytes, code: int, message: str
) -> None:
    status, content = serving.post("/predict", body)
    assert (status, message in content["error"]) == (code, True), content


def test_an_example_without_a_required_feature_is_refused_by_name(serving: RunningServer) -> None:
    empty = {"signature_name": "serving_examples", "instances": [{"b64": ""}]}
    code, content = serving.post(f"{MODEL}:predict", empty)
    assert code == 400
    assert content["error"] == "instances[0]: color: the value is missing"


def test_bodies_of_gzip_are_read_within_the_bound(serving: RunningServer) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    plain = serving.post("/predict", body)

    def post(content: bytes, encoding: str) -> tuple[int, Any]:
        headers = {"content-encoding": encoding}
        return ask(urllib.request.Request(f"{serving.url}/predict", content, headers))

    assert post(gzip.compress(body), "gzip") == plain
    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < 1_500_000
    message = "the request is larger than 1,500,000 bytes once it is decompressed"
    assert post(bomb, "gzip") == (413, {"error": message})
    assert post(body, "gzip")[0] == 400
    assert post(body, "br") == (415, {"error": "Content-Encoding: expected gzip or none, found 'br'"})


def test_too_many_rows_are_refused(serving: RunningServer) -> None:
    code, content = serving.post("/predict", {"instances": [{"size": 1}] * 5000})
    assert (code, content["error"]) == (400, "the request has 5,000 rows; at most 4,096 are taken")


def test_tf_serving_paths_reach_versions_and_labels_by_row_and_by_column(
    serving: RunningServer, exported: list[Path]
) -> None:
    old, new = map(predict_probability, exported)
    for path, probability, version in (
        (MODEL, new, "2"),
        (f"{MODEL}/versions/1", old, "1"),
        (f"{MODEL}/labels/champion", new, "2"),
        (f"{MODEL}/labels/previous", old, "1"),
    ):
        code, content = serving.post(f"{path}:predict", {"instances": [ROW]})
        assert (code, content["predictions"][0]["model_version"]) == (200, version)
        assert content["predictions"][0]["probability"] == pytest.approx(probability)
        columns = {name: [value, value] for name, value in ROW.items()}
        code, content = serving.post(f"{path}:predict", {"signature_name": "serving_default", "inputs": columns})
        assert code == 200
        assert content["outputs"]["probability"] == [pytest.approx(probability)] * 2


def test_serialized_examples_are_answered_alike(serving: RunningServer, exported: list[Path]) -> None:
    coded = {"b64": base64.b64encode(tf_example()).decode()}
    for body in (
        {"signature_name": "serving_examples", "instances": [coded]},
        {"signature_name": "serving_examples", "instances": [{"examples": coded}]},
    ):
        code, content = serving.post(f"{MODEL}:predict", body)
        assert (code, content["predictions"][0]["probability"]) == (
            200,
            pytest.approx(predict_probability(exported[1])),
        )
    code, content = serving.post(f"{MODEL}:predict", {"signature_name": "serving_examples", "inputs": [coded]})
    assert (code, content["outputs"]["probability"]) == (200, [pytest.approx(predict_probability(exported[1]))])
    wrong = {"signature_name": "serving_examples", "instances": [{"b64": "AAAA"}]}
    code, content = serving.post(f"{MODEL}:predict", wrong)
    assert code == 400 and content["error"] == "instances[0]: is not a tf.Example"


def tf_example() -> bytes:
    import tensorflow as tf

    features = {
        "color": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"green"])),
        "size": tf.train.Feature(float_list=tf.train.FloatList(value=[2.5])),
        "shop name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"north"])),
        "rank": tf.train.Feature(int64_list=tf.train.Int64List(value=[2])),
        "weight": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0])),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/models/other", "there is no model 'other'; this server has 'shop-model'"),
        ("/v1/models/..%2F..%2Fetc", "there is nothing at /v1/models/../../etc"),
        (f"{MODEL}/versions/9", "version 9 is not served; served: 1, 2"),
        (f"{MODEL}/versions/x", "'x' is not the number of a version"),
        (f"{MODEL}/versions/%2e%2e", "is not the number of a version"),
        (f"{MODEL}/labels/best", "no version has the label 'best'; labels: champion (2), previous (1)"),
        ("/etc/passwd", "there is nothing at /etc/passwd"),
        (f"{MODEL}:explain", "there is no model 'shop-model:explain'"),
    ],
)
def test_what_is_not_there_is_named(serving: RunningServer, path: str, message: str) -> None:
    code, content = serving.get(path)
    assert code == 404
    assert message in content["error"]


def test_status_metadata_and_metrics(serving: RunningServer) -> None:
    code, content = serving.get(MODEL)
    assert code == 200
    assert [(version["version"], version["state"]) for version in content["model_version_status"]] == [
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    code, content = serving.get(f"{MODEL}/versions/1/metadata")
    assert (code, content["model_spec"]["version"]) == (200, "1")
    definition = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["inputs"]["size"]["dtype"] == "DT_FLOAT"
    assert set(definition["outputs"]) == {"probability", "predicted_label", "model_version", "schema_hash"}
    code, text = serving.get("/metrics")
    assert code == 200
    assert 'model_server_version_served{version="2"} 1.0' in text
    assert 'model_server_requests_total{route="status",status="200"}' in text


def test_each_request_leaves_a_line_of_json(serving: RunningServer) -> None:
    asked = urllib.request.Request(
        f"{serving.url}/predict", json.dumps({"instances": [ROW]}).encode(), {"X-Request-Id": "my-id"}
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.headers["x-request-id"] == "my-id"
    (line,) = wait_for_events(serving, "my-id")
    assert {key: line[key] for key in ("event", "method", "path", "status", "rows", "version")} == {
        "event": "request",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "rows": 1,
        "version": 2,
    }
    assert line["ms"] > 0


def wait_for_events(serving: RunningServer, identity: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        events = [event for event in list(serving.events) if event.get("request_id") == identity]
        if events:
            return events
        time.sleep(0.01)
    return []


def test_tf_servings_own_stubs_get_the_same_numbers(serving: RunningServer, exported: list[Path]) -> None:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    with grpc.insecure_channel(serving.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "shop-model"
        request.model_spec.signature_name = "serving_default"
        for name, value in ROW.items():
            dtype = tf.float32 if isinstance(value, float) else None
            request.inputs[name].CopyFrom(tf.make_tensor_proto([value, value], dtype, shape=[2]))
        response = stub.Predict(request, timeout=30)
        assert response.model_spec.version.value == 2
        probability = tf.make_ndarray(response.outputs["probability"])
        assert probability.tolist() == [pytest.approx(predict_probability(exported[1]))] * 2
        assert tf.make_ndarray(response.outputs["model_version"]).tolist() == [b"2", b"2"]
        request.model_spec.version_label = "previous"
        request.output_filter.append("probability")
        response = stub.Predict(request, timeout=30)
        assert (response.model_spec.version.value, list(response.outputs)) == (1, ["probability"])
        assert tf.make_ndarray(response.outputs["probability"])[0] == pytest.approx(predict_probability(exported[0]))

        examples = predict_pb2.PredictRequest()
        examples.model_spec.signature_name = "serving_examples"
        examples.inputs["examples"].CopyFrom(tf.make_tensor_proto([tf_example()]))
        answer = stub.Predict(examples, timeout=30)
        assert tf.make_ndarray(answer.outputs["probability"])[0] == pytest.approx(predict_probability(exported[1]))

        del request.inputs["size"]
        for change, code, message in (
            (lambda: None, grpc.StatusCode.INVALID_ARGUMENT, "size: the value is missing"),
            (lambda: setattr(request.model_spec, "name", "x"), grpc.StatusCode.NOT_FOUND, "there is no model 'x'"),
        ):
            change()
            with pytest.raises(grpc.RpcError) as refused:
                stub.Predict(request, timeout=30)
            assert (refused.value.code(), message in refused.value.details()) == (code, True)

        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = "shop-model"
        packed = stub.GetModelMetadata(metadata, timeout=30).metadata["signature_def"]
        definitions = get_model_metadata_pb2.SignatureDefMap()
        assert packed.Unpack(definitions)
        assert set(definitions.signature_def) == {"serving_default", "serving_examples", *METHODS}

        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "shop-model"
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=30)
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        assert [(version.version, version.state) for version in response.model_version_status] == [
            (2, available),
            (1, available),
        ]


def test_hostile_requests_by_the_api_are_never_answered_with_a_server_error(serving: RunningServer) -> None:
    # It takes seconds to import.
    import schemathesis

    statuses: set[int] = set()
    schema = schemathesis.openapi.from_url(f"{serving.url}/openapi.json")
    checks = schemathesis.checks

    def fuzz(case: Any) -> None:
        response = case.call(timeout=30)
        statuses.add(response.status_code)
        response_checks = [
            checks.not_a_server_error,
            checks.CHECKS.get_one("status_code_conformance"),
            checks.CHECKS.get_one("response_schema_conformance"),
        ]
        case.validate_response(response, checks=response_checks)

    settings = hypothesis.settings(
        max_examples=10,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for result in schema.get_all_operations():
        operation = result.ok()
        # An operation without input has no wrong input.
        takes = operation.body or operation.path_parameters
        for mode in list(schemathesis.GenerationMode) if takes else [schemathesis.GenerationMode.POSITIVE]:
            settings(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(fuzz))()
    assert {200, 400} <= statuses
    assert serving.get("/health")[0] == 200


def test_the_page_links_to_the_others(serving: RunningServer) -> None:
    with urllib.request.urlopen(f"{serving.url}/", timeout=20) as response:
        html = response.read().decode()
    assert "<style nonce=" in html and read_style() in html
    links = re.findall(r'<li><a href="([^"]*)"', html)
    oncall = [f"http://127.0.0.1:8502/{page}?a=1&amp;b=2" for page in ("", "traffic", "versions")]
    assert links == ["/", "openapi.json", "metrics", "/health", *oncall]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "127.0.0.1:8502"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--model-dir", str(tmp_path), "--oncall-url", address])
    assert result.exit_code == 2
    assert f"--oncall-url: {address} is not an address such as http://127.0.0.1:8502" in result.output


@pytest.mark.proof
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_prediction_can_be_tried_in_a_browser(serving: RunningServer, exported: list[Path], scheme: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme}
    with open_page(f"{serving.url}/", **phone) as (page, wrong):
        assert page.title() == "shop-model"
        assert "version 2 (champion)" in page.inner_text("header")
        inputs = page.locator("form input")
        assert [inputs.nth(i).get_attribute("name") for i in range(inputs.count())] == list(ROW)
        # By keyboard alone.
        page.focus("[name=size]")
        page.keyboard.press("Control+A")
        page.keyboard.type("2.5")
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer table")
        answer = page.inner_text("#answer")
        assert f"{predict_probability(exported[1]):.4f}" in answer
        assert "schema_hash" in answer
        heights = [(row.bounding_box() or {})["height"] for row in page.locator("#answer tr").all()]
        assert max(heights) < 40
        assert "curl -s" in page.inner_text("#curl")
        page.fill("[name=size]", "two <b>")
        page.click("button")
        page.wait_for_selector("#answer .problem")
        assert "size: expected a finite number, found 'two <b>'" in page.inner_text("#answer")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        # The browser itself notes the refused request.
        assert [line for line in wrong if "400 (Bad Request)" not in line] == []


def test_what_waits_too_long_is_refused_at_once(registry: LocalRegistry) -> None:
    # A microsecond is over before the model is asked.
    with RunningServer("--model-dir", str(registry.folder), "--timeout", "0.000001", "--grpc-port", "0") as impatient:
        asked = urllib.request.Request(f"{impatient.url}/predict", json.dumps({"instances": [ROW]}).encode())
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=30)
        with refused.value as answer:
            assert (answer.code, answer.headers["retry-after"]) == (503, "1")
            assert "waited past its deadline" in json.load(answer)["error"]
        _, text = impatient.get("/metrics")
        assert "model_server_refused_total 1.0" in text


def test_half_a_request_keeps_nobody_else_waiting(serving: RunningServer) -> None:
    host, port = serving.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        assert serving.post("/predict", {"instances": [ROW]})[0] == 200


def test_a_stopping_server_answers_what_it_has_taken(registry: LocalRegistry) -> None:
    with RunningServer("--model-dir", str(registry.folder)) as running:
        answers: list[int] = []
        host, port = running.url.removeprefix("http://").split(":")
        body = json.dumps({"instances": [ROW]}).encode()
        with socket.create_connection((host, int(port))) as half:
            half.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10]
            )
            # The server has it once it has read the first half; another request shows that it has.
            answers.append(running.post("/predict", {"instances": [ROW]})[0])
            running.process.send_signal(signal.SIGTERM)
            half.sendall(body[10:])
            assert b"200 OK" in half.recv(4096)
        assert running.wait() == 0
        assert running.events[-1]["event"] == "stopped"
    assert answers == [200]


def test_clients_that_go_when_asked_to_are_not_cut_off(registry: LocalRegistry) -> None:
    """A load balancer uses a connection until a response asks to close it."""
    failures: list[Any] = []
    answered, asked_to_go = threading.Event(), []

    def ask(url: str) -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        try:
            while True:
                connection.request("POST", "/predict", json.dumps({"instances": [ROW]}))
                response = connection.getresponse()
                response.read()
                answered.set()
                if response.status != 200:
                    failures.append(response.status)
                if response.headers["connection"] == "close":
                    asked_to_go.append(url)
                    return
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    with RunningServer("--model-dir", str(registry.folder), "--drain", "1.5") as running:
        clients = [threading.Thread(target=ask, args=(running.url,)) for _ in range(4)]
        for client in clients:
            client.start()
        assert answered.wait(30)
        running.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(30)
        # Not ready any more, and still there for whoever has not heard.
        assert running.get("/health")[0] == 503
        assert running.post("/predict", {"instances": [ROW]})[0] == 200
        assert running.wait() == 0
    assert (failures, len(asked_to_go)) == ([], 4)


def test_a_head_without_end_is_refused(serving: RunningServer) -> None:
    host, port = serving.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                client.sendall(b"X-Long: " + b"a" * 4000 + b"\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")
    assert serving.get("/health")[0] == 200


def test_a_tensor_that_claims_more_than_it_holds_is_refused_before_it_is_unpacked(serving: RunningServer) -> None:
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(serving.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for sizes, message in (
            ([10**9], "size: has 1,000,000,000 rows; at most 4,096 are taken"),
            ([-1], "size: has shape [-1]; expected [rows] or [rows, 1]"),
            ([1, 10**9], "size: has shape [1, 1000000000]"),
            ([], "size: has shape []"),
        ):
            request = predict_pb2.PredictRequest()
            request.inputs["size"].CopyFrom(tf.make_tensor_proto([1.0]))
            shape = tf.TensorShape([]).as_proto()
            for size in sizes:
                shape.dim.add(size=size)
            request.inputs["size"].tensor_shape.CopyFrom(shape)
            with pytest.raises(grpc.RpcError) as refused:
                stub.Predict(request, timeout=30)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert message in refused.value.details()
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")(b"", timeout=30)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_container_of_vertex_fetches_its_model_and_takes_its_paths(
    bench: Bench, registry: LocalRegistry, free_port: int
) -> None:
    import shutil

    shutil.copytree(registry.folder / "2", bench.server.emulator.storage / BUCKET / "served")
    environment = {
        "AIP_STORAGE_URI": f"gs://{BUCKET}/served",
        "AIP_HTTP_PORT": str(free_port),
        "AIP_HEALTH_ROUTE": "/alive",
        "AIP_PREDICT_ROUTE": "/v1:predict",
    }
    with RunningServer("--host", "127.0.0.1", **environment) as running:
        code, health = running.get("/alive")
        assert (code, health["ready"], health["versions"], health["default"]) == (200, True, [2], 2)
        code, content = running.post("/v1:predict", {"instances": [ROW]})
        assert (code, content["predictions"][0]["model_version"]) == (200, "2")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_what_cannot_be_served_is_one_line(bench: Bench, registry: LocalRegistry, tmp_path: Path) -> None:
    import shutil

    (tmp_path / "empty").mkdir()
    unpushed = tmp_path / "models" / "1"
    shutil.copytree(bench.make_model(0.1), unpushed)
    tampered = tmp_path / "tampered"
    shutil.copytree(registry.folder / "1", tampered)
    with (tampered / "saved_model.pb").open("ab") as file:
        file.write(b"\x00")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, code, message in (
            (["--model-dir", str(tmp_path / "nothing")], 5, "there is no such folder"),
            (["--model-dir", f"gs://{BUCKET}/nothing"], 5, "nothing is there"),
            (["--model-dir", str(tmp_path / "empty")], 5, "holds no version of a model"),
            (["--model-dir", str(registry.folder.parent)], 5, f"own folder, such as {registry.folder}"),
            (["--model-dir", str(registry.folder), "--versions", "9"], 5, "has version 1, 2; none of them is what"),
            (["--model-dir", str(unpushed.parent)], 5, "no push of this product left it there"),
            (["--model-dir", str(tampered)], 5, "is not what was pushed: its content hash is"),
            (["--model-dir", str(registry.folder), "--versions", "newest"], 2, "--versions: expected champion, labels"),
            (["--model-dir", str(registry.folder), "--port", port], 5, f"127.0.0.1:{port} cannot listen"),
            (["--model-dir", str(registry.folder), "--grpc-port", port], 5, f"--grpc-port {port}: 127.0.0.1:{port}"),
        ):
            done = forked.run("serving", "--port", "0", *arguments)
            errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert (done.returncode, len(errors), message in "".join(errors)) == (code, 1, True), (arguments, done)
            assert "Traceback" not in done.stderr
