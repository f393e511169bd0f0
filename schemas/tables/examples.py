"""Decodes serialized tf.Example into columns of strings, for files and for requests alike. Imports no TensorFlow.

https://www.tensorflow.org/tutorials/load_data/tfrecord describes tf.Example.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders import example_coder

from schemas.tables.items import as_list_strings
from schemas.tables.values import as_strings

# The tags of tf.Example's only field and of tf.SequenceExample's second one:
# https://protobuf.dev/programming-guides/encoding and tensorflow/core/example/example.proto.
_FEATURES_TAG, _FEATURE_LISTS_TAG = 0x0A, 0x12


class ExampleError(ValueError):
    """A record that is not a tf.Example with strings or numbers in each feature.

    Attributes:
      index: Place of the record among those that were given.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


@dataclass(frozen=True)
class Part:
    """Some of the records as columns of strings: those from `start` on.

    Attributes:
      columns: The columns that are wanted and that one of the records has.
      names: The names of all features that one of the records has.
      start: Place of the first record among those that were given.
    """

    columns: pa.RecordBatch
    names: Sequence[str]
    start: int


def decode(records: Sequence[bytes], only: Collection[str] | None = None, decimal: str = ".") -> Iterator[Part]:
    """Decode records; in one part, unless a feature has values of several types.

    Args:
      records: Serialized tf.Example.
      only: Names of the columns that are wanted; None for all.
      decimal: Character before the fraction of a number.

    Raises:
      ExampleError: A record is not a tf.Example, is a tf.SequenceExample, or has bytes that are not UTF-8 in a column
        that is wanted.
    """
    for names, batch, start in _decode_batches(records):
        selected = [name for name in names if only is None or name in only]
        columns = [_convert_column(batch, name, start, decimal) for name in selected]
        yield Part(pa.RecordBatch.from_arrays(columns, names=selected), names, start)


def find_unreadable(records: Sequence[bytes]) -> dict[str, str]:
    """Return the features that are not columns of strings, by name, since their bytes are not UTF-8.

    Raises:
      ExampleError: A record is not a tf.Example, or is a tf.SequenceExample.
    """
    problems: dict[str, str] = {}
    for names, batch, start in _decode_batches(records):
        for name in names:
            try:
                _convert_column(batch, name, start, ".")
            except ExampleError as error:
                problem = str(error).removeprefix(f"{name}: ").removeprefix("holds ").removeprefix("has ")
                problems.setdefault(name, problem)
    return problems


def _decode_batches(records: Sequence[bytes]) -> Iterator[tuple[list[str], pa.RecordBatch, int]]:
    """Yield the names of features, decoded records, and the place of the first of them."""
    for index, record in enumerate(records):
        if _is_sequence(record):
            raise ExampleError(index, "is a tf.SequenceExample; expected a tf.Example")
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    for batch, start in _decode(decoder, records, 0):
        yield sorted(batch.schema.names), batch, start


def _decode(decoder: Any, records: Sequence[bytes], start: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield decoded records and their start; TFX decodes no feature of several types, so those are halved."""
    try:
        yield decoder.DecodeBatch(list(records)), start
    except (ValueError, RuntimeError) as error:
        if len(records) == 1:
            raise ExampleError(start, "is not a tf.Example") from error
        half = len(records) // 2
        yield from _decode(decoder, records[:half], start)
        yield from _decode(decoder, records[half:], start + half)


def _convert_column(batch: pa.RecordBatch, name: str, start: int, decimal: str) -> pa.Array:
    lists = batch.column(name)
    if pa.types.is_null(lists.type):
        return pa.nulls(batch.num_rows, pa.string())
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    values = lists.flatten()
    try:
        strings = as_strings(values.cast(pa.binary()) if pa.types.is_binary(values.type) else values, decimal)
    except pa.ArrowInvalid as error:
        owners = np.repeat(np.arange(len(lengths)), lengths.to_numpy(zero_copy_only=False))
        index = next(i for i, value in enumerate(values.to_pylist()) if not _is_utf8(value))
        raise ExampleError(start + int(owners[index]), f"{name}: holds bytes that are not UTF-8") from error
    positions = pc.subtract(pc.cumulative_sum(lengths.cast(pa.int64())), 1)
    single = strings.take(pc.if_else(pc.equal(lengths, 1), positions, pa.scalar(None, pa.int64())))
    is_list = pc.greater(lengths, 1)
    if not pc.any(is_list).as_py():
        return single
    offsets = pc.cumulative_sum(lengths.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), offsets])
    return pc.if_else(is_list, as_list_strings(pa.ListArray.from_arrays(offsets, strings), decimal), single)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_sequence(record: bytes) -> bool:
    """Return whether a record has the field that a tf.SequenceExample has beside that of a tf.Example.

    To a decoder of tf.Example it is an unknown field, which it skips without an error.
    """
    if not record:
        return False
    if record[0] != _FEATURES_TAG:
        return record[0] == _FEATURE_LISTS_TAG
    length = shift = 0
    for place in range(1, min(len(record), 11)):
        length |= (record[place] & 0x7F) << shift
        shift += 7
        if record[place] < 0x80:
            end = place + 1 + length
            return end < len(record) and record[end] == _FEATURE_LISTS_TAG
    return False
