"""The same raw row has the same prediction, or the same error, on every route.

Routes:

- the evaluated signature behind ExampleGen's reading of CSV
- batch prediction of CSV, Parquet and TFRecord
- a running server by rows and columns of JSON, by gRPC and by tf.Example
"""

import csv
import io
import json
import re
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest
import tensorflow as tf
from hypothesis import strategies
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc, regression_pb2

from cli.errors import DataError
from components.example_records import serialize_columns
from schemas.data import Data, Format
from schemas.decision import DecisionThreshold
from schemas.features import FeatureSet, escape_name
from schemas.tables.typed_columns import Table, summarize_bad_rows
from serving.batch import input_files, prediction_tables
from serving.batch.job import Job
from serving.batch.model_loader import read_options
from serving.model.predictor import Predictor
from serving.model.signatures import SERVING_EXAMPLES
from serving.registry import Candidate, LocalRegistry
from serving.request_log.shards import ERROR, ID, PREDICTION_PREFIX, Shard, list_shards, read_rows, write_shard
from tests.serving.models import decided_at, golden_answers
from tests.serving.running import RunningServer

pytestmark = pytest.mark.integration

FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "age": {"kind": "numeric"},
            "unit price": {"kind": "numeric", "scale": "min_max", "missing": "mean"},
            "income": {"kind": "numeric", "scale": "log_z_score", "missing": 0.0, "missing_values": ["", "NaN", "-1"]},
            "hours": {"kind": "numeric", "buckets": {"kind": "quantiles", "count": 4}, "missing": 40.0},
            "gain": {"kind": "numeric", "scale": "none", "buckets": {"kind": "nonzero_quantiles", "count": 3}},
            "size": {"kind": "numeric", "scale": "identity", "buckets": {"kind": "boundaries", "boundaries": [1, 2]}},
            "grade": {"kind": "identity", "num_ids": 4, "missing": 3, "missing_values": ["", "2", "nan"]},
            "rank": {"kind": "identity", "num_ids": 4, "missing_values": []},
            "town": {"kind": "vocabulary", "max_size": 10, "missing": "unknown"},
            "color": {"kind": "vocabulary_list", "values": ["red", "NA", ""], "missing_values": ["?"]},
            "shop": {"kind": "vocabulary_file", "file": "f", "values": ["a", "b"], "missing": "a"},
            "zip": {"kind": "hash", "num_ids": 500},
            "at": {
                "kind": "timestamp",
                "parts": {"hour": {}, "month": {"cyclical": True}, "year": {}},
                "missing": "own_id",
            },
            "tags": {"kind": "list", "max_values": 4, "tokens": {"max_size": 9}},
            "note": {"kind": "text", "max_tokens": 12, "tokens": {"max_size": 50}},
            "point": {"kind": "vector", "length": 2, "delimiter": " ", "missing": "zeros"},
            "rate": {"kind": "numeric", "expression": "log1p(hours) / age", "missing": "mean"},
            "late": {"kind": "identity", "num_ids": 2, "expression": "hour(at) > 3 or town == 'Oslo'", "missing": 0},
        },
        "crosses": [{"features": ["town", "hours", "grade"], "num_ids": 500}],
        "label": {"column": "bought", "positive": "yes", "negative": "no"},
    }
)
DATA = Data.model_validate(
    {
        "base": "/",
        "splits": {"train": {"files": "*"}, "eval": {"source": "train", "fraction": 0.1}},
        "missing_values": ["", "?", "NA"],
        "ignored_columns": ["id"],
        "csv": {"thousands": ",", "currency": ["$"], "percent": True},
    }
)
# The same with decimal commas, and decided at another threshold.
COMMAS = DATA.model_copy(update={"csv": DATA.csv.model_copy(update={"decimal": ",", "thousands": "."})})
THRESHOLDS = {DATA.csv.decimal: 0.5, COMMAS.csv.decimal: 0.9}
ROWS = [
    {
        "age": str(20 + number),
        "unit price": str(number / 7),
        "income": str(10**number),
        "hours": str(7 * number),
        "gain": str(number % 3),
        "size": str(number / 4),
        "grade": str(number % 4),
        "rank": str(number % 4),
        "town": ("Oslo", "Łódź", "85711")[number % 3],
        "color": ("red", "NA", "")[number % 3],
        "shop": "ab"[number % 2],
        "zip": str(85700 + number),
        "at": f"2024-0{1 + number % 9}-{1 + number:02}T{number:02}:30:00",
        "tags": ("a|b", "b", "c | a|", "")[number % 4],
        "note": ("Free £5 now!", "call me", "ok, OK?", "")[number % 4],
        "point": f"[{number} {number / 8}]",
    }
    for number in range(12)
]
WRITTEN = ["$1,108.98", "1,108", "-$5", "($5.5)", "51.1%", "200 %", "1,10", "0,125", "$", "1.125"]
NUMBERS = [
    *WRITTEN,
    "0",
    "1",
    "2",
    "-1",
    "+3",
    "5.0",
    "2.5",
    ".5",
    "5.",
    "1e3",
    " 4 ",
    "-0",
    "16777217",
    "9007199254740993",
]
# Each may be missing, or too large, for one column and not for another.
EXTREMES = [
    *["", "?", "NA", "NaN", "nan", "-nan", "inf", "-Infinity", "1e39", "1e400", "3.3e38", "-1e38", "1e-50", "1e300"],
    *["9223372036854775807", "9223372036854775808", "-9223372036854775808", "85711"],
]
# None is a number.
STRINGS = [
    *["0x10", "1_0", "1,5", "1e", "old", "true", "True", " red", "red ", "a\nb", "a\rb", "\x1f", "٣", "é", "e\u0301"],
    *["🙂", "None", "null", "z" * 300],
]
# For times, lists, texts and vectors.
ODD_OF_KINDS = [
    *["2024-02-29", "2023-02-29", "2024-02-29 10:00+99:00", "0001-01-01", "10:00", "29.02.2024"],
    *["a|b|c|d|e", "|", "a||b", "[1 2]", "1 2", "[1 2 3]", "[1 nan]", "Good GOOD good day", "你好 мир"],
]
KIND_COLUMNS = ("at", "tags", "note", "point")
# A number of JSON, written as Python and CSV have it.
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def values(kind: str) -> strategies.SearchStrategy[str]:
    return strategies.sampled_from([*NUMBERS, *EXTREMES, *STRINGS, *ODD_OF_KINDS]) | strategies.sampled_from(
        [row[kind] for row in ROWS]
    )


rows = strategies.fixed_dictionaries({name: values(name) for name in FEATURES.raw_features})
# Most rows are good but for one or two values: else all would end in an error.
few_odd = strategies.builds(
    lambda base, other, names: {**base, **{name: other[name] for name in names}},
    strategies.sampled_from(ROWS),
    rows,
    strategies.sets(strategies.sampled_from(sorted(FEATURES.raw_features)), max_size=2),
)
_DATATYPES = {str: "BYTES", int: "INT64", float: "FP64"}
Row = dict[str, str]
# A probability and a label.
Prediction = tuple[float, str]
# Take the rows of one file or request, and return their predictions, or the column and the reason of its error.
Route = Callable[[list[dict[str, Any]]], list[Prediction] | str]
Evaluate = Callable[[list[Row]], list[Prediction | str]]


@pytest.fixture(scope="module", params=[DATA, COMMAS], ids=["points", "commas"])
def data(request: pytest.FixtureRequest) -> Data:
    return cast(Data, request.param)


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what Transform learns from the rows."""
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

    from components.transform.preprocessing import preprocessing_fn
    from serving.model.signatures import DTYPES

    folder = tmp_path_factory.mktemp("transform")
    spec: dict[str, Any] = {
        name: tf.io.FixedLenFeature([], DTYPES[kind])
        if name == "bought" or FEATURES.raw_features[name].missing is None
        else tf.io.VarLenFeature(DTYPES[kind])
        for name, kind in FEATURES.column_types.items()
    }
    table = Table.from_config(str(_write_csv(folder / "train.csv", ROWS)), DATA, FEATURES, max_bad_rows=0)
    optional = {name for name, kind in spec.items() if isinstance(kind, tf.io.VarLenFeature)}
    train = [
        {k: v if k not in optional else [] if v is None else [v] for k, v in row.items()}
        for batch in table.read_batches()
        for row in batch.values.to_pylist()
    ]
    assert len(train) == len(ROWS), table.bad_rows
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    config = {"feature_set": FEATURES.model_dump_json()}
    with tft_beam.Context(temp_dir=str(folder / "temporary")):
        graph = (train, metadata) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, custom_config=config)
        )
        _ = graph | tft_beam.WriteTransformFn(str(folder / "transform"))
    metadata_io.write_metadata(metadata, str(folder / "transform" / "metadata"))
    return folder / "transform"


@pytest.fixture(scope="module")
def version(data: Data, transform: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pushed version of a model with every kind of feature, whose output depends on each transformed column."""
    import tensorflow_transform as tft

    from serving.model.served_model import ServedModel, TransformGraph

    folder = tmp_path_factory.mktemp("model")

    def network(inputs: dict[str, Any], training: bool) -> Any:
        del training
        values = tf.concat([tf.cast(inputs["ids"], tf.float32), inputs["numbers"]], axis=1)
        return tf.reduce_sum(values * 0.1 / tf.range(1.0, values.shape[1] + 1.0), axis=1, keepdims=True)

    options = data.build_read_options("bought")
    graph = TransformGraph(tft.TFTransformOutput(str(transform)))
    decision = DecisionThreshold() if data is DATA else decided_at(THRESHOLDS[data.csv.decimal])
    served = ServedModel(network, {}, graph, FEATURES, "00ff", options, decision)
    served.export(str(folder / "exported"))
    instance = {escape_name(name): value for name, value in _write_numbers(ROWS[0], data).items()}
    golden = golden_answers(folder / "exported", [instance]).to_json()
    LocalRegistry(folder, "mine").push(Candidate("p", 1, "r", 1, folder=folder / "exported", golden=golden))
    return folder / "mine" / "1"


@pytest.fixture(scope="module")
def predictor(version: Path) -> Predictor:
    return Predictor(version)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def server(version: Path, log: Path) -> Iterator[RunningServer]:
    flags = ("--grpc-port", "0", "--no-access-log", "--log-requests", str(log))
    with RunningServer("--model-dir", str(version.parent), *flags) as running:
        yield running


@pytest.fixture(scope="module")
def evaluate(data: Data, version: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Return the function that has rows read as by ExampleGen and predicted as by Evaluator, or the error of each."""
    path = tmp_path_factory.mktemp("evaluated") / "rows.csv"
    signature = tf.saved_model.load(str(version)).signatures[SERVING_EXAMPLES]

    def answer(rows: list[Row]) -> list[Prediction | str]:
        table = Table.from_config(str(_write_csv(path, rows)), data, FEATURES, max_bad_rows=len(rows))
        answers: dict[int, Prediction | str] = {}
        for batch in table.read_batches():
            outputs = signature(examples=tf.constant(serialize_columns(batch.values).to_pylist()))
            labels = [label.decode() for label in outputs["predicted_label"].numpy()]
            for row, probability, label in zip(batch.rows, outputs["probability"].numpy(), labels, strict=True):
                answers[int(row)] = (float(probability), label) if np.isfinite(probability) else "not finite"
        for bad, line in zip(table.bad_rows, table.describe(table.bad_rows), strict=True):
            answers[bad.row] = _reason(line)
        assert len(answers) == len(rows)
        return [answers[number] for number in sorted(answers)]

    return answer


@pytest.fixture(scope="module")
def routes(
    data: Data, version: Path, predictor: Predictor, server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Route]:
    """Return each route but the evaluation; one whose name begins with `typed` takes numbers, too."""
    folder = tmp_path_factory.mktemp("rows")
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(server.grpc))

    def batch(format: Format, write: Callable[[Path, list[dict[str, Any]]], object]) -> Route:
        def answer(rows: list[dict[str, Any]]) -> list[Prediction] | str:
            path = folder / f"rows.{format}"
            write(path, [{**row, "id": "1"} for row in rows])
            job = Job.model_construct(
                inputs=(), model="", format=format, reading=read_options(version), keys=("id",), rows_per_part=100
            )
            table = input_files.open_input(str(path), job, FEATURES, 0)
            blocks = list(prediction_tables.split_into_blocks(table.read_batches(), 100))
            if table.bad_rows:
                return _reason(summarize_bad_rows(table)[0])
            try:
                predictions = prediction_tables.predict_block(blocks[0], str(path), ("id",), predictor, FEATURES)
            except DataError as error:
                assert "is not a finite number" in str(error)
                return "not finite"
            return _pairs(predictions["probability"].to_pylist(), predictions["predicted_label"].to_pylist())

        return answer

    def post(
        body: Callable[[list[dict[str, Any]]], Any],
        read: Callable[[Any], list[Prediction]],
        path: str = "/v1/models/mine:predict",
    ) -> Route:
        def answer(rows: list[dict[str, Any]]) -> list[Prediction] | str:
            status, content = server.post(path, body(rows))
            if status != 200:
                assert status == 400, content
                return _reason(content["error"])
            return read(content)

        return answer

    def by_grpc(rows: list[dict[str, Any]]) -> list[Prediction] | str:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "mine"
        for name, values in {**_columns(rows), "id": ["1"] * len(rows)}.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        try:
            outputs = stub.Predict(request, timeout=30).outputs
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            return _reason(error.details())
        labels = [label.decode() for label in outputs["predicted_label"].string_val]
        return _pairs(outputs["probability"].float_val, labels)

    def regress_by_grpc(rows: list[dict[str, Any]]) -> list[Prediction] | str:
        request = regression_pb2.RegressionRequest()
        for row in rows:
            request.input.example_list.examples.add().ParseFromString(_example(add_columns(row)))
        try:
            regressions = stub.Regress(request, timeout=30).result.regressions
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            return _reason(error.details())
        probabilities = [regression.value for regression in regressions]
        return _pairs(
            probabilities, ["yes" if value > THRESHOLDS[data.csv.decimal] else "no" for value in probabilities]
        )

    def add_columns(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "id": "1", "bought": "yes"}

    def add_to_all(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [add_columns(row) for row in rows]

    def nest(row: dict[str, Any]) -> dict[str, Any]:
        """Return a row of shape [1] each; a list of a column of lists would be another value."""
        return {name: value if name in ("tags", "point") else [value] for name, value in add_columns(row).items()}

    def examples(rows: list[dict[str, Any]]) -> dict[str, Any]:
        instances = [{"b64": _base64(_example(row))} for row in add_to_all(rows)]
        return {"signature_name": SERVING_EXAMPLES, "instances": instances}

    def tensors(rows: list[dict[str, Any]]) -> dict[str, Any]:
        inputs = [
            {"name": name, "shape": [len(rows)], "datatype": _DATATYPES[type(values[0])], "data": values}
            for name, values in _columns(add_to_all(rows)).items()
        ]
        return {"inputs": inputs}

    def read_rows(content: Any) -> list[Prediction]:
        return [(row["probability"], row["predicted_label"]) for row in content["predictions"]]

    def read_columns(content: Any) -> list[Prediction]:
        return _pairs(content["outputs"]["probability"], content["outputs"]["predicted_label"])

    def read_tensors(content: Any) -> list[Prediction]:
        outputs = {output["name"]: output["data"] for output in content["outputs"]}
        return _pairs(outputs["probability"], outputs["predicted_label"])

    def read_classes(content: Any) -> list[Prediction]:
        """Return the probability, and the label that the threshold gives."""
        return [
            (probability, positive if probability > THRESHOLDS[data.csv.decimal] else negative)
            for (negative, _), (positive, probability) in content["results"]
        ]

    tfrecord = batch("tfrecord", lambda path, rows: _write_records(path, map(_example, rows)))
    rows = post(lambda rows: {"instances": add_to_all(rows)}, read_rows)
    columns = post(lambda rows: {"inputs": _columns(add_to_all(rows))}, read_columns)
    by_example = post(examples, read_rows)
    infer = post(tensors, read_tensors, "/v2/models/mine/infer")
    classify = post(lambda rows: {"examples": add_to_all(rows)}, read_classes, "/v1/models/mine:classify")
    return {
        "batch of csv": batch("csv", _write_csv),
        "batch of parquet": batch("parquet", lambda path, rows: pyarrow.parquet.write_table(_table(rows), path)),
        "batch of tfrecord": tfrecord,
        "typed tfrecord": tfrecord,
        "rows": rows,
        "python's json": post(lambda rows: _as_python_writes_it(add_to_all(rows)), read_rows),
        "typed rows": rows,
        "columns": columns,
        "typed columns": columns,
        "examples": by_example,
        "typed examples": by_example,
        "grpc": by_grpc,
        "typed grpc": by_grpc,
        "open inference": infer,
        "typed open inference": infer,
        "classify": classify,
        "typed classify": classify,
        "regress by grpc": regress_by_grpc,
        "columns of one value": post(lambda rows: {"instances": [nest(row) for row in rows]}, read_rows),
    }


def _pairs(probabilities: Iterable[float], labels: Iterable[str]) -> list[Prediction]:
    return list(zip(probabilities, labels, strict=True))


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table(_columns(rows))


def _write_csv(path: Path, rows: list[Row]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", *FEATURES.raw_features, "bought"], quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "id": "1", "bought": ("yes", "no")[place % 2]} for place, row in enumerate(rows))
    path.write_bytes(text.getvalue().encode())
    return path


def _write_records(path: Path, records: Iterable[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _write_numbers(row: Row, data: Data) -> Row:
    """Return a row with the numbers of its columns of numbers as a table has them."""
    swapped = str.maketrans(",.", ".,") if data.csv.decimal == "," else {}
    return {
        name: value if FEATURES.column_types[name] == "string" else value.translate(swapped)
        for name, value in row.items()
    }


def _convert_numbers(row: Row, data: Data) -> dict[str, Any]:
    """Return a row with numbers in place of the strings that JSON reads back as they were.

    The number 5.0 in a column of strings is "5", as it is in Parquet.
    """
    return {
        name: json.loads(plain)
        if _JSON_NUMBER.fullmatch(plain)
        and len(plain) < 10
        and (FEATURES.column_types[name] == "float" or name in ("grade", "rank") or "." not in plain)
        and json.dumps(json.loads(plain)) == plain
        else row[name]
        # With commas and points exchanged once more, a row has numbers as JSON has them.
        for name, plain in _write_numbers(row, data).items()
    }


def _as_python_writes_it(rows: list[Row]) -> bytes:
    """Return a request in which numbers that are not finite are NaN and Infinity, as `json.dumps` writes them."""
    instances = [
        {name: float(value) if _is_non_finite(name, value) else value for name, value in row.items()} for row in rows
    ]
    return json.dumps({"instances": instances}).encode()


def _is_non_finite(name: str, value: str) -> bool:
    return FEATURES.column_types.get(name) == "float" and value in ("nan", "inf")


def _example(row: dict[str, Any]) -> bytes:
    example = tf.train.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        match value:
            case str():
                feature.bytes_list.value.append(value.encode())
            case int():
                feature.int64_list.value.append(value)
            case float():
                feature.float_list.value.append(value)
    return bytes(example.SerializeToString())


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def _reason(error: str) -> str:
    """Return the columns's fault in an error of any route, without its place and its remedy."""
    if "is not a finite number" in error:
        return "not finite"
    match = re.search(r"(?:^|: )([^:]+: (?:expected|the value|the label)[^;]*)", error, re.DOTALL)
    assert match, error
    return match[1].strip()


def _body(route: str, row: Row, data: Data) -> dict[str, Any]:
    """Return a row as a route takes it."""
    return _convert_numbers(row, data) if route.startswith("typed") else row


def check(
    rows: list[Row], data: Data, evaluate: Evaluate, routes: Mapping[str, Route], *, typed: Callable[[Row], bool]
) -> list[Prediction | str]:
    """Have rows predicted on every route: good rows together, and each bad one alone.

    Args:
      rows: rows with numbers as `DATA` has them.
      data: options of the model's data.
      evaluate: the route that the others agree with.
      routes: the others.
      typed: whether a row, with numbers, is worth typed requests.

    Returns:
      The answer to each row.
    """
    rows = [_write_numbers(row, data) for row in rows]
    expected = evaluate(rows)
    for name, route in routes.items():
        requests: dict[Any, list[int]] = {}
        bodies = [_body(name, row, data) for row in rows]
        for place, body in enumerate(bodies):
            if not name.startswith("typed") or typed(body):
                # A tensor has one type.
                good = tuple(map(type, body.values()))
                requests.setdefault(place if isinstance(expected[place], str) else good, []).append(place)
        for places in requests.values():
            answers = route([bodies[place] for place in places])
            where = (name, [bodies[place] for place in places])
            if isinstance(answers, str) or isinstance(expected[places[0]], str):
                assert [answers] == [expected[place] for place in places], where
                continue
            assert len(answers) == len(places), where
            for (probability, label), place in zip(answers, places, strict=True):
                assert probability == pytest.approx(expected[place][0], abs=1e-6), (*where, expected)
                assert label == expected[place][1], (*where, expected)
    threshold = THRESHOLDS[data.csv.decimal]
    for answer in expected:
        assert isinstance(answer, str) or answer[1] == ("yes" if answer[0] > threshold else "no")
    return expected


def test_a_row_has_one_answer(data: Data, evaluate: Evaluate, routes: dict[str, Route]) -> None:
    seen: set[str] = set()
    labels: set[tuple[str, bool]] = set()

    @hypothesis.settings(max_examples=16 if data is DATA else 6)
    @hypothesis.given(rows=strategies.lists(few_odd, min_size=4, max_size=8))
    def every_route_agrees(rows: list[Row]) -> None:
        for answer in check(rows, data, evaluate, routes, typed=lambda row: True):
            seen.add(type(answer).__name__)
            if isinstance(answer, tuple):
                labels.add((answer[1], answer[0] > 0.5))

    every_route_agrees()
    assert seen == {"str", "tuple"}
    # The other threshold turns labels over.
    assert (("no", True) in labels) == (data is not DATA)


@pytest.mark.parametrize("name", FEATURES.raw_features)
def test_every_odd_value_of_a_kind_has_one_answer(
    name: str, data: Data, evaluate: Evaluate, routes: dict[str, Route]
) -> None:
    kind = FEATURES.column_types[name]
    if data is not DATA:
        # Commas only change how numbers are written.
        values = NUMBERS if kind != "string" else []
    elif name in KIND_COLUMNS:
        values = [*ODD_OF_KINDS, *EXTREMES[::4], *STRINGS[::4]]
    else:
        # Columns of numbers share the strings: one function converts them for all.
        columns = [column for column in FEATURES.raw_features if FEATURES.column_types[column] == kind]
        shares = 1 if kind == "string" else len(columns)
        values = [*NUMBERS, *EXTREMES, *STRINGS[columns.index(name) % shares :: shares]]
    if values:
        rows = [{**ROWS[1], name: value} for value in values]
        # With a string, a typed request only repeats the other one.
        check(rows, data, evaluate, routes, typed=lambda row: isinstance(row[name], int | float))


def test_the_request_log_is_a_table_with_the_same_answers(
    data: Data,
    version: Path,
    predictor: Predictor,
    server: RunningServer,
    log: Path,
    routes: dict[str, Route],
    tmp_path: Path,
) -> None:
    odd = [{**ROWS[1], name: ""} for name in FEATURES.raw_features]
    odd += [{**ROWS[1], "tags": tags} for tags in ('["a", "b"]', "['x']", " a | | b ")]
    odd += [{**ROWS[1], "at": at} for at in ("2024-02-29", "2024-02-29T10:00:00.5+02:00")]
    for row in [*ROWS, *odd]:
        for name in ("rows", "typed columns", "examples", "grpc"):
            routes[name]([_body(name, _write_numbers(row, data), data)])
    # Also the rows of the other tests of this module.
    shards = _wait_for_row(server, log)
    rows = pa.Table.from_batches(read_rows(shards))
    rows = rows.filter(pc.is_null(rows[ERROR]))
    path = tmp_path / "requests-1.parquet"
    write_shard(path, rows, shards[0].description)
    job = Job.model_construct(
        inputs=(), model="", format="parquet", reading=read_options(version), keys=(ID,), rows_per_part=100_000
    )
    table = input_files.open_input(str(path), job, FEATURES, 0)
    (block,) = prediction_tables.split_into_blocks(table.read_batches(), 100_000)
    assert not table.bad_rows
    predictions = prediction_tables.predict_block(block, str(path), (ID,), predictor, FEATURES)
    assert predictions[ID].to_pylist() == rows[ID].to_pylist()
    logged = rows[f"{PREDICTION_PREFIX}probability"].to_numpy()
    assert len(logged) > 4 * len(ROWS)
    np.testing.assert_allclose(predictions["probability"].to_numpy(), logged, atol=1e-6)
    assert {name for name in FEATURES.raw_features if rows[name].null_count} == {
        name
        for name, feature in FEATURES.raw_features.items()
        if feature.missing is not None or name in ("tags", "note")
    }

    # ExampleGen reads it with labels that were joined later, and passes over the columns of the log.
    labelled = rows.append_column("bought", pa.array(["yes", "no"] * (len(rows) // 2) + ["no"] * (len(rows) % 2)))
    pyarrow.parquet.write_table(labelled, path)
    train = Table.from_config(str(path), data.model_copy(update={"format": "parquet"}), FEATURES, max_bad_rows=0)
    assert sum(len(batch.rows) for batch in train.read_batches()) == len(rows)
    assert not train.bad_rows


def _wait_for_row(server: RunningServer, log: Path) -> list[Shard]:
    """Return the shards of a log, once they have a request that comes now: a thread writes them."""
    identity = uuid.uuid4().hex
    request = urllib.request.Request(f"{server.url}/predict", b"{}", {"x-request-id": identity})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=30)
    waiting = threading.Event()
    for _ in range(200):
        if any(log.glob("requests-*")) and identity in [
            row for batch in read_rows(list_shards(log), [ID]) for row in batch.column(ID).to_pylist()
        ]:
            return list_shards(log)
        waiting.wait(0.05)
    raise AssertionError("the request is not logged")


def test_the_servers_page_has_the_threshold(data: Data, server: RunningServer) -> None:
    page = urllib.request.urlopen(f"{server.url}/").read().decode()
    text = ", decision threshold 0.9 (false positive 1, false negative 5)"
    assert (text in page) == (data is COMMAS)
    assert ("decision threshold" in page) == (data is COMMAS)
