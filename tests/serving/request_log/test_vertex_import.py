"""Vertex AI's log becomes shards once, whatever is read again; what cannot be imported is counted and named."""

import datetime
import gzip
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format, struct_pb2

from cli.errors import ConfigError, DataError
from emulators.bigquery.server import BigQueryServer
from emulators.vertex.server import EmulatorServer
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.model.golden_requests import GoldenRequests
from serving.registry.content import DECLARATION_FILE, GOLDEN_FILE, READ_OPTIONS_FILE
from serving.registry.protocol import Candidate
from serving.registry.vertex.config import VertexRequestLog
from serving.registry.vertex.registry import EndpointDeployments
from serving.request_log.__main__ import main
from serving.request_log.shards import ERROR, ID, KEY, VERSION, ShardDescription, list_shards, read_rows, write_shard
from serving.request_log.vertex_import import ImportOptions, ImportReport, import_log
from serving.request_log.vertex_table import BigQueryTable, ExportedFiles
from tests.serving import models
from tests.vertex_fixtures import BUCKET, PROJECT, REGION, Bench

TABLE = f"{PROJECT}.logs.requests"
ENDPOINT = f"projects/1/locations/{REGION}/endpoints/shop"
START = datetime.datetime(2026, 11, 30, 2, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)
DEPLOYMENTS = EndpointDeployments(ENDPOINT, None, {"11": 1, "22": 2, "33": 3}, {1: f"gs://{BUCKET}/v1"})
FEATURES = FeatureSet.model_validate(
    {
        "features": {
            "x": {"kind": "numeric"},
            "name": {"kind": "hash", "num_ids": 3, "missing": "", "sensitive": True},
        },
        "label": {"kind": "regression", "column": "y"},
    }
)
OPTIONS = ImportOptions("shop", PROJECT, 0.5)
SCHEMA = pa.schema(
    {
        "endpoint": pa.string(),
        "deployed_model_id": pa.string(),
        "logging_time": pa.timestamp("us", "UTC"),
        "request_id": pa.decimal128(38, 9),
        "request_payload": pa.list_(pa.string()),
        "response_payload": pa.list_(pa.string()),
    }
)


def build_row(number: int, time: datetime.datetime = START, **changes: Any) -> dict[str, Any]:
    return {
        "endpoint": ENDPOINT,
        "deployed_model_id": "11",
        "logging_time": time,
        "request_id": Decimal(number),
        "request_payload": [json.dumps({"x": float(number), "name": "Ann"})],
        "response_payload": [json.dumps({"prediction": number / 2})],
        **changes,
    }


class Log:
    """A table that Vertex AI writes, and the folder that it is imported to."""

    def __init__(self, server: EmulatorServer, folder: Path) -> None:
        self.tables, self.bucket = server.emulator.bigquery / PROJECT, server.emulator.storage / BUCKET
        self.folder = folder
        self.rows: list[dict[str, Any]] = []

    def write(self, *rows: dict[str, Any]) -> None:
        """Add rows to the table."""
        self.rows += rows
        pq.write_table(pa.Table.from_pylist(self.rows, SCHEMA), self.tables / "logs" / "requests.parquet")

    def run(self, **options: Any) -> ImportReport:
        source = BigQueryTable(PROJECT, TABLE)
        return import_log(source, self.folder, DEPLOYMENTS, ImportOptions("shop", PROJECT, 0.5, **options))

    def read(self, *columns: str) -> dict[str, list[Any]]:
        """Return columns of all shards."""
        return dict(pa.Table.from_batches(read_rows(list_shards(self.folder), columns)).to_pydict())

    def ids(self) -> list[int]:
        return sorted(map(int, self.read(ID)[ID]))


@pytest.fixture
def tables(server: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Yield a local BigQuery over the tables that the emulator of Vertex AI writes."""
    for dataset in ("logs", "denied"):
        (server.emulator.bigquery / PROJECT / dataset).mkdir(parents=True)
    with BigQueryServer(server.emulator.bigquery, denied=("denied",)) as running:
        for key, value in running.environment.items():
            monkeypatch.setenv(key, value)
        yield


@pytest.fixture
def log(server: EmulatorServer, tables: None, tmp_path: Path) -> Log:
    """Return a log of a model with one version in the bucket."""
    extra = server.emulator.storage / BUCKET / "v1" / "assets.extra"
    extra.mkdir(parents=True)
    golden = GoldenRequests([{"x": 7, "name": "Bo"}], [{"prediction": 1.0}])
    (extra.parent / DECLARATION_FILE).write_text(FEATURES.model_dump_json())
    (extra.parent / READ_OPTIONS_FILE).write_text(ReadOptions().model_dump_json())
    (extra.parent / GOLDEN_FILE).write_bytes(golden.to_json())
    return Log(server, tmp_path / "log")


def test_each_request_is_imported_once(log: Log) -> None:
    log.write(build_row(1), build_row(2, START + MINUTE))
    report = log.run()
    assert (report.requests, report.rows, report.versions) == (2, 2, {1: 2})
    assert log.read("x", "_prediction_prediction", VERSION) == {
        "x": [1.0, 2.0],
        "_prediction_prediction": [0.5, 1.0],
        VERSION: [1, 1],
    }
    (shard,) = list_shards(log.folder)
    assert shard.description == ShardDescription(model="shop", sample=0.5, masked=("name",))
    assert "name" not in shard.schema.names
    # The second is later, and the third came late.
    log.write(build_row(3, START + 20 * MINUTE), build_row(4, START - 8 * MINUTE), build_row(2, START + MINUTE))
    report = log.run()
    assert (report.requests, report.skipped) == (2, {"imported before": 3})
    assert log.ids() == [1, 2, 3, 4]
    report = log.run()
    assert (report.requests, report.skipped) == (0, {"imported before": 1})
    assert report.format_lines() == [
        f"{TABLE}: imported 0 requests since 2026-11-30 02:10:00 UTC, the latest of 2026-11-30 02:20:00 UTC: 0 rows",
        "  not imported, imported before: 1 request",
    ]


def test_an_import_that_was_killed_before_its_end_is_repeated_without_duplicates(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.request_log import vertex_import

    monkeypatch.setattr(vertex_import, "_ROWS_PER_SHARD", 1)
    monkeypatch.setattr(vertex_import, "_REQUESTS_AT_ONCE", 1)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    log.write(*(build_row(number) for number in range(4)))
    with monkeypatch.context() as patch:
        patch.setattr(vertex_import, "write_atomically", stop)
        with pytest.raises(KeyboardInterrupt):
            log.run()
    assert len(list_shards(log.folder)) == 4
    log.write(build_row(4))
    assert (log.run().requests, log.ids()) == (1, [0, 1, 2, 3, 4])


def test_what_cannot_be_imported_is_counted_and_named(log: Log) -> None:
    log.write(
        build_row(1, endpoint="projects/1/locations/r/endpoints/other"),
        build_row(2, deployed_model_id="99"),
        build_row(3, deployed_model_id="22"),
        build_row(4, request_payload=['{"x": ']),
        build_row(5, logging_time=None),
        build_row(6, request_payload=['{"x": 7.0, "name": "Bo"}']),
        build_row(7, request_payload=['{"x": "many"}'], response_payload=[]),
        build_row(8),
    )
    report = log.run()
    assert report.skipped == {
        "of another endpoint than shop": 1,
        "of deployment 99, which the registry does not have": 1,
        "of version 2, whose files are gone": 1,
        "malformed": 2,
        "golden requests of pushes": 1,
    }
    assert "  not imported, malformed: 2 requests; the first: 4: request_payload[0] is not JSON: " in "\n".join(
        report.format_lines()
    )
    assert (report.requests, report.rejected, log.ids()) == (2, 1, [7, 8])
    assert log.read(ERROR)[ERROR] == ["instances[0]: x: expected a finite number, found 'many'", None]
    # They are not counted again, unless the log is read again.
    assert log.run().skipped == {"imported before": 7}
    assert log.run(since=START).skipped == {**report.skipped, "malformed": 1, "imported before": 2}


def test_a_time_in_the_future_hides_no_later_request(log: Log) -> None:
    log.write(build_row(1, datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=9)))
    log.run()
    log.write(build_row(2, datetime.datetime.now(datetime.UTC)))
    assert (log.run().requests, log.ids()) == (1, [1, 2])


def test_a_sensitive_column_is_written_if_it_is_asked_for(log: Log) -> None:
    log.write(build_row(1))
    with pytest.raises(ConfigError, match="--log-key name: is a sensitive column; add --log-sensitive"):
        log.run(key="name")
    log.run(key="name", log_sensitive=True)
    assert log.read("name", KEY) == {"name": ["Ann"], KEY: ["Ann"]}


def _write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file.with_suffix(".parquet"))


def _write_grouped_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write lists as an export does that infers none: a group `list` of groups `element`."""
    lists = pa.struct({"list": pa.list_(pa.struct({"element": pa.string()}))})
    names = ("request_payload", "response_payload")
    fields = [pa.field(field.name, lists) if field.name in names else field for field in SCHEMA]
    grouped = [{**row, **{name: {"list": [{"element": text} for text in row[name]]} for name in names}} for row in rows]
    pq.write_table(pa.Table.from_pylist(grouped, pa.schema(fields)), file.with_suffix(".parquet"))


def _write_json_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    lines = [
        {**row, "request_id": str(row["request_id"]), "logging_time": f"{row['logging_time']:%Y-%m-%d %H:%M:%S.%f} UTC"}
        for row in rows
    ]
    with gzip.open(file.with_suffix(".json.gz"), "wt") as opened:
        opened.writelines(f"{json.dumps(line)}\n" for line in lines)


@pytest.mark.parametrize("write", [_write_parquet, _write_grouped_parquet, _write_json_lines])
def test_an_export_in_a_bucket_is_read_as_the_table_is(
    log: Log, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    log.write(build_row(1), build_row(2))
    log.run()
    expected = log.read(ID, "x", "_prediction_prediction")
    folder = log.bucket / "export"
    folder.mkdir()
    write(folder / "part-0", log.rows)
    files, other = ExportedFiles(f"gs://{BUCKET}/export", PROJECT), Log.__new__(Log)
    other.folder = log.folder.with_name("from-bucket")
    assert import_log(files, other.folder, DEPLOYMENTS, OPTIONS).requests == 2
    assert other.read(ID, "x", "_prediction_prediction") == expected
    # An export that comes later may have earlier rows.
    write(folder / "part-1", [build_row(3, START - datetime.timedelta(days=3))])
    report = import_log(files, other.folder, DEPLOYMENTS, OPTIONS)
    assert (report.requests, report.skipped) == (1, {"imported before": 2})
    # The same requests in both ways are the same requests.
    assert import_log(files, log.folder, DEPLOYMENTS, OPTIONS).requests == 1


def test_a_table_that_is_no_log_is_named(log: Log) -> None:
    log.write(build_row(1))
    for name, table, problem in (
        ("people", pa.table({"age": [1]}), "it has no column 'endpoint'"),
        (
            "flat",
            pa.table({name: ["a"] for name in SCHEMA.names}),
            "column 'logging_time' has type STRING; expected TIMESTAMP",
        ),
    ):
        pq.write_table(table, log.tables / "logs" / f"{name}.parquet")
        source = BigQueryTable(PROJECT, f"{PROJECT}.logs.{name}")
        with pytest.raises(DataError) as error:
            import_log(source, log.folder, DEPLOYMENTS, OPTIONS)
        assert str(error.value) == (
            f"{PROJECT}.logs.{name}: is not a request-response log of Vertex AI: {problem}. Name the table of "
            "push.vertex.request_log"
        )
    (log.bucket / "bad").mkdir()
    for name, content, problem in (
        ("a.json", "{", r"gs://my-bucket/bad/a\.json, line 1: is not JSON: "),
        ("a.json", "[]", r"a\.json, line 1: expected an object, found list$"),
        ("a.json", '{"endpoint": ""}', r"a\.json, line 1: .* it has no column 'deployed_model_id'"),
        (
            "a.json",
            "",
            r"gs://my-bucket/bad: has no request; endpoint shop logs nothing: set push\.vertex\.request_log",
        ),
        ("b.parquet", "PAR1", r"b\.parquet: cannot be read: "),
        ("c.csv", "x", r"c\.csv: is not a file of an export; expected a name that ends in \.parquet, \.json, "),
    ):
        (log.bucket / "bad" / name).write_text(content)
        with pytest.raises(DataError, match=problem):
            import_log(ExportedFiles(f"gs://{BUCKET}/bad", PROJECT), log.folder, DEPLOYMENTS, OPTIONS)
        (log.bucket / "bad" / name).unlink()


def test_a_log_that_cannot_be_read_and_a_folder_that_has_another_are_named(log: Log) -> None:
    for table, problem in (
        ("denied.requests", r"my-project\.denied\.requests: Access Denied: .*; grant the roles bigquery\.dataViewer"),
        ("logs.nothing", r"my-project\.logs\.nothing: Not found: Table my-project:logs\.nothing; name a table"),
    ):
        with pytest.raises(DataError, match=f"^{problem}"):
            import_log(BigQueryTable(PROJECT, f"{PROJECT}.{table}"), log.folder, DEPLOYMENTS, OPTIONS)
    log.write(build_row(1))
    with pytest.raises(DataError, match=r"requests: has no request since 2026-12-01 02:00:00 UTC; endpoint shop logs"):
        log.run(since=START + datetime.timedelta(days=1))
    log.run()
    (shard,) = list_shards(log.folder)
    write_shard(log.folder / "requests-0.parquet", pq.read_table(shard.path), ShardDescription(model="m", sample=1))
    with pytest.raises(
        DataError, match=r"requests-0\.parquet: is of the model 'm', expected 'shop'; name another folder"
    ):
        log.run()
    (log.folder / "requests-0.parquet").unlink()
    (log.folder / "vertex_import.json").write_text("{}x")
    with pytest.raises(DataError, match=r"vertex_import\.json: is damaged; delete it, and the next import reads the"):
        log.run()
    log.folder = shard.path
    with pytest.raises(DataError, match=r"requests-vertex-.*\.parquet: cannot be written: "):
        log.run()


def invoke(bench: Bench, folder: Path, *arguments: str) -> Result:
    place = ["--project", PROJECT, "--region", REGION, "--model", bench.name, "--api-endpoint", bench.server.endpoint]
    return CliRunner().invoke(main, ["import", *place, "--folder", str(folder), *arguments])


def predict(bench: Bench, *instances: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the endpoint through Google's client; return the answers."""
    request = v1.PredictRequest(endpoint=bench.endpoint().resource)
    values = [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]
    v1.PredictRequest.pb(request).instances.extend(values)
    response = bench.vertex().retry(
        lambda: bench.vertex().call(bench.vertex().predictions.predict, request), seconds=60
    )
    return [json_format.MessageToDict(row) for row in v1.PredictResponse.pb(response).predictions]


def test_the_traffic_of_an_endpoint_is_imported_by_a_command(
    bench: Bench, tables: None, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "log"
    result = invoke(bench, folder)
    assert (result.exit_code, "there is no such model" in result.stderr) == (5, True)
    model = models.export_model(tmp_path / "model")
    golden = models.golden(model)
    bench.deployment = bench.deployment.model_copy(
        update={"request_log": VertexRequestLog(table=TABLE, sampling_rate=1)}
    )
    bench.registry().push(Candidate("shop", run_id="run-1", folder=model, tensorflow=(2, 21), golden=golden.to_json()))
    result = invoke(bench, folder, "--since", "1h")
    assert (result.exit_code, result.stdout.splitlines()[0].partition(" since ")[0]) == (
        0,
        f"{TABLE}: imported 0 requests",
    )
    assert "  not imported, golden requests of pushes: " in result.stdout
    answers = predict(bench, models.ROW, {**models.ROW, "size": 0.5})
    copy_to = ["--copy-to", f"gs://{BUCKET}/request-log"]
    result = invoke(bench, folder, "--log-key", "rank", "--json", *copy_to)
    document = json.loads(result.stdout)
    (copy,) = (bench.server.emulator.storage / BUCKET / "request-log").iterdir()
    assert document["shards"] == document["copied"] == [copy.name]
    assert copy.read_bytes() == (folder / copy.name).read_bytes()
    assert "copied to gs://my-bucket/request-log: 0 of the shards" in invoke(bench, folder, *copy_to).stdout
    result = invoke(bench, folder, "--copy-to", "gs://no-such-bucket/log")
    assert (result.exit_code, "gs://no-such-bucket/log: the bucket is not there" in result.stderr) == (5, True)
    assert (document["requests"], document["rows"], document["versions"]) == (1, 2, {"1": 1})
    (shard,) = list_shards(folder)
    rows = next(shard.read_batches()).to_pylist()
    assert [row["size"] for row in rows] == [2.5, 0.5]
    assert [row["rank"] for row in rows] == [2, 2]
    assert [row[KEY] for row in rows] == ["2", "2"]
    assert {name.removeprefix("_prediction_") for name in shard.schema.names if name.startswith("_pred")} == {
        *answers[0]
    }
    assert [row["_prediction_probability"] for row in rows] == pytest.approx([row["probability"] for row in answers])
    for arguments, problem in (
        (["--since", "soon"], "--since soon: expected an age such as 7d, 12h or 30m, or a time"),
        (["--bigquery", TABLE, "--bucket", "gs://b/c"], "--bigquery and --bucket: name one of them"),
        (["--bigquery", "logs.requests"], "--bigquery logs.requests: expected PROJECT.DATASET.TABLE, such as"),
        (["--copy-to", "gs://my-bucket"], "--copy-to gs://my-bucket: expected the URI of a folder, such as gs://"),
        (["--bucket", "logs/*.json"], "--bucket logs/*.json: expected the URI of a folder, such as gs://"),
    ):
        result = invoke(bench, folder, *arguments)
        assert (result.exit_code, result.stderr.count("\n"), problem in result.stderr) == (2, 1, True), result.stderr
