"""Transformed columns as a network takes them: all ID columns in one matrix, all number columns in another.

An input for each column would make hundreds of operations of a wide table, in every step and in every request.
"""

from collections.abc import Mapping

import tensorflow as tf

from schemas.features import FeatureSet

IDS, NUMBERS = "ids", "numbers"


def network_inputs(features: FeatureSet, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Return transformed columns, [batch] each, as the network's inputs.

    Args:
      features: declaration of the columns.
      columns: columns by name, and maybe others.

    Returns:
      int64 of shape [batch, ID columns], and float32 of shape [batch, number columns].
    """
    rows = tf.shape(next(iter(columns.values())))[:1]
    ids = [columns[column.name] for column in features.id_columns]
    numbers = [columns[column.name] for column in features.number_columns]
    nothing = tf.concat([rows, [0]], axis=0)
    return {
        IDS: tf.stack(ids, axis=1) if ids else tf.zeros(nothing, tf.int64),
        NUMBERS: tf.stack(numbers, axis=1) if numbers else tf.zeros(nothing, tf.float32),
    }
