"""Files are what their content is, whatever their names."""

import bz2
import gzip
import io
import json
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet
import pytest

from cli.errors import DataError
from schemas.data import CsvOptions, Format
from schemas.tables.file_kinds import detect_table_format
from schemas.tables.readers import open_table

TABLE = pa.table({"a": [1, 2], "b": ["x", "y"]})
CSV = b"a,b\n1,x\n2,y\n"


def _write_zip(name: str, content: bytes = CSV) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return write


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))


def _zipped_tar(path: Path) -> None:
    _tar(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def _sqlite(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table t (a)")


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(content))


def void(_: object) -> None:
    """Return nothing."""


KINDS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "xlsx": (_write_zip("[Content_Types].xml"), "an Excel workbook", "pandas.read_excel('{path}').to_csv('data.csv'"),
    "xls": (_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)), "an Excel workbook", "pandas.read_excel("),
    "zip": (_write_zip("a.csv"), "a zip archive", "Unpack it (unzip '{path}') and name the file in it"),
    "npz": (lambda path: np.savez(path.open("wb"), a=np.ones(9)), "an archive of NumPy arrays", "numpy.load("),
    "npy": (lambda path: np.save(path.open("wb"), np.ones(9)), "a NumPy array", "numpy.load("),
    "tar": (_tar, "a tar archive", "Unpack it (tar xf"),
    "tar.gz": (
        _zipped_tar,
        "a tar archive",
        "tar",
    ),
    "json": (_bytes(json.dumps([{"a": 1}], indent=2).encode()), "JSON", "pandas.read_json('{path}').to_csv("),
    "json of columns": (_bytes(b'{"a": {"0": 1}}'), "JSON", "pandas.read_json('{path}').to_csv("),
    "jsonl": (_bytes(b'{"a": 1}\n{"a": 2}\n'), "JSON lines", "pandas.read_json('{path}', lines=True).to_csv("),
    "jsonl.gz": (_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n')), "JSON lines", "lines=True).to_csv("),
    "feather": (lambda path: pyarrow.feather.write_feather(TABLE, path), "an Arrow or Feather file", "read_feather("),
    "orc": (lambda path: pyarrow.orc.write_table(TABLE, path), "an ORC file", "pandas.read_orc("),
    "pickle": (_bytes(pickle.dumps({"a": [1, 2]})), "a Python pickle", "pandas.read_pickle('{path}').to_parquet("),
    "sqlite": (_sqlite, "an SQLite database", "pandas.read_sql("),
    "hdf5": (_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90)), "an HDF5 file", "pandas.read_hdf("),
    "avro": (_bytes(b"Obj\x01" + bytes(90)), "an Avro file", "fastavro.reader("),
    "html": (_bytes(b"\n<!DOCTYPE html><html><body>Sign in"), "HTML", "pandas.read_html("),
    "xml": (_bytes(b"<?xml version='1.0'?><a/>"), "XML", "pandas.read_xml("),
    "arff": (_bytes(b"% a comment\n@RELATION iris\n"), "an ARFF file", "scipy.io.arff.loadarff("),
    "stata": (_bytes(b"<stata_dta><header>"), "a Stata file", "pandas.read_stata("),
    "sas": (_bytes(bytes(12) + bytes.fromhex("c2ea8160b31411cfbd92080009c7318c181f1011")), "a SAS file", "read_sas("),
    "a pointer": (_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a pointer of Git LFS", "git lfs pull"),
    "xz": (_bytes(b"\xfd7zXZ\x00" + bytes(90)), "compressed by xz", "unxz"),
    "noise": (_bytes(bytes(range(32)) * 9), "binary data of an unknown kind", "Name another file"),
}


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(("write", "name", "remedy"), KINDS.values(), ids=KINDS)
def test_a_file_that_is_no_table_is_named_with_the_remedy(
    write: Callable[[Path], None], name: str, remedy: str, format: Format, tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    write(path)
    if name.startswith("binary") and format != "csv":
        return
    for reading in (
        lambda: detect_table_format(str(path)),
        lambda: open_table(str(path), format, CsvOptions()).read_names(),
        lambda: list(open_table(str(path), format, CsvOptions()).read_batches()),
    ):
        with pytest.raises(DataError) as refused:
            reading()
        message = str(refused.value)
        assert message.startswith(f"{path}: is {name}")
        assert "; expected CSV, Parquet or TFRecord. " in message and remedy.format(path=path) in message
        assert "\n" not in message


def records(path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tf.train.Example().SerializeToString())


def test_a_table_is_recognised_without_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for content in (
        CSV,
        gzip.compress(CSV),
        bz2.compress(CSV),
        pa.compress(CSV, "zstd", asbytes=True),
        b"{a},b\n1,x\n",
    ):
        path.write_bytes(content)
        assert detect_table_format(str(path)) == "csv"
    pyarrow.parquet.write_table(TABLE, path)
    assert detect_table_format(str(path)) == "parquet"
    records(path)
    assert detect_table_format(str(path)) == "tfrecord"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert detect_table_format(str(path)) == "tfrecord"


@pytest.mark.parametrize("name", ["PAR1", "FEA1", "ORC", "BZh9", "PK", "Obj", "HEADER", "RDX2", "7z", "X"])
def test_a_column_may_have_the_name_that_another_format_starts_with(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{name},b\n1,x\n2,y\n")
    assert detect_table_format(str(path)) == "csv"
    reader = open_table(str(path), "csv", CsvOptions())
    assert reader.read_names() == [name, "b"]
    assert [len(texts.rows) for texts in reader.read_batches()] == [2]


def test_compression_is_that_of_the_content(tmp_path: Path) -> None:
    for name, content in {"a.csv": gzip.compress(CSV), "a.csv.gz": CSV, "b.csv": bz2.compress(CSV)}.items():
        (tmp_path / name).write_bytes(content)
        reader = open_table(str(tmp_path / name), "csv", CsvOptions())
        assert reader.read_names() == ["a", "b"]
        assert [len(texts.rows) for texts in reader.read_batches()] == [2]
        assert reader.find_places([3]) == {3: f"{tmp_path / name}:3"}


@pytest.mark.parametrize(("declared", "actual"), [("csv", "parquet"), ("csv", "tfrecord"), ("parquet", "csv")])
def test_a_table_of_another_format_is_named(declared: Format, actual: Format, tmp_path: Path) -> None:
    path = tmp_path / "data"
    match actual:
        case "csv":
            path.write_bytes(CSV)
        case "parquet":
            pyarrow.parquet.write_table(TABLE, path)
        case "tfrecord":
            records(path)
    with pytest.raises(DataError, match=rf"data: is .*; expected .*\. Set data.format: {actual}, or name another file"):
        open_table(str(path), declared, CsvOptions()).read_names()
