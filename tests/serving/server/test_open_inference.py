"""KServe's protocols: V1's list, and V2 with tensors of JSON and of bytes."""

import json
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.model.predictor import Predictor
from serving.server.open_inference import JSON_LENGTH_HEADER
from tests.serving.models import ROW, SCHEMA_HASH, export_model, push
from tests.serving.running import RunningServer, registry_of

pytestmark = pytest.mark.integration
DATATYPES = {str: "BYTES", float: "FP32", int: "INT64"}
NAME = "shop-model"
INFER = f"/v2/models/{NAME}/infer"
ROWS = [ROW, {**ROW, "color": "Łódź", "rank": 3}]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model(tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def serving(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    registry = registry_of(tmp_path_factory.mktemp("registry"))
    push(registry, exported)
    with RunningServer("--model-dir", str(registry.folder), "--grpc-port", "0") as running:
        yield running


def build_inputs(rows: list[dict[str, Any]], shape: list[int] | None = None) -> list[dict[str, Any]]:
    return [
        {"name": k, "shape": shape or [len(rows)], "datatype": DATATYPES[type(v)], "data": [row[k] for row in rows]}
        for k, v in ROW.items()
    ]


def read(content: Any) -> dict[str, list[Any]]:
    return {output["name"]: output["data"] for output in content["outputs"]}


def test_the_server_and_the_model_are_described(serving: RunningServer) -> None:
    assert serving.get("/v2/health/live") == (200, {"live": True})
    assert serving.get("/v2/health/ready") == (200, {"live": True, "ready": True})
    assert serving.get("/v1/models") == serving.get("/v2/models") == (200, {"models": [NAME]})
    code, content = serving.get(f"/v1/models/{NAME}")
    assert (code, content["name"], content["ready"]) == (200, NAME, True)
    code, content = serving.get("/v2")
    assert (code, content["name"], content["extensions"]) == (200, "refpipe-serve", ["binary_tensor_data"])
    for path in (f"/v2/models/{NAME}", f"/v2/models/{NAME}/versions/1"):
        assert serving.get(f"{path}/ready") == (200, {"name": NAME, "ready": True})
        code, content = serving.get(path)
        assert (code, content["name"], content["versions"]) == (200, NAME, ["1"])
        assert content["platform"] == "tensorflow_savedmodel"
        assert {"name": "size", "datatype": "FP32", "shape": [-1]} in content["inputs"]
        assert {"name": "rank", "datatype": "INT64", "shape": [-1]} in content["inputs"]
        assert {"name": "predicted_label", "datatype": "BYTES", "shape": [-1]} in content["outputs"]
    for path in ("/v2/models/other", "/v2/models/other/ready", f"/v2/models/{NAME}/versions/7/ready"):
        assert serving.get(path)[0] == 404


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_tensors_of_json_are_answered_as_rows_are(serving: RunningServer, exported: Path, shape: list[int]) -> None:
    expected = Predictor(exported).predict(ROWS)
    code, content = serving.post(INFER, {"id": "42", "inputs": build_inputs(ROWS, shape)})
    assert code == 200
    assert (content["id"], content["model_name"], content["model_version"]) == ("42", NAME, "1")
    outputs = read(content)
    assert outputs["probability"] == pytest.approx([row["probability"] for row in expected])
    assert outputs["schema_hash"] == [SCHEMA_HASH] * 2
    assert {(o["name"], o["datatype"], *o["shape"]) for o in content["outputs"]} == {
        ("predicted_label", "BYTES", 2),
        ("probability", "FP32", 2),
        ("model_version", "BYTES", 2),
        ("schema_hash", "BYTES", 2),
    }
    body = {"inputs": build_inputs(ROWS), "outputs": [{"name": "schema_hash"}], "parameters": {}}
    code, content = serving.post(f"/v2/models/{NAME}/versions/1/infer", body)
    assert (code, read(content), "id" in content) == (200, {"schema_hash": [SCHEMA_HASH] * 2}, False)


def pack(values: list[Any]) -> bytes:
    if isinstance(values[0], str):
        return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)
    return np.array(values, "<i8" if isinstance(values[0], int) else "<f4").tobytes()


def test_tensors_of_bytes_come_and_go_behind_the_json(serving: RunningServer, exported: Path) -> None:
    """Send what KServe's client sends for arrays of numpy."""
    tensors = [pack([row[name] for row in ROWS]) for name in ROW]
    inputs = build_inputs(ROWS)
    for entry, tensor in zip(inputs, tensors, strict=True):
        del entry["data"]
        entry["parameters"] = {"binary_data_size": len(tensor)}
    outputs = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "schema_hash"}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    headers = {JSON_LENGTH_HEADER: str(len(head)), "content-type": "application/octet-stream"}
    request = urllib.request.Request(f"{serving.url}{INFER}", b"".join([head, *tensors]), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        length, body = int(answer.headers[JSON_LENGTH_HEADER]), answer.read()
    content = json.loads(body[:length])
    (probability, schema_hash) = content["outputs"]
    assert probability == {
        "name": "probability",
        "datatype": "FP32",
        "shape": [2],
        "parameters": {"binary_data_size": 8},
    }
    assert schema_hash["data"] == [SCHEMA_HASH] * 2
    expected = [row["probability"] for row in Predictor(exported).predict(ROWS)]
    np.testing.assert_allclose(np.frombuffer(body[length:], "<f4"), expected, rtol=1e-6)
    everything = json.dumps({"inputs": build_inputs(ROWS), "parameters": {"binary_data_output": True}}).encode()
    request = urllib.request.Request(f"{serving.url}{INFER}", everything)
    with urllib.request.urlopen(request, timeout=30) as answer:
        length, body = int(answer.headers[JSON_LENGTH_HEADER]), answer.read()
    sizes = {o["name"]: o["parameters"]["binary_data_size"] for o in json.loads(body[:length])["outputs"]}
    assert sum(sizes.values()) == len(body) - length
    assert sizes["schema_hash"] == 2 * (4 + len(SCHEMA_HASH))


def test_tritons_client_gets_what_rest_answers(serving: RunningServer, exported: Path) -> None:
    client = triton.InferenceServerClient(serving.grpc)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert client.get_server_metadata().name == "refpipe-serve"
    described = client.get_model_metadata(NAME, as_json=True)
    _, content = serving.get(f"/v2/models/{NAME}")
    for kind in ("inputs", "outputs"):
        named = [{**each, "shape": [int(size) for size in each["shape"]]} for each in described[kind]]
        assert named == content[kind]
    inputs = []
    for name, value in ROW.items():
        dtype = {str: object, float: np.float32, int: np.int64}[type(value)]
        inputs.append(triton.InferInput(name, [len(ROWS)], DATATYPES[type(value)]))
        inputs[-1].set_data_from_numpy(np.array([row[name] for row in ROWS], dtype))
    expected = [row["probability"] for row in Predictor(exported).predict(ROWS)]
    everything = client.infer(NAME, inputs, request_id="7")
    np.testing.assert_allclose(everything.as_numpy("probability"), expected, rtol=1e-6)
    assert everything.as_numpy("schema_hash").tolist() == [SCHEMA_HASH.encode()] * 2
    assert (everything.get_response().id, everything.get_response().model_version) == ("7", "1")
    some = client.infer(NAME, inputs, "1", outputs=[triton.InferRequestedOutput("probability")])
    assert [output.name for output in some.get_response().outputs] == ["probability"]
    with pytest.raises(triton.InferenceServerException, match=r"there is no output 'other'") as unknown:
        client.infer(NAME, inputs, outputs=[triton.InferRequestedOutput("other")])
    assert unknown.value.status() == "StatusCode.INVALID_ARGUMENT"
    client.close()


def build_message(**changes: Any) -> Any:
    """Return a request with typed contents, in which the input `size` may be another."""
    fields = {"BYTES": "bytes_contents", "FP32": "fp32_contents", "INT64": "int64_contents"}
    message = service_pb2.ModelInferRequest(model_name=NAME)
    for entry in build_inputs(ROWS):
        values = [value.encode() if isinstance(value, str) else value for value in entry.pop("data")]
        entry["contents"] = {fields[entry["datatype"]]: values}
        message.inputs.add(**{**entry, **(changes if entry["name"] == "size" else {})})
    return message


def test_typed_contents_are_answered_with_typed_contents(serving: RunningServer, exported: Path) -> None:
    with grpc.insecure_channel(serving.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(build_message(), timeout=30)
    outputs = {output.name: output for output in answer.outputs}
    expected = [row["probability"] for row in Predictor(exported).predict(ROWS)]
    np.testing.assert_allclose(outputs["probability"].contents.fp32_contents, expected, rtol=1e-6)
    assert list(outputs["schema_hash"].contents.bytes_contents) == [SCHEMA_HASH.encode()] * 2
    assert (list(outputs["probability"].shape), list(answer.raw_output_contents)) == ([2], [])
    assert serving.wait_for_events(event="rpc", method="ModelInfer", status="OK", rows=2, version=1)


def test_what_does_not_fit_is_rejected_over_grpc(serving: RunningServer) -> None:
    raw, unknown, version = build_message(), build_message(), build_message()
    raw.raw_input_contents.append(b"")
    unknown.model_name, version.model_version = "other", "x"
    shared = build_message()
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    both = build_message()
    both.raw_input_contents.extend([b""] * len(both.inputs))
    with grpc.insecure_channel(serving.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for message, code, reason in (
            (build_message(shape=[3]), "INVALID_ARGUMENT", "inputs[1]: size: shape [3] has 3 values, and 2 came"),
            (build_message(datatype="FP16"), "INVALID_ARGUMENT", "size: datatype: FP16 is in raw_input_contents only"),
            (build_message(name="other"), "INVALID_ARGUMENT", "'other'"),
            (raw, "INVALID_ARGUMENT", "raw_input_contents: expected one for each of the 5 inputs, found 1"),
            (both, "INVALID_ARGUMENT", "expected either contents or raw_input_contents"),
            (shared, "INVALID_ARGUMENT", "parameters.shared_memory_region is not supported"),
            (unknown, "NOT_FOUND", "there is no model 'other'"),
            (version, "NOT_FOUND", "'x' is not the number of a version"),
        ):
            with pytest.raises(grpc.RpcError) as rejected:
                stub.ModelInfer(message, timeout=30)
            assert (rejected.value.code().name, reason in rejected.value.details()) == (code, True), rejected.value
        with pytest.raises(grpc.RpcError) as unimplemented:
            stub.ModelConfig(service_pb2.ModelConfigRequest(name=NAME), timeout=30)
        assert unimplemented.value.code() == grpc.StatusCode.UNIMPLEMENTED


def change(**values: Any) -> dict[str, Any]:
    """Return a request in which the input `size` is another."""
    inputs = [entry if entry["name"] != "size" else {**entry, **values} for entry in build_inputs([ROW])]
    return {"inputs": [{k: v for k, v in entry.items() if v is not None} for entry in inputs]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'expected {"inputs": ['),
        ({"inputs": []}, 'expected {"inputs": ['),
        ({"inputs": [3]}, "inputs[0]: expected an object with a name"),
        ({"instances": []}, "'instances' is unknown; expected id, inputs, outputs, parameters"),
        ({"id": 3, "inputs": []}, "id: expected a string"),
        (change(name="other"), "'other' is unknown"),
        (change(name="color"), "inputs[1]: 'color' comes twice"),
        (change(kind="x"), "inputs[1]: 'kind' is unknown; expected data, datatype, name, parameters, shape"),
        (change(shape=[2]), "inputs[1]: size: shape [2] has 2 values, and 1 came"),
        (change(shape=[10**18, 10**18]), "values, and 1 came"),
        (change(shape=[-1]), "inputs[1]: size: shape: expected a list of numbers above 0, the rows first"),
        (change(shape=[10**8, 0], data=[]), "inputs[1]: size: shape: expected a list of numbers above 0"),
        (change(shape=[]), "inputs[1]: size: shape: expected a list of numbers"),
        (change(shape=[True]), "inputs[1]: size: shape: expected a list of numbers"),
        (change(datatype="FP8"), "inputs[1]: size: datatype: expected one of BOOL, UINT8"),
        (change(data=["a"]), "inputs[1]: size: data: expected FP32, found a"),
        (change(data=[None]), "inputs[1]: size: data: expected FP32, found None"),
        (change(data=[True]), "inputs[1]: size: data: expected FP32, found True"),
        (change(datatype="INT8", data=[200]), "inputs[1]: size: data: expected INT8, found 200"),
        (change(datatype="BYTES"), "inputs[1]: size: data: expected BYTES, found 2.5"),
        (change(datatype="BYTES", data=["old"]), "instances[0]: size: expected a finite number, found 'old'"),
        (change(data=3), "inputs[1]: size: data: expected a list of values"),
        (change(data=None), "inputs[1]: size: expected either data, or parameters.binary_data_size"),
        (change(parameters=3), "inputs[1]: parameters: expected an object"),
        (change(parameters={"binary_data_size": -1}), "binary_data_size: expected a number of bytes"),
        (change(data=None, parameters={"binary_data_size": 4}), "4 bytes are announced, 0 came behind the JSON"),
        (change(parameters={"shared_memory_region": "x"}), "parameters.shared_memory_region is not supported"),
        ({**change(), "outputs": [{"name": "x"}]}, "outputs: there is no output 'x'; outputs: predicted_label"),
        ({**change(), "outputs": []}, 'outputs: expected [{"name": ...}, ...]'),
        ({**change(), "outputs": [{"name": "probability"}] * 2}, "outputs[1]: 'probability' comes twice"),
    ],
)
def test_requests_that_do_not_fit_are_named(serving: RunningServer, body: dict[str, Any], message: str) -> None:
    code, content = serving.post(INFER, body)
    assert (code, message in content["error"]) == (400, True), content


@pytest.mark.parametrize(
    ("tensors", "size", "message"),
    [
        (b"\0" * 3, 3, "3 bytes are no whole number of FP32"),
        (b"\0" * 4, 8, "8 bytes are announced, 4 came behind the JSON"),
        (b"\0" * 8, 4, "the inputs have 4 bytes, and 8 came behind the JSON"),
    ],
)
def test_bytes_that_do_not_fit_are_named(serving: RunningServer, tensors: bytes, size: int, message: str) -> None:
    head = json.dumps(change(data=None, parameters={"binary_data_size": size})).encode()
    request = urllib.request.Request(f"{serving.url}{INFER}", head + tensors, {JSON_LENGTH_HEADER: str(len(head))})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as answer:
        assert (answer.code, message in answer.read().decode()) == (400, True)
    for length in ("x", str(len(head) + 100)):
        request = urllib.request.Request(f"{serving.url}{INFER}", head, {JSON_LENGTH_HEADER: length})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        with refused.value as answer:
            assert "expected a part of the" in answer.read().decode()


class Tensors(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2, 3], tf.float32, "x"), tf.TensorSpec([None], tf.bool, "yes")])
    def call(self, x: Any, yes: Any) -> dict[str, Any]:
        return {"doubled": 2 * x, "no": tf.logical_not(yes), "count": tf.fill(tf.shape(yes), tf.constant(6, tf.int32))}


def test_tensors_of_any_shape_reach_a_model_of_another_origin(tmp_path: Path) -> None:
    model = Tensors()
    tf.saved_model.save(model, str(tmp_path / "tensors" / "1"), signatures={"serving_default": model.call})
    flat = [float(n) for n in range(12)]
    nested = [[[0.0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    with RunningServer("--model-dir", str(tmp_path / "tensors"), "--allow-unvalidated") as running:
        for data in (flat, nested):
            inputs = [
                {"name": "x", "shape": [2, 2, 3], "datatype": "FP32", "data": data},
                {"name": "yes", "shape": [2], "datatype": "BOOL", "data": [True, False]},
            ]
            code, content = running.post("/v2/models/tensors/infer", {"inputs": inputs})
            assert code == 200, content
            assert read(content) == {"doubled": [2 * n for n in flat], "no": [False, True], "count": [6, 6]}
            assert [(o["datatype"], o["shape"]) for o in content["outputs"]] == [
                ("INT32", [2]),
                ("FP32", [2, 2, 3]),
                ("BOOL", [2]),
            ]
