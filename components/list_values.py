"""Several categories in one string, as TensorFlow splits them: for the statistics and for the graph."""

import re

import tensorflow as tf

from schemas.tables.items import LIST_SEPARATOR


def split_values(strings: tf.Tensor, delimiter: str) -> tf.RaggedTensor:
    """Return the values of each string, [n, (values)], without spaces around them and without empty ones.

    Args:
      strings: Values with the delimiter between them, or as a client of the graph joined them; [n].
      delimiter: Declared string between two values.
    """
    values = tf.strings.split(tf.strings.regex_replace(strings, re.escape(delimiter), LIST_SEPARATOR), LIST_SEPARATOR)
    values = values.with_flat_values(tf.strings.strip(values.flat_values))
    return tf.ragged.boolean_mask(values, values != "")
