"""Tables and queries of BigQuery, read by Google's clients from a local server of its APIs."""

import datetime
import os
import re
import socket
from decimal import Decimal
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from cli.errors import DataError
from emulators.bigquery.server import BigQueryServer
from schemas.data import CsvOptions
from schemas.tables import bigquery
from schemas.tables.bigquery import TableRows, UnreachableError, compute_fingerprint, find_rows, open_streams
from schemas.tables.readers import open_table
from tests.bigquery_fixtures import BASE, PROJECT, Warehouse

_NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 250_000)
# Greatest values of NUMERIC and BIGNUMERIC.
_NUMERIC = Decimal("99999999999999999999999999999.999999999")
_BIGNUMERIC = Decimal("12345678901234567890123456789012345678.12345678901234567890123456789012345678")
_SCALARS = pa.table(
    {
        "int64": pa.array([2**63 - 1, None, -(2**63)]),
        "float64": pa.array([0.1, None, float("nan")]),
        "numeric": pa.array([_NUMERIC, None, Decimal(0)], pa.decimal128(38, 9)),
        "bignumeric": pa.array([_BIGNUMERIC, None, Decimal(0)], pa.decimal256(76, 38)),
        "bool": pa.array([True, None, False]),
        "string": pa.array(["a\n", None, ""]),
        "bytes": pa.array(["é".encode(), None, b""]),
        "date": pa.array([datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)]),
        "time": pa.array([datetime.time(23, 59, 59, 999_999), None, datetime.time(0)], pa.time64("us")),
        "datetime": pa.array([_NOON, None, _NOON], pa.timestamp("us")),
        "timestamp": pa.array([_NOON, None, _NOON], pa.timestamp("us", "UTC")),
    }
)


def read(path: str, only: list[str] | None = None, decimal: str = ".") -> dict[str, list[str | None]]:
    """Return the columns of a file or of BigQuery as strings."""
    format = "bigquery" if path.startswith("bigquery:") else "parquet"
    options = CsvOptions.model_validate({"decimal": decimal})
    reader = open_table(path, format, options, only=only)  # type: ignore[arg-type]
    names = [name for name in reader.read_names() if only is None or name in only]
    batches = [batch.columns for batch in reader.read_batches()]
    return {name: [value for batch in batches for value in batch.column(name).to_pylist()] for name in names}


@pytest.mark.parametrize("decimal", [".", ","])
def test_every_scalar_type_is_read_exactly_and_as_from_parquet(warehouse: Warehouse, decimal: str) -> None:
    path = warehouse.write("scalars", _SCALARS)
    rows = find_rows(BASE, "train", "shop.scalars")
    types = bigquery.describe(rows).types
    names = "INTEGER FLOAT NUMERIC BIGNUMERIC BOOLEAN STRING BYTES DATE TIME DATETIME TIMESTAMP"
    assert " ".join(types.values()) == names
    values = read(rows.uri, decimal=decimal)
    assert values == read(str(path), decimal=decimal)
    assert [column[0] for column in values.values()][:4] == [
        "9223372036854775807",
        f"0{decimal}1",
        str(_NUMERIC).replace(".", decimal),
        str(_BIGNUMERIC).replace(".", decimal),
    ]
    assert {column[1] for column in values.values()} == {None}


def extension(type: str) -> pa.Table:
    """Return a table with a column that BigQuery gives as strings of another type."""
    metadata = {"ARROW:extension:name": f"google:sqlType:{type}"}
    return pa.table([["1"]], schema=pa.schema([pa.field("odd", pa.string(), metadata=metadata)]))


@pytest.mark.parametrize(
    ("table", "type"),
    [
        (pa.table({"odd": [["a", "b"]]}), "ARRAY<STRING>"),
        (pa.table({"odd": [{"a": 1}]}), "STRUCT"),
        (pa.table({"odd": [[{"a": 1}]]}), "ARRAY<STRUCT>"),
        *((extension(name.lower()), name) for name in ("JSON", "GEOGRAPHY", "INTERVAL", "RANGE")),
    ],
)
def test_a_column_of_another_type_is_rejected_by_name_if_it_is_needed(
    warehouse: Warehouse, table: pa.Table, type: str
) -> None:
    warehouse.write("odd", table.append_column("plain", pa.array([1])))
    uri = find_rows(BASE, "train", "shop.odd").uri
    with pytest.raises(DataError) as error:
        read(uri, only=["odd", "plain"])
    assert str(error.value) == (
        f"my-project.shop.odd: column 'odd' has type {type}; expected numbers, strings, dates or times. Convert it in a "
        "query, or name it in data.ignored_columns, and not under features"
    )
    assert read(uri, only=["plain"]) == {"plain": ["1"]}


def test_bytes_that_are_not_text_are_rejected(warehouse: Warehouse) -> None:
    warehouse.write("raw", pa.table({"raw": [b"\xff"]}))
    with pytest.raises(
        DataError, match="my-project.shop.raw: column 'raw' has type binary; expected numbers or strings"
    ):
        read(find_rows(BASE, "train", "shop.raw").uri)


def test_streams_have_each_row_once_and_are_the_same_whenever_they_are_read(warehouse: Warehouse) -> None:
    warehouse.write("numbers", pa.table({"x": range(10_000), "y": range(10_000)}))
    rows = find_rows(BASE, "train", f"{PROJECT}.shop.numbers")
    streams = open_streams(rows, ["y"], 3)
    # What is written now is in no session that was opened before.
    warehouse.write("numbers", pa.table({"x": [1], "y": [1]}))
    values = [read(stream.uri, only=["y"])["y"] for stream in streams]
    assert len(values) == 3
    together = list(chain.from_iterable(values))
    assert together != [str(number) for number in range(10_000)]
    assert sorted(together, key=str) == sorted(map(str, range(10_000)))
    assert [read(stream.uri, only=["y"])["y"] for stream in streams] == values
    assert [TableRows.from_uri(stream.uri) for stream in streams] == streams


def test_a_condition_leaves_out_rows_before_a_time(warehouse: Warehouse) -> None:
    noon = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
    hour = datetime.timedelta(hours=1)
    times = pa.array([noon - hour, noon, noon + hour, None], pa.timestamp("us", "UTC"))
    warehouse.write("times", pa.table({"x": range(4), "time": times}))
    rows = find_rows(BASE, "train", "shop.times")
    condition = "time >= CAST('2026-01-02 13:00:00+01:00' AS TIMESTAMP)"
    (stream,) = open_streams(rows, ["x"], 1, condition)
    assert read(stream.uri, only=["x"]) == {"x": ["1", "2"]}
    assert open_streams(rows, ["x"], 1, "x > 9") == []
    with pytest.raises(DataError, match="my-project.shop.times: Unrecognized name: y"):
        open_streams(rows, ["x"], 1, "y > 9")


def test_an_interrupted_stream_continues_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / PROJECT / "shop").mkdir(parents=True)
    with BigQueryServer(tmp_path, interruptions=2) as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        Warehouse(tmp_path).write("numbers", pa.table({"x": range(3000)}))
        assert read(find_rows(BASE, "train", "shop.numbers").uri) == {"x": [str(number) for number in range(3000)]}


def test_a_query_is_read_from_its_result_and_a_view_by_a_query(warehouse: Warehouse) -> None:
    warehouse.write("people", pa.table({"age": [20, 30, 40], "name": ["Ann", "Bo", "Cy"]}))
    warehouse.write_view("adults", "SELECT * FROM shop.people WHERE age >= 30")
    rows = find_rows(BASE, "test", "SELECT name AS who, age FROM `my-project.shop.people` WHERE name <> 'Bo'")
    assert str(rows).endswith(" (data.splits.test.query)")
    assert read(rows.uri) == {"who": ["Ann", "Cy"], "age": ["20", "40"]}
    with pytest.raises(DataError) as error:
        find_rows(BASE, "train", "shop.adults")
    assert str(error.value) == (
        "data.splits.train.table: my-project.shop.adults is a VIEW; expected a table. Read it by a query: SELECT * FROM "
        "`my-project.shop.adults`"
    )
    rows = find_rows(BASE, "train", "SELECT * FROM `my-project.shop.adults`")
    assert read(rows.uri) == {"age": ["30", "40"], "name": ["Bo", "Cy"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("shop.nothing", "table: Not found: Table my-project:shop.nothing; name a table that exists, as PROJECT.D"),
        ("nowhere.people", "table: Not found: Dataset my-project:nowhere; name a table that exists"),
        ("denied.people", "table: Access Denied: Table my-project:denied.people: .*; grant the roles bigquery.dataVi"),
        ("SELECT * FROM denied.people", "query: Access Denied: .* on the project my-project$"),
        ("SELECT * FROM shop.nothing", "query: Not found: Table my-project:shop.nothing; name a table that exists"),
        ("SELECT agee FROM shop.people", r"query: Unrecognized name: agee at \[1:8\]$"),
        ("SELECT * FROM shop.people WHERE agee > 1", "query: Unrecognized name: agee$"),
        ("SELEC * FROM shop.people", r'query: Syntax error: Unexpected identifier "SELEC" at \[1:1\]$'),
        ("DELETE FROM shop.people WHERE true", "query: is a statement DELETE; expected SELECT$"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_key(warehouse: Warehouse, text: str, problem: str) -> None:
    warehouse.write("people", pa.table({"age": [20]}))
    with pytest.raises(DataError, match=rf"^data\.splits\.train\.{problem}") as error:
        find_rows(BASE, "train", text)
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, UnreachableError)


def test_without_credentials_or_a_connection_bigquery_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (bigquery.REST_EMULATOR, "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(UnreachableError, match="^data.format: bigquery: no credentials .* gcloud auth application-d"):
        find_rows(BASE, "train", "shop.people")
    monkeypatch.setattr(bigquery, "_RETRY_SECONDS", 0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(bigquery.REST_EMULATOR, f"http://127.0.0.1:{closed.getsockname()[1]}")
    with pytest.raises(UnreachableError, match=r"^data\.splits\.train\.table: BigQuery cannot be reached: ") as error:
        find_rows(BASE, "train", "shop.people")
    assert "\n" not in str(error.value)


_ROWS = "SELECT age FROM shop.people"


@pytest.mark.parametrize("text", ["shop.people", _ROWS])
def test_the_fingerprint_changes_with_the_table(warehouse: Warehouse, text: str) -> None:
    path = warehouse.write("people", pa.table({"age": [20]}))
    first = compute_fingerprint(BASE, "train", text)
    assert re.fullmatch("split:train,num_tables:1,content:[0-9a-f]{32}", first)
    assert compute_fingerprint(BASE, "train", text) == first
    os.utime(path, (1, 1))
    second = compute_fingerprint(BASE, "train", text)
    assert second != first
    assert compute_fingerprint(BASE, "train", text) == second


@pytest.mark.parametrize("text", ["SELECT * FROM shop.view", f"{_ROWS} WHERE CURRENT_DATE > 1"])
def test_rows_that_may_change_though_no_table_does_have_no_fingerprint(warehouse: Warehouse, text: str) -> None:
    warehouse.write("people", pa.table({"age": [20]}))
    warehouse.write_view("view", _ROWS)
    assert compute_fingerprint(BASE, "train", text) != compute_fingerprint(BASE, "train", text)
