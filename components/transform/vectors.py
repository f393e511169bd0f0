"""Vectors of numbers in the graph."""

import re
from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft

from schemas.features import Vector, escape_name
from schemas.tables.items import LIST_SEPARATOR


def encode_vectors(
    features: Mapping[str, Vector], raw: tf.Tensor, crossed: set[str]
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Return the numbers of vectors, float32 of shape [batch, length], by the names of the columns; and no texts.

    Args:
      features: Declarations by name.
      raw: Strings of shape [columns, batch], in the order of `features`; an empty string is missing.
      crossed: Names of crossed features; a vector is none.
    """
    outputs = {escape_name(name): _encode(feature, raw[n]) for n, (name, feature) in enumerate(features.items())}
    return outputs, {}


def _encode(feature: Vector, raw: tf.Tensor) -> tf.Tensor:
    plain = tf.strings.strip(tf.strings.regex_replace(raw, r"[\[\]()]", ""))
    missing = tf.constant(LIST_SEPARATOR.join(["nan"] * feature.length))
    pattern = r"\s+" if feature.delimiter.isspace() else rf"\s*{re.escape(feature.delimiter)}\s*"
    separated = tf.strings.regex_replace(plain, pattern, LIST_SEPARATOR)
    texts = tf.strings.split(tf.where(plain == "", missing, separated), LIST_SEPARATOR)
    numbers = tf.strings.to_number(texts.to_tensor("nan", shape=[None, feature.length]))
    numbers = tf.ensure_shape(numbers, [None, feature.length])
    is_number = tf.math.is_finite(numbers)
    if feature.scale == "z_score":
        exact = tf.cast(numbers, tf.float64)
        mean = tft.mean(exact, reduce_instance_dims=False)
        deviation = tf.sqrt(tft.var(exact, reduce_instance_dims=False))
        scaled = (exact - mean) / tf.where(deviation > 0, deviation, tf.ones_like(deviation))
        numbers = tf.cast(scaled, tf.float32)
    # What is missing becomes the mean, which is 0 in the scale.
    return tf.where(is_number, numbers, tf.zeros_like(numbers))
