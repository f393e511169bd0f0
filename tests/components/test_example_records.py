"""Records put together by columns are what TFX and TensorFlow read."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf

from components.example_records import GzipFile, deflate, frame_records, serialize_columns

ROWS = 500


def columns() -> pa.RecordBatch:
    random = np.random.default_rng(1)
    numbers = [
        None if row % 7 == 0 else int(value) for row, value in enumerate(random.integers(-(2**63), 2**63 - 1, ROWS))
    ]
    numbers[1:6] = [0, 127, 128, -1, 2**63 - 1]
    texts = [None if row % 3 == 0 else b"\xff" * (row % 300) for row in range(ROWS)]
    return pa.RecordBatch.from_pydict(
        {
            "float": pa.array(random.normal(size=ROWS), pa.float32(), mask=random.random(ROWS) < 0.2),
            "ä" * 100: pa.array(texts, pa.binary()),
            "int": pa.array(numbers, pa.int64()),
            "nothing": pa.nulls(ROWS, pa.int64()),
        }
    )


def plain(feature: tf.train.Feature) -> list[object] | None:
    kind = feature.WhichOneof("kind")
    return [*getattr(feature, kind).value] if kind else None


def test_records_hold_the_values_and_a_feature_without_one_where_it_is_missing() -> None:
    batch = columns()
    for record, row in zip(serialize_columns(batch).to_pylist(), batch.to_pylist(), strict=True):
        values = {
            name: plain(feature) for name, feature in tf.train.Example.FromString(record).features.feature.items()
        }
        assert values == {name: None if value is None else [value] for name, value in row.items()}


def test_a_slice_of_columns_is_taken_as_it_is() -> None:
    batch = columns()
    assert serialize_columns(batch.slice(100, 50)).to_pylist() == serialize_columns(batch).to_pylist()[100:150]


def test_parts_are_one_gzipped_tfrecord_file(tmp_path: Path) -> None:
    records = serialize_columns(columns())
    path = tmp_path / "a.gz"
    file = GzipFile(path.open("wb"))
    for part in (records[:200], records[200:]):
        content = frame_records(part)
        file.write(content, deflate(content))
    file.close()
    assert [*tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()] == records.to_pylist()
    with tf.io.TFRecordWriter(str(tmp_path / "b")) as writer:
        for record in records.to_pylist():
            writer.write(record)
    assert gzip.decompress(path.read_bytes()) == (tmp_path / "b").read_bytes()
    # One stream, not several one after the other: not every reader continues after the first.
    assert path.read_bytes().count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff") == 1


def test_a_file_of_no_rows_is_an_empty_one(tmp_path: Path) -> None:
    GzipFile((tmp_path / "a.gz").open("wb")).close()
    assert [*tf.data.TFRecordDataset(str(tmp_path / "a.gz"), "GZIP").as_numpy_iterator()] == []
