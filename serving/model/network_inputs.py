"""Transformed columns as a network takes them: all ID columns in one matrix, all number columns in another.

An input for each column would make hundreds of operations of a wide table, in every step and in every request.
"""

import itertools
from collections.abc import Mapping, Sequence

import tensorflow as tf

from schemas.features import FeatureSet, IdColumn, NumberColumn

IDS, NUMBERS = "ids", "numbers"


def build_network_inputs(features: FeatureSet, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return transformed columns, of shape [batch] or [batch, width] each, as the network's inputs.

    Args:
      features: declaration of the columns.
      columns: columns by name, and maybe others.

    Returns:
      int64 of shape [batch, sum of the widths of ID columns], and float32 of shape [batch, sum of those of number
      columns]; `compute_places` returns the place of each column.
    """
    rows = tf.shape(next(iter(columns.values())))[:1]
    return {
        IDS: _concatenate(features.id_columns, columns, rows, tf.int64),
        NUMBERS: _concatenate(features.number_columns, columns, rows, tf.float32),
    }


def count_places(columns: Sequence[IdColumn | NumberColumn]) -> int:
    """Return the width of the input that has these columns."""
    return sum(column.width for column in columns)


def compute_places(columns: Sequence[IdColumn | NumberColumn]) -> dict[str, range]:
    """Return the places that each column has in its input, by name."""
    starts = itertools.accumulate((column.width for column in columns), initial=0)
    return {column.name: range(start, start + column.width) for column, start in zip(columns, starts, strict=False)}


def _concatenate(
    declared: Sequence[IdColumn | NumberColumn], columns: Mapping[str, tf.Tensor], rows: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    if not declared:
        return tf.zeros(tf.concat([rows, [0]], axis=0), dtype)
    parts: list[tf.Tensor] = []
    # Neighbours of one value in a row are stacked by one operation.
    for is_single, group in itertools.groupby(declared, lambda column: columns[column.name].shape.rank == 1):
        tensors = [columns[column.name] for column in group]
        parts += [tf.stack(tensors, axis=1)] if is_single else tensors
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)
