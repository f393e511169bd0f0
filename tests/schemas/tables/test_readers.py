"""Readers of odd files: encodings, quotes, types of Parquet, columns that cannot be read."""

import base64
import datetime
import decimal
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from cli.errors import DataError
from components.example_gen.parts import assign_parts
from schemas.data import CsvOptions, Data, Format, ReadOptions
from schemas.features import FeatureSet
from schemas.tables import pieces
from schemas.tables.readers import Reader, open_table
from schemas.tables.typed_columns import Columns, Table, summary
from schemas.tables.values import feature_rules
from tests.conftest import ROOT

FEATURES = FeatureSet.model_validate(
    {
        "features": {"size": {"kind": "numeric"}, "city": {"kind": "vocabulary", "max_size": 9}},
        "label": {"column": "y", "positive": "true", "negative": "false"},
    }
)


def table(path: Path, *, format: Format = "csv", **settings: Any) -> Table:
    splits = {"train": {"files": "*"}, "eval": {"source": "train", "fraction": 0.1}}
    data = Data.model_validate({"base": "/", "splits": splits, "format": format, **settings})
    return Table.of(str(path), data, FEATURES, max_bad_rows=9)


def columns(reader: Reader) -> dict[str, list[str | None]]:
    by_column: dict[str, list[str | None]] = {}
    for texts in reader.batches():
        for name, values in texts.columns.to_pydict().items():
            by_column.setdefault(name, []).extend(values)
    return by_column


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp932"])
def test_bad_rows_have_their_lines_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    city = "大阪" if encoding == "cp932" else "Köln"
    content = f'size,city,y\n1,"{city}\nwest",true\nold,{city},false\n3,{city}\n4,{city},true\n'
    (tmp_path / "a.csv").write_bytes(content.encode(encoding))
    read = table(tmp_path / "a.csv", csv={"encoding": encoding})
    rows = [row for batch in read.batches() for row in batch.values.to_pylist()]
    assert [row["city"].decode() for row in rows] == [f"{city}\nwest", city]
    lines = [line.removeprefix(str(tmp_path / "a.csv")) for line in summary(read)]
    assert [line[:30] for line in lines] == [":5: expected 3 fields, found 2", ":4: size: expected a finite nu"]


def test_an_encoding_that_the_file_does_not_have_is_named(tmp_path: Path) -> None:
    for encoding, declared in (("utf-16", "utf-8"), ("utf-16-le", "utf-8"), ("utf-8-sig", "latin-1")):
        (tmp_path / "a.csv").write_text("size,city,y\n1,Köln,true\n", encoding=encoding)
        detected = {"utf-8-sig": "utf-8"}.get(encoding, encoding)
        expected = rf"a.csv:1: is not text in {declared}; convert .* in data.csv.encoding: {detected}$"
        with pytest.raises(DataError, match=expected):
            table(tmp_path / "a.csv", csv={"encoding": declared}).check_names()


def test_a_header_that_begins_with_a_mark_and_a_quote(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('\ufeff"si\nze",city\n1,x\n'.encode())
    reader = open_table(str(tmp_path / "a.csv"), "csv", CsvOptions())
    assert reader.names() == ["si\nze", "city"]
    assert reader.places([2]) == {2: f"{tmp_path / 'a.csv'}:3"}


@pytest.mark.integration
def test_reading_in_another_encoding_may_end_early(tmp_path: Path) -> None:
    """A process that read the start only ends: Arrow's threads must not wait for Python."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"size,city\n" + "1,Köln\n".encode("latin-1") * 3_000_000)
    code = (
        "from schemas.data import CsvOptions; from schemas.tables.readers import open_table\n"
        f"for _ in range(3):\n  reader = open_table({str(path)!r}, 'csv', CsvOptions(encoding='latin-1'))\n"
        "  print(reader.names(), len(next(reader.batches()).rows) > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['size', 'city'] True\n" * 3


def test_quotes_are_what_the_options_say(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n'1,5',5\" nail\n\"2,'x'\n")
    assert columns(open_table(str(path), "csv", CsvOptions(quote="'"))) == {"a": ["1,5", '"2'], "b": ['5" nail', "x"]}
    path.write_text("a,b\n'1,5\" nail\n\"2,'x'\n")
    reader = open_table(str(path), "csv", CsvOptions(quote="none"))
    assert columns(reader) == {"a": ["'1", '"2'], "b": ['5" nail', "'x'"]}
    assert reader.places([3]) == {3: f"{path}:3"}


def test_a_number_in_another_format_is_named_with_the_options_that_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for text in ("$1.50", "1,108", "51.1%", "1 108", "5 EUR"):
        path.write_text(f'size,city,y\n"{text}",Oslo,true\n')
        read = table(path)
        list(read.batches())
        assert summary(read) == [
            f"{path}:2: size: expected a finite number, found '{text}'; correct the row, or declare how numbers are "
            "written: data.csv.decimal, thousands, currency or percent"
        ]
        options = {"thousands": " " if " " in text else ",", "currency": ["$", "EUR"], "percent": True}
        assert len(rows_of(table(path, csv=options))) == 1


def rows_of(read: Table) -> list[dict[str, Any]]:
    return [row for batch in read.batches() for row in batch.values.to_pylist()]


def test_a_quote_that_swallows_rows_stops_the_reading_under_the_terms_of_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "1,Oslo,true\n" * 20
    for bad in (
        '2,"Oslo,true\n' + rows + '3,"Bergen",true\n',
        '2,"Oslo,true\n' + rows,
        '2,"Oslo,true\n3,"Oslo",true\n',
    ):
        path.write_text("size,city,y\n" + rows + bad)
        with pytest.raises(DataError, match=r"a\.csv:22: a quote opens a value .*, or set data.csv.quote: none if its"):
            list(table(path).batches())
        assert len(columns(open_table(str(path), "csv", CsvOptions(quote="none")))["city"]) == (20 + bad.count("\n"))


def test_every_line_ends_a_row_of_a_piece_without_quotes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 64)
    path = tmp_path / "a.csv"
    content = b"a,b\n" + b'5" nail,"x\n' * 300
    path.write_bytes(content)
    for quote, cut in (("none", True), ('"', False)):
        with path.open("rb") as file:
            parts = pieces.csv_pieces(file, len(content), CsvOptions.model_validate({"quote": quote}), 500)
        assert bool(parts) == cut


def test_a_column_that_is_ignored_may_hold_anything(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"size,city,y,\xe9\n1,Oslo,true,\xff\xfe\n".replace(b"\xe9", b"id"))
    read = table(tmp_path / "a.csv", ignored_columns=["id"])
    assert [row["size"] for batch in read.batches() for row in batch.values.to_pylist()] == [1.0]


NESTED = pa.table(
    {
        "size": [1.0],
        "size.cm": [2.0],
        "city": ["Oslo"],
        "y": [True],
        "tags": [["a", "b"]],
        "shop": [{"name": "x", "size": 3}],
        "shop.name": ["flat"],
        "counts": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "photo": [b"\xff\xd8"],
        "code": [b"utf-8"],
    }
)


def test_columns_of_parquet_that_nobody_needs_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(NESTED, path)
    reader = open_table(str(path), "parquet", CsvOptions())
    unreadable = reader.unreadable()
    assert unreadable == {
        "shop": "struct<name: string, size: int64>",
        "counts": "map<string, int64 ('counts')>",
        "photo": "binary that is not UTF-8",
    }
    ignored = [name for name in NESTED.schema.names if name not in ("size", "city", "y")]
    read = table(path, format="parquet", ignored_columns=ignored)
    (batch,) = read.batches()
    assert batch.values.to_pylist() == [{"size": 1.0, "city": b"Oslo", "y": b"true"}]
    readable = [name for name in reader.names() if name not in unreadable]
    assert columns(open_table(str(path), "parquet", CsvOptions(), only=readable)) == {
        "size": ["1"],
        "size.cm": ["2"],
        "city": ["Oslo"],
        "y": ["true"],
        "tags": ["\x1ea\x1fb"],
        "shop.name": ["flat"],
        "code": ["utf-8"],
    }


def test_fixed_lists_with_a_missing_one_are_counted_with_the_remedy(tmp_path: Path) -> None:
    """Arrow does not read them: https://github.com/apache/arrow/issues/35692."""
    lists = pa.table({"spot": [[1.0, 2.0], None, [3.0, None]], "pair": [[1.0, 2.0]] * 3, "x": [1, 2, 3]})
    fields = [pa.field(name, pa.list_(pa.float64(), 2)) for name in ("spot", "pair")]
    schema = pa.schema([*fields, pa.field("x", pa.int64())]).serialize().to_pybytes()
    path = tmp_path / "a.parquet"
    with pyarrow.parquet.ParquetWriter(path, lists.schema, store_schema=False) as writer:
        writer.write_table(lists)
        # As other libraries write a column of such lists.
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema).decode()})
    reader = open_table(str(path), "parquet", CsvOptions())
    problem = (
        "lists of the fixed length 2 with 1 missing list, which Arrow does not read; write it as a column of lists of "
        "any length"
    )
    assert reader.unreadable() == {"spot": problem}
    with pytest.raises(DataError, match=re.escape(f"a.parquet: column 'spot' holds {problem}, or name it in data.")):
        list(reader.batches())
    assert columns(open_table(str(path), "parquet", CsvOptions(), only=["pair", "x"]))["pair"][0] == "\x1e1\x1f2"


@pytest.mark.parametrize(("name", "type"), [("counts", "map<string, int64 ('counts')>"), ("photo", "binary")])
def test_a_column_of_parquet_that_cannot_be_read_is_named_with_the_remedy(name: str, type: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(NESTED, path)
    with pytest.raises(DataError) as refused:
        columns(open_table(str(path), "parquet", CsvOptions(), only=[name]))
    assert str(refused.value) == (
        f"{path}: column '{name}' has type {type}; expected numbers or strings, in UTF-8. For one that holds others: "
        "name it in data.ignored_columns, and not under features"
    )


MOMENT = datetime.datetime(2020, 7, 2, 3, 4, 5, 678)
TYPES: dict[str, tuple[pa.Array, list[str | None]]] = {
    "decimal": (pa.array([decimal.Decimal("1.10"), None], pa.decimal128(10, 2)), ["1.10", None]),
    "date": (pa.array([MOMENT.date()], pa.date32()), ["2020-07-02"]),
    "moment": (pa.array([MOMENT], pa.timestamp("us")), ["2020-07-02 03:04:05.000678"]),
    "moment of UTC": (pa.array([MOMENT], pa.timestamp("us", "UTC")), ["2020-07-02 03:04:05.000678Z"]),
    "moment of a zone": (
        pa.array([MOMENT], pa.timestamp("us", "America/New_York")),
        ["2020-07-01 23:04:05.000678-0400"],
    ),
    "moment of an offset": (pa.array([MOMENT], pa.timestamp("us", "+05:30")), ["2020-07-02 08:34:05.000678+0530"]),
    "moment before": (pa.array([MOMENT], pa.timestamp("us", "-05:30")), ["2020-07-01 21:34:05.000678-0530"]),
    "time": (pa.array([MOMENT.time()], pa.time64("us")), ["03:04:05.000678"]),
    "time of seconds": (pa.array([datetime.time(3, 4, 5)], pa.time32("ms")), ["03:04:05.000"]),
    "duration": (pa.array([datetime.timedelta(seconds=5)], pa.duration("ms")), ["5000"]),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    "large string": (pa.array(["é", None], pa.large_string()), ["é", None]),
    "binary of text": (pa.array(["é".encode(), None], pa.large_binary()), ["é", None]),
    "half": (pa.array(np.array([1.5], np.float16)), ["1.5"]),
    "float": (pa.array([1.5, 0.1, 1e-7, None], pa.float32()), ["1.5", "0.1", "1e-7", None]),
    "double": (pa.array([1.0, 0.1, float("nan")]), ["1", "0.1", "nan"]),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
    "nothing": (pa.nulls(2), [None, None]),
    "boolean": (pa.array([True, False, None]), ["true", "false", None]),
}


@pytest.mark.parametrize(("values", "expected"), TYPES.values(), ids=TYPES)
def test_values_of_parquet_become_strings_exactly(values: pa.Array, expected: list[str | None], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"a": values}), path)
    reader = open_table(str(path), "parquet", CsvOptions())
    assert reader.unreadable() == {}
    assert columns(reader) == {"a": expected}


def test_booleans_are_those_of_training_data_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    booleans = pa.table({"size": [1.0], "city": [True], "id": [False]})
    pyarrow.parquet.write_table(booleans, path)
    for format in ("parquet", "csv"):
        rules = feature_rules(FEATURES, ReadOptions.model_validate({"format": format}))
        reader = open_table(str(path), "parquet", CsvOptions(), only=["size", "city", "id"])
        read = Table(reader, Columns(rules, copied=["id"]))
        if format == "parquet":
            (batch,) = read.batches()
            assert (batch.values["city"].to_pylist(), batch.copied["id"].to_pylist()) == ([b"true"], ["false"])
        else:
            # As online, where true is rejected: no file of CSV had it.
            with pytest.raises(DataError, match=r"column 'city' holds booleans; the training data had strings"):
                list(read.batches())


def test_parts_of_a_split_read_numbers_as_the_table_has_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('size,city,y\n"$1,108",Oslo,true\n$950,Oslo,true\n')
    read = table(tmp_path / "a.csv", csv={"thousands": ",", "currency": ["$"]}, ignored_columns=[])
    read.columns = replace(read.columns, split_by=["size"])
    (batch,) = read.batches()
    rule = {"source": "train", "column": "size", "values": [], "at_least": 1000.0, "below": None, "date_format": None}
    parts, rest = assign_parts(read, batch, {"eval": rule})
    assert (parts["eval"].tolist(), rest.tolist()) == ([True, False], [False, True])


def test_fractions_of_parquet_are_written_as_the_strings_are(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    prices = pa.array([decimal.Decimal("1.108")])
    pyarrow.parquet.write_table(pa.table({"a": [1.108], "b": prices, "c": ["1.108"], "d": [1108]}), path)
    values = columns(open_table(str(path), "parquet", CsvOptions(decimal=",", thousands=".")))
    assert values == {"a": ["1,108"], "b": ["1,108"], "c": ["1.108"], "d": ["1108"]}


def test_features_of_records_that_cannot_be_read(tmp_path: Path) -> None:
    import tensorflow as tf

    def record(tags: list[bytes], photo: bytes) -> bytes:
        example = tf.train.Example()
        example.features.feature["tags"].bytes_list.value.extend(tags)
        example.features.feature["photo"].bytes_list.value.append(photo)
        example.features.feature["size"].float_list.value.append(1.5)
        return bytes(example.SerializeToString())

    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example_record in (record([b"a"], b"x"), record([b"a", b"b"], b"\xff\xd8")):
            writer.write(example_record)
    reader = open_table(str(path), "tfrecord", CsvOptions())
    assert reader.unreadable() == {"photo": "bytes that are not UTF-8"}
    # A list is marked until a column's rule is applied.
    (texts,) = open_table(str(path), "tfrecord", CsvOptions(), only=["tags"]).batches()
    assert texts.columns.column("tags").to_pylist() == ["a", "\x1ea\x1fb"]
    assert reader.names() == ["photo", "size", "tags"]
    assert columns(open_table(str(path), "tfrecord", CsvOptions(), only=["size"])) == {"size": ["1.5", "1.5"]}
