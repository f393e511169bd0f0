"""A running server logs the requests of every route, loses nothing by kill -9, and starts with no folder it cannot use."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pyarrow as pa
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2, prediction_service_pb2_grpc

from schemas.tables.log_columns import PREDICTION_PREFIX
from serving.registry import LocalRegistry
from serving.request_log.shards import ERROR, ID, KEY, ROW, VERSION, list_shards, read_rows
from serving.server.command import main
from tests.serving.models import ROW as EXAMPLE_ROW
from tests.serving.models import example, export_model, push
from tests.serving.running import RunningServer, registry_of

pytestmark = pytest.mark.integration

MODEL = "/v1/models/shop-model"
OTHER_ROW = {"color": "red", "size": 0.5}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> LocalRegistry:
    made = registry_of(tmp_path_factory.mktemp("registry"))
    push(made, export_model(tmp_path_factory.mktemp("exported") / "1", -5.0))
    return made


def read(folder: Path, count: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a log, once it has so many: a thread of the server writes them."""
    if not count and not any(folder.glob("requests-*")):
        return []
    waiting = threading.Event()
    for _ in range(200):
        if any(folder.glob("requests-*")):
            shards = list_shards(folder) if any(path.stat().st_size for path in folder.glob("requests-*")) else []
            rows: list[dict[str, Any]] = [row for batch in read_rows(shards, columns) for row in batch.to_pylist()]
            if len(rows) >= count:
                return rows
        waiting.wait(0.05)
    raise AssertionError(f"the log has no {count} rows")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def serving(registry: LocalRegistry, log: Path) -> Iterator[RunningServer]:
    flags = ("--log-requests", str(log), "--log-key", "customer", "--grpc-port", "0")
    with RunningServer("--model-dir", str(registry.folder), *flags) as running:
        yield running


def post(url: str, body: str, identity: str) -> None:
    headers = {"x-request-id": identity, "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as answer:
        assert answer.headers["x-request-id"] == identity


def test_every_route_logs_the_same_row(serving: RunningServer, log: Path) -> None:
    tensors = [
        {"name": "color", "shape": [1], "datatype": "BYTES", "data": ["green"]},
        {"name": "size", "shape": [1], "datatype": "FP32", "data": [2.5]},
        {"name": "shop_name", "shape": [1], "datatype": "BYTES", "data": ["north"]},
        {"name": "rank", "shape": [1], "datatype": "INT64", "data": [2]},
        {"name": "weight", "shape": [1], "datatype": "FP32", "data": [1.0]},
    ]
    keyed = {**EXAMPLE_ROW, "customer": 7}
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "vertex": ("/predict", {"instances": [keyed]}),
        "rows": (f"{MODEL}:predict", {"instances": [keyed]}),
        "columns": (f"{MODEL}:predict", {"inputs": {name: [value] for name, value in keyed.items()}}),
        "classify": (f"{MODEL}:classify", {"examples": [keyed]}),
        "regress": (f"{MODEL}:regress", {"examples": [keyed]}),
        "v2": (
            "/v2/models/shop-model/infer",
            {"inputs": [*tensors, {"name": "customer", "shape": [1], "datatype": "INT64", "data": [7]}]},
        ),
    }
    for identity, (path, body) in requests.items():
        post(f"{serving.url}{path}", json.dumps(body), identity)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(serving.grpc))
    predict = predict_pb2.PredictRequest()
    for name, value in keyed.items():
        dtype = tf.int64 if name == "rank" else None
        predict.inputs[name].CopyFrom(tf.make_tensor_proto([value], dtype))
    _, call = stub.Predict.with_call(predict, metadata=[("x-request-id", "grpc-predict")])
    assert dict(call.trailing_metadata())["x-request-id"] == "grpc-predict"
    serialized = tf.train.Example.FromString(example(EXAMPLE_ROW))
    classify = classification_pb2.ClassificationRequest()
    classify.input.example_list.examples.append(serialized)
    stub.Classify(classify, metadata=[("x-request-id", "grpc-classify")])
    several = inference_pb2.MultiInferenceRequest()
    for method in ("tensorflow/serving/classify", "tensorflow/serving/regress"):
        several.tasks.add(method_name=method)
    several.input.example_list.examples.append(serialized)
    stub.MultiInference(several, metadata=[("x-request-id", "grpc-several")])

    identities = [*requests, "grpc-predict", "grpc-classify", "grpc-several"]
    rows = {row[ID]: row for row in read(log, len(identities))}
    assert [*rows] == identities
    first = rows["vertex"]
    assert {name: first[name] for name in ("color", "size", "shop name", "rank", "weight")} == {
        "color": "green",
        "size": 2.5,
        "shop name": "north",
        "rank": 2,
        "weight": 1.0,
    }
    assert (first[KEY], first[ROW], first[VERSION], first[ERROR]) == ("7", 0, 1, None)
    assert first[f"{PREDICTION_PREFIX}model_version"] == "1"
    assert 0 < first[f"{PREDICTION_PREFIX}probability"] < 1
    # A key in tf.Example has to be a column of the training table.
    keyless = {"grpc-classify", "grpc-several"}
    for identity, row in rows.items():
        assert row[KEY] == (None if identity in keyless else "7"), identity
        rest = {name: value for name, value in row.items() if not name.startswith("_request_")}
        assert rest == {name: first[name] for name in rest}, identity


def test_a_rejected_request_is_a_row_with_its_reason(serving: RunningServer, log: Path) -> None:
    before = len(read(log, 0))
    for size in ("old", "older"):
        assert serving.post("/predict", {"instances": [{"color": "red", "size": size}]})[0] == 400
    assert serving.post(f"{MODEL}/versions/9:predict", {"instances": [EXAMPLE_ROW]})[0] == 404
    rows = read(log, before + 3)[before:]
    assert [row[ERROR] for row in rows] == [
        "size: expected a finite number",
        "size: expected a finite number",
        "version N is not served",
    ]
    assert [row[VERSION] for row in rows] == [1, 1, None]
    assert {value for row in rows for name, value in row.items() if not name.startswith("_request_")} == {None}


def test_a_missing_value_is_null_and_rows_are_counted(serving: RunningServer, log: Path) -> None:
    before = len(read(log, 0))
    assert serving.post("/predict", {"instances": [EXAMPLE_ROW, OTHER_ROW]})[0] == 200
    rows = read(log, before + 2)[before:]
    assert [row[ROW] for row in rows] == [0, 1]
    assert [rows[1][name] for name in ("shop name", "rank", "weight", KEY)] == [None] * 4
    assert serving.get("/metrics")[1].count("model_server_logged_rows_total") > 0


def test_a_key_that_is_not_a_value_stops_neither_the_answer_nor_the_log(serving: RunningServer, log: Path) -> None:
    before = len(read(log, 0))
    # Deeper than what Python serializes.
    nested = "[" * 600 + "]" * 600
    row = json.dumps(EXAMPLE_ROW)
    post(f"{serving.url}/predict", f'{{"instances": [{row[:-1]}, "customer": {nested}}}]}}', "nested")
    columns = {name: [value] for name, value in EXAMPLE_ROW.items()}
    assert serving.post(f"{MODEL}:predict", {"inputs": {**columns, "customer": "not a list"}})[0] == 200
    assert serving.post("/predict", {"instances": [{**EXAMPLE_ROW, "customer": "next"}]})[0] == 200
    rows = read(log, before + 3)[before:]
    assert [row[KEY] for row in rows] == [None, None, "next"]


def test_kill_9_leaves_the_rows_and_no_broken_shard(registry: LocalRegistry, tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ("--model-dir", str(registry.folder), "--log-requests", str(log))
    with RunningServer(*flags) as running:
        for _ in range(5):
            assert running.post("/predict", {"instances": [EXAMPLE_ROW]})[0] == 200
        assert len(read(log, 5)) == 5
        # Nothing writes the rest, as in a container that is killed.
        for process in [*psutil.Process(running.process.pid).children(), psutil.Process(running.process.pid)]:
            process.kill()
        running.wait()
    (stream,) = log.iterdir()
    assert stream.suffix == ".arrow"
    # Half of a block, as if it had been killed within a write.
    with stream.open("ab") as file:
        file.write(pa.BufferOutputStream().getvalue().to_pybytes() + b"\xff\xff\xff\xff\x10")
    with RunningServer(*flags) as running:
        assert running.post("/predict", {"instances": [EXAMPLE_ROW]})[0] == 200
        assert len(read(log, 6)) == 6
        (writer,) = psutil.Process(running.process.pid).children()
        os.kill(running.process.pid, signal.SIGKILL)
        running.wait()
        # It ends once its rows are a shard.
        writer.wait(60)
    shards = sorted(log.iterdir())
    assert [path.suffix for path in shards] == [".parquet", ".parquet"]
    assert shards[0] == stream.with_suffix(".parquet")
    assert len(read(log, 6)) == 6


def test_a_log_of_another_model_is_named_at_the_start(
    serving: RunningServer, registry: LocalRegistry, log: Path
) -> None:
    assert serving.post("/predict", {"instances": [EXAMPLE_ROW]})[0] == 200
    read(log, 1)
    flags = ["--model-dir", str(registry.folder), "--model-name", "other", "--log-requests", str(log)]
    result = CliRunner().invoke(main, flags)
    assert result.exit_code == 2
    assert f"is of the model '{registry.folder.name}', expected 'other'; name another" in result.output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--log-requests", "{file}"],
            "--log-requests {file}: cannot be used: File exists; name one that can be written",
        ),
        (["--log-requests", "/proc/log"], "--log-requests /proc/log: cannot be used: No such file or directory"),
        (["--log-requests", "gs://bucket/log"], "--log-requests gs:/bucket/log: expected a folder of this machine"),
        (["--log-requests", "{foreign}"], "requests-1.parquet: is not a shard of a request log"),
        (["--log-requests", "{folder}", "--log-key", "header:"], "--log-key header:: expected the name of a header"),
        (["--log-requests", "{folder}", "--log-budget", "100"], "--log-budget 100: expected at least 128 MB, twice"),
        (["--sample", "0.5"], "the flags of the request log need --log-requests FOLDER"),
    ],
)
def test_a_folder_or_flag_that_cannot_be_used_is_named(tmp_path: Path, flags: list[str], message: str) -> None:
    places = {name: str(tmp_path / name) for name in ("file", "foreign", "folder")}
    Path(places["file"]).touch()
    Path(places["foreign"]).mkdir()
    Path(places["foreign"], "requests-1.parquet").write_bytes(b"PAR1")
    result = CliRunner().invoke(main, ["--model-dir", str(tmp_path), *(flag.format(**places) for flag in flags)])
    assert result.exit_code == 2
    assert message.format(**places) in result.output
