"""Shards of tf.Example as Arrow record batches of many thousand rows, several times as fast as TFX's own reader.

TFX reads a record at a time in Python and decodes holding Python's lock. Here TensorFlow reads, decompresses and parses
in threads of its own while the caller works on the batch before.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from numpy.typing import NDArray
from tfx_bsl.coders import example_coder

from cli.errors import DataError
from components.batch_rows import compute_batch_rows
from components.list_values import split_values
from components.parallel_calls import call_for_batches
from components.transform.derived_columns import derive_columns, is_missing
from schemas.features import ColumnType, DerivedColumn

ROWS_TOGETHER = 16_384
# Where the columns are not known before the records are read, there may be thousands.
_UNKNOWN_COLUMNS = 1024
_DTYPES: dict[ColumnType, tf.DType] = {"float": tf.float32, "int": tf.int64, "string": tf.string}


def read_record_batches(
    path: str,
    types: Mapping[str, ColumnType] | None,
    delimiters: Mapping[str, str] = MappingProxyType({}),
    derived: Mapping[str, DerivedColumn] = MappingProxyType({}),
    *,
    rows: int = ROWS_TOGETHER,
) -> Iterator[pa.RecordBatch]:
    """Stream a TFRecord file of tf.Example, plain or ending in .gz, in file order.

    Args:
      path: local or remote.
      types: the columns to read, and the type of each; None for all columns, as each batch has them.
      delimiters: the string between two values of a row, of each column of lists.
      derived: columns that are computed from those of `types`.
      rows: most rows of a batch; one of many columns has fewer.

    Yields:
      A column for each of `types` and `derived`, as TFX decodes them: `large_list` of float32, int64 or large_binary,
      null where an example has no value. Its type is null where no example of the batch has one.

    Raises:
      DataError: the file cannot be read, is damaged, or holds values of other types.
    """
    try:
        if types is None:
            decoder = example_coder.ExamplesToRecordBatchDecoder()
            yield from call_for_batches(
                lambda batch: decoder.DecodeBatch(batch.numpy().tolist()),
                path,
                compute_batch_rows(_UNKNOWN_COLUMNS, rows),
            )
            return
        names = [*types, *derived]
        parse = _build_parser(tuple(types.items()), tuple(delimiters.items()), tuple(derived.items()))
        for parsed in call_for_batches(parse, path, compute_batch_rows(len(names), rows)):
            yield pa.RecordBatch.from_arrays([_build_lists(*parsed[name]) for name in names], names=names)
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        # TensorFlow puts the places in the code before the reason. tfx_bsl's decoder raises RuntimeError.
        reason = str(error).split("\n\n")[-1].splitlines()[0]
        raise DataError(f"{path}: cannot be read: {reason}") from error


@lru_cache
def _build_parser(
    types: tuple[tuple[str, ColumnType], ...],
    delimiters: tuple[tuple[str, str], ...],
    derived: tuple[tuple[str, DerivedColumn], ...],
) -> Any:
    """Return a function of serialized examples, [n]: for each column where its rows begin, [n + 1], and its values.

    Strings come as their lengths and one text of all of them: objects of Python would cost more than the parsing.
    """
    spec = {name: tf.io.RaggedFeature(_DTYPES[kind], row_splits_dtype=tf.int64) for name, kind in types}

    def parse(serialized: tf.Tensor) -> dict[str, tuple[tf.Tensor, ...]]:
        ragged = tf.io.parse_example(serialized, spec)
        if derived:
            operands = {name for _, column in derived for name in column.expression.columns}
            sparse = {name: ragged[name].to_sparse() for name in sorted(operands)}
            ragged |= {name: _to_ragged(column) for name, column in derive_columns(dict(derived), sparse).items()}
        for name, delimiter in delimiters:
            values = split_values(ragged[name].flat_values, delimiter)
            # From strings of rows to values of rows.
            row_splits = tf.gather(values.row_splits, ragged[name].row_splits)
            ragged[name] = tf.RaggedTensor.from_row_splits(values.flat_values, row_splits, validate=False)
        return {name: (column.row_splits, *_flatten(column.flat_values)) for name, column in ragged.items()}

    # AutoGraph would rewrite, for seconds, what has no control flow of Python's.
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(parse, input_signature=signature, autograph=False).get_concrete_function()


def _to_ragged(column: tf.Tensor) -> tf.RaggedTensor:
    """Return the values of a derived column, [batch], as those of examples: none where one is missing."""
    present = ~is_missing(column)
    lengths = tf.cast(present, tf.int64)
    return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(column, present), lengths, validate=False)


def _flatten(values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    if values.dtype != tf.string:
        return (values,)
    return tf.strings.length(values), tf.strings.reduce_join(values)


def _build_lists(row_splits: tf.Tensor, *values: tf.Tensor) -> pa.Array:
    ends: NDArray[np.int64] = row_splits.numpy()
    missing = ends[1:] == ends[:-1]
    if missing.all():
        return pa.nulls(len(missing))
    # A null start marks a null list.
    starts = pa.array(ends, mask=np.append(missing, False)) if missing.any() else pa.array(ends)
    return pa.LargeListArray.from_arrays(starts, _build_values(*values))


def _build_values(numbers: tf.Tensor, joined: tf.Tensor | None = None) -> pa.Array:
    if joined is None:
        return pa.array(numbers.numpy())
    ends = np.concatenate([[0], np.cumsum(numbers.numpy(), dtype=np.int64)])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(joined.numpy())]
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
