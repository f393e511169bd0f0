"""The log of a worker: what its process writes, what is dropped and counted, and what is not logged."""

import copy
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import tensorflow as tf

from cli.errors import ConfigError
from schemas.data import ReadOptions
from schemas.tables.log_columns import is_log_column
from serving.model.inputs import build_inputs
from serving.model.model_call import Answer, ModelCall
from serving.model.predictor import Predictor
from serving.model.tensor_predictor import TensorPredictor
from serving.request_log.entries import Entry
from serving.request_log.settings import RequestLogSettings
from serving.request_log.shards import ERROR, ID, KEY, ROW, VERSION, RequestLogError, Shard, list_shards, read_rows
from serving.request_log.worker_log import RequestLog, check_version
from tests.serving.models import FEATURES, export_model
from tests.serving.models import ROW as EXAMPLE_ROW
from tests.serving.request_log.test_streams import full_disk

SMALL_ROW = {"color": "red", "size": 0.5}
# How long a busy machine may take.
_SECONDS = 120.0


@dataclass(frozen=True)
class Version:
    number: int
    predictor: Predictor | TensorPredictor
    signature: str = "serving_default"


class Counts:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition()

    def wait(self, **expected: int) -> None:
        """Wait until the counts are these: threads and a process write."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.counts == expected, 120), self.counts

    def add_logged(self, rows: int) -> None:
        self._add("logged", rows)

    def add_dropped(self, reason: str, rows: int) -> None:
        self._add(reason, rows)

    def add_deleted(self, shards: int) -> None:
        self._add("deleted", shards)

    def add_failure(self) -> None:
        self._add("failures", 1)

    def _add(self, name: str, number: int) -> None:
        with self._changed:
            self.counts[name] += number
            self._changed.notify_all()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(export_model(tmp_path_factory.mktemp("exported") / "1", -5.0))


@pytest.fixture
def version(predictor: Predictor) -> Version:
    return Version(1, predictor)


@pytest.fixture
def counts() -> Counts:
    return Counts()


Open = Callable[..., RequestLog]


@pytest.fixture
def open_log(tmp_path: Path, version: Version, counts: Counts) -> Iterator[Open]:
    """Return a function that opens a log in the folder of the test."""
    logs: list[RequestLog] = []

    def open_log(**settings: Any) -> RequestLog:
        logs.append(RequestLog(RequestLogSettings(tmp_path, **settings), "shop", counts, lambda: version))
        return logs[-1]

    yield open_log
    for log in logs:
        log.close(_SECONDS)


def find_process() -> psutil.Process:
    """Return the process that writes the log of this one."""
    (process,) = [each for each in psutil.Process().children() if each.cmdline()[-1] == "serving.request_log.process"]
    return process


def take_rows(entry: Entry, version: Version, call: ModelCall, start: int, rows: int) -> None:
    """Take some rows of a call as the answer to a request."""
    part = slice(start, start + rows)
    columns = {name: values[part] for name, values in call.columns.items()}
    outputs = {name: array[part] for name, array in call.outputs.items()}
    entry.take_answer(version, Answer(columns, outputs, rows, call, start))


def send(log: RequestLog, version: Version, rows: list[Any], identity: str = "r", error: str = "") -> None:
    """Handle a request as the routes do."""
    entry = log.start_entry(identity, {"x-customer": "c1"})
    if entry is None:
        return
    if not error:
        taken = entry.take_row_keys(version.predictor, rows)
        columns = version.predictor.convert_rows(taken)
        take_rows(entry, version, ModelCall(columns, version.predictor.predict_columns(columns)), 0, len(rows))
    else:
        entry.chosen = version.number
    entry.finish(error)


def list_inputs(shard: Shard) -> list[str]:
    return [name for name in shard.schema.names if not is_log_column(name)]


def read(folder: Path) -> list[dict[str, Any]]:
    return [row for batch in read_rows(list_shards(folder)) for row in batch.to_pylist()]


def test_rows_and_rejections_share_a_shard(tmp_path: Path, version: Version, counts: Counts, open_log: Open) -> None:
    log = open_log(key="header:X-Customer")
    send(log, version, [EXAMPLE_ROW], "one")
    send(log, version, [EXAMPLE_ROW, SMALL_ROW], "two")
    send(log, version, [], "bad", "instances[0]: size: expected a finite number, found 'old'")
    counts.wait(logged=4)
    (shard,) = list_shards(tmp_path)
    assert list_inputs(shard) == ["color", "size", "shop name", "rank", "weight"]
    assert [(r[ID], r[ROW], r[VERSION], r[KEY], r["rank"], r[ERROR]) for r in read(tmp_path)] == [
        ("one", 0, 1, "c1", 2, None),
        ("two", 0, 1, "c1", 2, None),
        ("two", 1, 1, "c1", None, None),
        ("bad", 0, 1, "c1", None, "size: expected a finite number"),
    ]
    assert counts.counts == {"logged": 4}


@pytest.mark.parametrize("sample", [1.0, 0.99])
def test_requests_of_one_call_have_their_own_rows(
    tmp_path: Path, version: Version, open_log: Open, sample: float
) -> None:
    log = open_log(sample=sample, key="header:x-customer")
    sizes = [float(number) for number in range(6)]
    columns = version.predictor.convert_rows([{**EXAMPLE_ROW, "size": size} for size in sizes])
    call = ModelCall(columns, version.predictor.predict_columns(columns))
    # The first three follow each other; one of the others comes too early, and row 5 has no answer.
    for identity, start, rows in (("a", 0, 1), ("b", 1, 1), ("c", 2, 1), ("e", 4, 1), ("d", 3, 1)):
        entry = log.start_entry(identity, {"x-customer": "c1"})
        assert entry is not None
        take_rows(entry, version, call, start, rows)
        entry.finish()
    log.close(_SECONDS)
    logged = read(tmp_path)
    assert [(row[ID], row["size"]) for row in logged] == [("a", 0.0), ("b", 1.0), ("c", 2.0), ("e", 4.0), ("d", 3.0)]
    predicted = call.outputs["probability"]
    assert [row["_prediction_probability"] for row in logged] == [predicted[number] for number in (0, 1, 2, 4, 3)]


def test_a_key_that_the_table_does_not_have_is_taken_out(tmp_path: Path, version: Version, open_log: Open) -> None:
    log = open_log(key="customer")
    send(log, version, [{**EXAMPLE_ROW, "customer": 7}, {**SMALL_ROW, "customer": "8"}, SMALL_ROW])
    log.close(_SECONDS)
    assert [row[KEY] for row in read(tmp_path)] == ["7", "8", None]
    assert "customer" not in list_shards(tmp_path)[0].schema.names


def test_a_sample_by_key_has_all_rows_of_a_key(tmp_path: Path, version: Version, open_log: Open) -> None:
    log = open_log(key="customer", sample=0.5)
    rows = [{**SMALL_ROW, "customer": str(number)} for number in range(50)]
    send(log, version, rows)
    for row in rows:
        send(log, version, [row])
    log.close(_SECONDS)
    logged = Counter(row[KEY] for row in read(tmp_path))
    assert 10 < len(logged) < 40
    assert {*logged.values()} == {2}


def test_a_full_disk_drops_rows_and_the_log_resumes(
    tmp_path: Path, version: Version, counts: Counts, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log = open_log()
    send(log, version, [EXAMPLE_ROW], "before")
    counts.wait(logged=1)
    (stream,) = tmp_path.iterdir()
    with full_disk(stream.stat().st_size + 50, find_process().pid):
        for number, identity in enumerate(("lost-1", "lost-2"), 1):
            send(log, version, [EXAMPLE_ROW], identity)
            counts.wait(logged=1, disk=number, failures=number)
    send(log, version, [EXAMPLE_ROW], "after")
    counts.wait(logged=2, disk=2, failures=2)
    assert [row[ID] for row in read(tmp_path)] == ["before", "after"]
    log.close(_SECONDS)
    assert [record.getMessage() for record in caplog.records] == [
        f"request log: {tmp_path}: cannot be written: File too large; rows are dropped until it can",
        f"request log: {tmp_path} can be written again",
    ]


def test_a_stream_that_cannot_become_a_shard_is_one_plain_line(
    tmp_path: Path, version: Version, counts: Counts, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log()
    send(log, version, [EXAMPLE_ROW], "kept")
    counts.wait(logged=1)
    (stream,) = tmp_path.iterdir()
    (tmp_path / f".{stream.stem}.parquet.partial").mkdir()
    log.close(_SECONDS)
    assert [row[ID] for row in read(tmp_path)] == ["kept"]
    assert [record.getMessage() for record in caplog.records] == [
        f"request log: {stream}: cannot become a shard yet: Is a directory; its rows are read all the same"
    ]


def test_a_folder_that_is_removed_is_made_again(
    tmp_path: Path, version: Version, counts: Counts, open_log: Open
) -> None:
    log = open_log()
    send(log, version, [EXAMPLE_ROW], "lost")
    counts.wait(logged=1)
    (stream,) = tmp_path.iterdir()
    stream.unlink()
    tmp_path.rmdir()
    send(log, version, [EXAMPLE_ROW], "logged")
    counts.wait(logged=2)
    assert [row[ID] for row in read(tmp_path)] == ["logged"]


def test_a_version_that_is_dropped_is_not_kept_in_memory(tmp_path: Path, version: Version, open_log: Open) -> None:
    log = open_log()
    other = replace(version, number=2)
    send(log, other, [EXAMPLE_ROW])
    dropped = weakref.ref(other)
    del other
    log.close(_SECONDS)
    assert dropped() is None
    assert [row[VERSION] for row in read(tmp_path)] == [2]


def test_what_does_not_fit_the_queue_is_dropped(version: Version, counts: Counts, open_log: Open) -> None:
    log = open_log()
    columns = {name: values * 70_000 for name, values in version.predictor.convert_rows([SMALL_ROW]).items()}
    entry = log.start_entry("large", {})
    assert entry is not None
    take_rows(entry, version, ModelCall(columns, {}), 0, 70_000)
    started = time.monotonic()
    entry.finish()
    assert time.monotonic() - started < 1
    assert counts.counts == {"queue": 70_000}


def test_a_process_that_does_not_write_holds_no_answer(version: Version, counts: Counts, open_log: Open) -> None:
    log = open_log()
    send(log, version, [SMALL_ROW])
    counts.wait(logged=1)
    process = find_process()
    process.suspend()
    columns = {name: values * 30_000 for name, values in version.predictor.convert_rows([SMALL_ROW]).items()}
    call = ModelCall(columns, version.predictor.predict_columns(columns))
    for _ in range(3):
        entry = log.start_entry("large", {})
        assert entry is not None
        take_rows(entry, version, call, 0, 30_000)
        entry.finish()
    counts.wait(logged=1, queue=30_000)
    process.resume()
    counts.wait(logged=60_001, queue=30_000)


def test_another_process_writes_after_one_that_was_killed(
    tmp_path: Path,
    version: Version,
    counts: Counts,
    open_log: Open,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = open_log()
    send(log, version, [SMALL_ROW], "before")
    counts.wait(logged=1)
    killed = find_process()
    killed.suspend()
    other = replace(version, number=2)
    send(log, other, [SMALL_ROW, SMALL_ROW], "lost")
    # Once the rows are in the pipe, nothing needs the version.
    sent = weakref.ref(other)
    del other
    while sent() is not None:
        threading.Event().wait(0.01)
    killed.kill()
    counts.wait(logged=1, process=2, failures=1)
    send(log, version, [SMALL_ROW], "after")
    counts.wait(logged=2, process=2, failures=1)
    log.close(_SECONDS)
    assert [row[ID] for row in read(tmp_path)] == ["before", "after"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}
    assert (
        "request log: the process that writes it ended with signal 9; 2 rows are lost, and another is started within 30 s"
        in caplog.text
    )


def test_a_process_that_ends_again_is_not_replaced_at_once(version: Version, counts: Counts, open_log: Open) -> None:
    log = open_log()
    for number in (1, 2):
        send(log, version, [SMALL_ROW])
        counts.wait(logged=number, **({"failures": number - 1} if number > 1 else {}))
        find_process().kill()
        counts.wait(logged=number, failures=number)
    send(log, version, [SMALL_ROW])
    counts.wait(logged=2, failures=2, process=1)


def test_size_and_age_rotate_and_the_budget_deletes(
    tmp_path: Path, version: Version, counts: Counts, open_log: Open
) -> None:
    log = open_log(shard_bytes=1, budget_bytes=1)
    for number in range(3):
        send(log, version, [EXAMPLE_ROW], str(number))
        # Each write is one of its own.
        counts.wait(logged=number + 1, deleted=number + 1)
    log.close(_SECONDS)
    assert counts.counts == {"logged": 3, "deleted": 3}
    assert not [*tmp_path.iterdir()]
    old = open_log(shard_seconds=1e-9)
    send(old, version, [EXAMPLE_ROW], "a")
    counts.wait(logged=4, deleted=3)
    send(old, version, [EXAMPLE_ROW], "b")
    old.close(_SECONDS)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".parquet", ".parquet"]
    assert [row[ID] for row in read(tmp_path)] == ["a", "b"]


def mark(predictor: Predictor, renamed: str = "weight", *, sensitive: tuple[str, ...] = ()) -> Predictor:
    """Return a model whose column `weight` has another name, and some of whose columns are sensitive."""
    declared = FEATURES.model_dump(exclude={"features": {"__all__": {"sensitive"}}})
    features = {renamed if name == "weight" else name: feature for name, feature in declared["features"].items()}
    for name in sensitive:
        if name in features:
            features[name] = {**features[name], "sensitive": True}
    options = ReadOptions(
        other_columns=("customer",), sensitive_columns=("customer",) if "customer" in sensitive else ()
    )
    marked = copy.copy(predictor)
    marked.inputs = build_inputs(type(FEATURES).model_validate({**declared, "features": features}), options)
    return marked


def test_sensitive_columns_are_not_logged(tmp_path: Path, version: Version, counts: Counts, open_log: Open) -> None:
    marked = replace(version, number=2, predictor=mark(version.predictor, sensitive=("color", "customer")))  # type: ignore[arg-type]
    log = open_log()
    send(log, version, [EXAMPLE_ROW])
    send(log, marked, [EXAMPLE_ROW])
    counts.wait(logged=2)
    # A version with other columns has a shard of its own.
    plain, masked = sorted(list_shards(tmp_path), key=lambda shard: len(shard.description.masked))
    assert (plain.description.masked, masked.description.masked) == ((), ("color",))
    assert list_inputs(masked) == ["size", "shop name", "rank", "weight"]
    with pytest.raises(RequestLogError, match="'color' is sensitive and was not logged; a replay needs it"):
        masked.check_columns(["color"], "a replay")
    log_all = RequestLogSettings(tmp_path, key="customer", log_sensitive=True)
    assert not check_version(log_all, marked).masked
    with pytest.raises(ConfigError, match="--log-key customer: the column is sensitive, and the log would have"):
        check_version(replace(log_all, log_sensitive=False), marked)


@pytest.mark.parametrize("name", ["_request_time", "_prediction_probability"])
def test_a_column_with_a_name_of_the_log_is_rejected(
    tmp_path: Path, version: Version, counts: Counts, name: str
) -> None:
    renamed = replace(version, predictor=mark(version.predictor, name))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"version 1: the column '{name}' has the name of a column of the request"):
        RequestLog(RequestLogSettings(tmp_path), "shop", counts, lambda: renamed)


def export_tensors(folder: Path, shape: list[int | None] | None) -> Path:
    """Return a model of tensors."""

    def predict(text: tf.Tensor, point: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(point, axis=1) if shape is not None else point, "echo": text}

    module = tf.Module()
    function = tf.function(predict)
    specs = [tf.TensorSpec([None], tf.string, name="text"), tf.TensorSpec(shape, tf.float32, name="point")]
    tf.saved_model.save(module, str(folder), signatures=function.get_concrete_function(*specs))
    return folder


@pytest.mark.integration
def test_a_model_of_tensors_is_logged_by_its_tensors(tmp_path: Path, counts: Counts) -> None:
    version = Version(3, TensorPredictor(export_tensors(tmp_path / "model", [None, 2])))
    log = RequestLog(RequestLogSettings(tmp_path / "log"), "own", counts, lambda: version)
    send(log, version, [{"text": {"b64": "/w=="}, "point": [1, 2]}, {"text": "b", "point": [3, 4]}])
    send(log, version, [{"text": "c", "point": [0.5, 1]}])
    log.close(_SECONDS)
    rows = read(tmp_path / "log")
    assert [(row["text"], row["point"], row["_prediction_sum"]) for row in rows] == [
        (b"\xff", [1, 2], 3),
        (b"b", [3, 4], 7),
        (b"c", [0.5, 1], 1.5),
    ]
    assert rows[0]["_prediction_echo"] == "\ufffd"
    assert list_shards(tmp_path / "log")[0].schema.field("point").type == pa.list_(pa.float32())


def test_a_tensor_of_any_rank_is_rejected_by_name(tmp_path: Path, counts: Counts) -> None:
    version = Version(3, TensorPredictor(export_tensors(tmp_path / "model", None)))
    with pytest.raises(ConfigError, match="'point' has any number of dimensions, which no column has"):
        RequestLog(RequestLogSettings(tmp_path / "log"), "own", counts, lambda: version)
