"""Shards read by the thousand hold what TFX's own decoder finds in them."""

from pathlib import Path

import pyarrow as pa
import pytest
import tensorflow as tf
from tfx_bsl.coders import example_coder

from cli.errors import DataError
from components.statistics_gen.record_batches import read_record_batches
from schemas.features import ColumnType

TYPES: dict[str, ColumnType] = {"age": "float", "job": "string", "kids": "int", "rare": "string"}


def example(number: int) -> bytes:
    values = {
        "age": tf.train.Feature(float_list=tf.train.FloatList(value=[number / 7] if number % 3 else [])),
        "job": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\xc3\xa4\x00" * (number % 5)])),
        "kids": tf.train.Feature(int64_list=tf.train.Int64List(value=[-number])),
        # Nobody has one among the first rows, as of a column that came later.
        "rare": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"])) if number > 90 else tf.train.Feature(),
    }
    # An example of TFX has features without a value: no kind of list at all.
    if not number % 3:
        values["age"] = tf.train.Feature()
    return tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()


def write(path: Path, records: list[bytes]) -> str:
    options = tf.io.TFRecordOptions(compression_type="GZIP" if path.suffix == ".gz" else "")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            writer.write(record)
    return str(path)


@pytest.mark.parametrize("name", ["a.gz", "a.tfrecord"])
def test_batches_are_those_of_tfx(tmp_path: Path, name: str) -> None:
    records = [example(number) for number in range(100)]
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    expected = [decoder.DecodeBatch(records[start : start + 40]).select(list(TYPES)) for start in (0, 40, 80)]
    batches = list(read_record_batches(write(tmp_path / name, records), TYPES, rows=40))
    assert batches == expected
    assert batches[0].column("rare").type == pa.null()


def test_the_values_of_a_list_are_one_by_one(tmp_path: Path) -> None:
    def record(tags: str | None) -> bytes:
        values = [] if tags is None else [tags.encode()]
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        return tf.train.Example(features=tf.train.Features(feature={"tags": feature})).SerializeToString()

    path = write(tmp_path / "a.gz", [record("a.b| c"), record(None), record("c"), record("")])
    (batch,) = read_record_batches(path, {"tags": "string"}, {"tags": "|"})
    assert batch.column("tags").to_pylist() == [[b"a.b", b"c"], None, [b"c"], None]
    (batch,) = read_record_batches(path, {"tags": "string"}, {"tags": "."})
    assert batch.column("tags").to_pylist() == [[b"a", b"b| c"], None, [b"c"], None]


def test_a_file_without_records_has_no_batches(tmp_path: Path) -> None:
    assert list(read_record_batches(write(tmp_path / "a.gz", []), TYPES)) == []


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.tfrecord", [example(1), example(2)]))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=f"^{path}: cannot be read: "):
        list(read_record_batches(str(path), TYPES))


def test_values_of_another_type_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", [example(1)])
    with pytest.raises(DataError, match="cannot be read: .*kids"):
        list(read_record_batches(path, {"kids": "float"}))
