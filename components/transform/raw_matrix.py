"""Raw columns of one type as one matrix: what is done to all of them is then one operation, however many there are."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def build_raw_matrix(columns: Sequence[Any], missing: Any) -> tf.Tensor:
    """Return columns as rows of a matrix.

    Args:
      columns: SparseTensor or Tensor each, with at most one value in each of the batch's rows.
      missing: value for rows without one.

    Returns:
      Tensor of shape [columns, batch].
    """
    sparse = [number for number, column in enumerate(columns) if isinstance(column, tf.SparseTensor)]
    dense = sorted({*range(len(columns))} - {*sparse})
    parts = []
    if sparse:
        parts.append(_from_sparse([columns[number] for number in sparse], missing))
    if dense:
        parts.append(tf.stack([_flatten(columns[number]) for number in dense]))
    if len(parts) == 1:
        return parts[0]
    places = {number: place for place, number in enumerate([*sparse, *dense])}
    return tf.gather(tf.concat(parts, axis=0), [places[number] for number in range(len(columns))])


def select_rows(matrix: tf.Tensor, numbers: Sequence[int]) -> tf.Tensor:
    """Return some rows of a matrix, whose number of rows is known; without an operation if they are all of them."""
    return matrix if list(numbers) == list(range(matrix.shape[0])) else tf.gather(matrix, numbers)


def _flatten(column: tf.Tensor) -> tf.Tensor:
    return column if column.shape.rank == 1 else tf.reshape(column, [-1])


def _from_sparse(columns: Sequence[tf.SparseTensor], missing: Any) -> tf.Tensor:
    values = tf.concat([column.values for column in columns], axis=0)
    batch_rows = tf.concat([column.indices for column in columns], axis=0)[:, 0]
    counts = tf.concat(tf.raw_ops.ShapeN(input=[column.values for column in columns], out_type=tf.int64), axis=0)
    numbers = tf.repeat(tf.range(len(columns), dtype=tf.int64), counts)
    # By columns, the places are in the order that the operation checks: a second value of a row is an error.
    return tf.raw_ops.SparseToDense(
        sparse_indices=tf.stack([numbers, batch_rows], axis=1),
        output_shape=tf.stack([tf.constant(len(columns), tf.int64), columns[0].dense_shape[0]]),
        sparse_values=values,
        default_value=tf.constant(missing, values.dtype),
    )
