"""Lists and texts as bags in the graph: ids and their weights, of a fixed number in each row.

Ids are in `[0, num_ids)`. Where a row has fewer tokens than the limit, the id is 0 and the weight is 0.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import tf_utils

from components.list_values import split_values
from components.transform.category_tables import compute_fingerprint_ids, escape_categories, learn_vocabulary
from schemas.features import (
    FREQUENCIES_SUFFIX,
    WEIGHTS_SUFFIX,
    Bag,
    HashedTokens,
    IdList,
    LearnedTokens,
    Text,
    safe_name,
)
from schemas.tables.token_limit import NOT_A_WORD

_LINES = tf.lookup.TextFileIndex


def encode_bags(features: Mapping[str, Bag], raw: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return ids, int64, and weights, float32, both of shape [batch, width], by the names of the columns.

    Args:
      features: Declarations by name.
      raw: Strings of shape [columns, batch], in the order of `features`; an empty string has no tokens.
    """
    outputs: dict[str, tf.Tensor] = {}
    for number, (name, feature) in enumerate(features.items()):
        ids, weights = _encode(name, feature, raw[number])
        outputs[safe_name(name)] = ids
        outputs[safe_name(name) + WEIGHTS_SUFFIX] = weights
    return outputs


def split_tokens(feature: Bag, raw: tf.Tensor) -> tf.RaggedTensor:
    """Return the tokens of each row, [batch, (tokens)], at most `feature.width` of each."""
    match feature:
        case IdList():
            tokens = split_values(raw, feature.delimiter)
        case Text():
            tokens = _split_text(raw, feature)
        case _:
            raise NotImplementedError(type(feature).__name__)
    return tokens[:, : feature.width]


def _split_text(raw: tf.Tensor, feature: Text) -> tf.RaggedTensor:
    lower = tf.strings.lower(raw, encoding="utf-8")
    words = tf.strings.split(tf.strings.strip(tf.strings.regex_replace(lower, NOT_A_WORD, " ")))
    parts = [tf.strings.ngrams(words, length, separator=" ") for length in range(1, feature.word_ngrams + 1)]
    if feature.character_ngrams:
        # Spaces around words, so that the first and the last characters of a word are told from others.
        padded = words.with_flat_values(tf.strings.join([" ", words.flat_values, " "]))
        characters = tf.strings.unicode_split(padded, "UTF-8")
        for length in feature.character_ngrams:
            grams = tf.strings.ngrams(characters, length, separator="").merge_dims(1, 2)
            # A marker, since a word and its characters are tokens of their own.
            parts.append(grams.with_flat_values(tf.strings.join(["#", grams.flat_values])))
    return tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]


def _encode(name: str, feature: Bag, raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    tokens = split_tokens(feature, raw)
    match feature.tokens:
        case HashedTokens(num_ids=num_ids):
            ids = tokens.with_flat_values(compute_fingerprint_ids(tokens.flat_values[None], [num_ids])[0])
        case LearnedTokens():
            ids = _look_up_learned_ids(name, feature.tokens, tokens)
    if isinstance(feature, Text) and isinstance(feature.tokens, LearnedTokens) and feature.weights == "tf_idf":
        # The sum over the occurrences of a token is its count times its inverse document frequency.
        flat = tf.gather(_compute_inverse_frequencies(name, feature.tokens, tokens), ids.flat_values)
        flat /= tf.gather(_compute_row_norms(ids, flat), ids.value_rowids())
    else:
        counts = tf.cast(tokens.row_lengths(), tf.float32)
        divisor = {"sum": tf.ones_like(counts), "mean": counts, "sqrtn": tf.sqrt(counts)}[feature.combiner]
        flat = tf.gather(1 / tf.maximum(divisor, 1), ids.value_rowids())
    shape = [None, feature.width]
    dense_ids, dense_weights = ids.to_tensor(0, shape=shape), ids.with_flat_values(flat).to_tensor(0.0, shape=shape)
    return tf.ensure_shape(dense_ids, shape), tf.ensure_shape(dense_weights, shape)


def _compute_row_norms(ids: tf.RaggedTensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the Euclidean length of each row as a vector over ids, [batch]; equal ids of a row add up.

    Args:
      ids: Ids of each row.
      weights: Weight of each id, in the order of all rows; equal for equal ids.
    """
    rows = ids.value_rowids()
    keys = rows * (1 + tf.reduce_max(tf.concat([ids.flat_values, [0]], axis=0))) + ids.flat_values
    distinct = tf.unique_with_counts(keys)
    # n equal ids of weight w have the square (n * w)^2, which is n times n * w^2.
    squares = weights * weights * tf.cast(tf.gather(distinct.count, distinct.idx), tf.float32)
    return tf.sqrt(tf.math.unsorted_segment_sum(squares, rows, ids.nrows()))


def _look_up_learned_ids(name: str, tokens: LearnedTokens, values: tf.RaggedTensor) -> tf.RaggedTensor:
    """Return ids by a learned vocabulary, whose order is that of the number of rows with each token."""
    escaped = values.with_flat_values(escape_categories(values.flat_values))
    ids = _look_up(
        learn_vocabulary(_deduplicate(escaped), safe_name(name), max_size=tokens.max_size, min_count=tokens.min_count),
        lambda path: tf.lookup.TextFileInitializer(path, tf.string, _LINES.WHOLE_LINE, tf.int64, _LINES.LINE_NUMBER),
        tokens.max_size,
        escaped.flat_values,
    )
    return values.with_flat_values(ids)


def _compute_inverse_frequencies(name: str, tokens: LearnedTokens, values: tf.RaggedTensor) -> tf.Tensor:
    """Return the inverse document frequency of each id, [num_ids].

    The frequency of a token is the number of rows that have it. As scikit-learn has it,
    idf = 1 + log((1 + rows) / (1 + rows with the token)); tokens that were not learned have that of one row.
    """
    escaped = values.with_flat_values(escape_categories(values.flat_values))
    file = learn_vocabulary(
        _deduplicate(escaped),
        safe_name(name) + FREQUENCIES_SUFFIX,
        max_size=tokens.max_size,
        min_count=tokens.min_count,
        store_frequency=True,
    )
    frequencies = _look_up(
        file,
        lambda path: tf.lookup.TextFileInitializer(path, tf.int64, _LINES.LINE_NUMBER, tf.int64, 0, delimiter=" "),
        1,
        tf.range(tokens.num_ids, dtype=tf.int64),
    )
    rows = tft.sum(tf.ones([values.nrows(tf.int64)], tf.int64))
    return 1 + tf.math.log((1 + tf.cast(rows, tf.float32)) / (1 + tf.cast(frequencies, tf.float32)))


def _deduplicate(tokens: tf.RaggedTensor) -> tf.Tensor:
    """Return the tokens of all rows, each once for each row that has it."""
    rows = tf.strings.as_string(tokens.value_rowids())
    keys, _ = tf.unique(tf.strings.join([rows, tokens.flat_values], " "))
    return tf.strings.regex_replace(keys, r"^\d+ ", "")


def _look_up(file: Any, initializer: Callable[[Any], Any], default: int, keys: tf.Tensor) -> tf.Tensor:
    """Return what the table of a learned file has for keys."""
    # As `tft.apply_vocabulary` does: the path of an existing file, and the dependency by which TFT learns it first.
    path, dependency = tf_utils._get_asset_analyzer_output_and_control_dependency(file)

    def build_table() -> tf.lookup.StaticHashTable:
        return tf.lookup.StaticHashTable(initializer(path), default)

    # Where TFT only asks which analyzers there are, there is no file: the table is a part of that graph, and never run.
    built = build_table() if tf.is_symbolic_tensor(path) else tft.make_and_track_object(build_table)
    with tf.control_dependencies([] if dependency is None else [tf.identity(dependency)]):
        return built.lookup(keys)
