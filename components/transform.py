"""The `preprocessing_fn` of TFX's Transform: raw columns in, ids in `[0, num_ids)` and scaled numbers out.

    Transform(preprocessing_fn="components.transform.preprocessing_fn", custom_config={"feature_set": ...})

The same graph is called by the served model, so a value is encoded alike in training and in serving. It knows a missing
value as an empty string, as NaN, or, for identity features, as -2**63, which is also what a served request may send.
"""

from collections.abc import Mapping
from typing import Any, assert_never

import tensorflow as tf
import tensorflow_transform as tft

from components.learned_vocabulary import learned_ids
from schemas.features import (
    MISSING,
    Boundaries,
    Buckets,
    Cross,
    Feature,
    FeatureSet,
    Hash,
    Identity,
    NonzeroQuantiles,
    Numeric,
    Quantiles,
    Vocabulary,
    VocabularyFile,
    VocabularyList,
    bucketized_name,
    column_type,
    safe_name,
)
from serving.signatures import encoded_label

FEATURE_SET_KEY = "feature_set"
# Fields of a crossed value cannot run into each other: a separator inside a category is escaped.
_CROSS_FIELD_SEPARATOR, _CROSS_FIELD_ESCAPE = "\x1f", "\x1e"
# Rounding leaves the mean of equal numbers off by some 1e-16 of it, and their variance above 0. Two numbers that
# float32 tells apart differ by 6e-8 of their size: even one in a billion gives a deviation of 2e-12.
_NO_SPREAD = 1e-13

Tensors = dict[str, tf.Tensor]


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> Tensors:
    """Encodes a batch.

    Args:
      inputs: raw columns by name, each a SparseTensor or Tensor with at most one value a row.
      custom_config: `feature_set` holds the declaration as JSON.

    Returns:
      Tensors of shape [batch], by `safe_name`: int64 ids, float32 numbers, and the label as `encoded_label` has it.
    """
    feature_set = FeatureSet.model_validate_json(custom_config[FEATURE_SET_KEY])
    raw = {name: _dense(inputs[name], MISSING[kind]) for name, kind in feature_set.column_types.items()}
    outputs: Tensors = {}
    # What a cross combines: a category's own text, or the number of its bucket.
    texts: Tensors = {}
    for name, feature in feature_set.features.items():
        encoded, texts[name] = _encode(name, feature, raw[name])
        outputs |= encoded
    for name in {name for cross in feature_set.crosses for name in cross.of}:
        if feature_set.column_types[name] == "string":
            texts[name] = cross_field(texts[name])
    for cross in feature_set.crosses:
        outputs[cross.name] = cross_ids(cross, texts)
    label = feature_set.label
    outputs[label.name] = encoded_label(label, raw[label.column])
    return outputs


def _dense(column: Any, missing: Any) -> tf.Tensor:
    """A raw column as a tensor of shape [batch], `missing` where it has no value."""
    if isinstance(column, tf.SparseTensor):
        rows = tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1])
        return tf.squeeze(tf.sparse.to_dense(rows, default_value=tf.constant(missing, column.dtype)), axis=1)
    return tf.reshape(column, [-1])


def _encode(name: str, feature: Feature, raw: tf.Tensor) -> tuple[Tensors, tf.Tensor]:
    """The transformed columns of one feature, and its text for crosses."""
    match feature:
        case Numeric():
            return _encode_numeric(name, feature, raw)
        case Identity():
            filled = raw if feature.missing is None else _filled_id(raw, feature.missing)
            ids = tf.clip_by_value(filled, 0, feature.num_ids - 1)
            return {safe_name(name): ids}, tf.strings.as_string(ids)
        case Vocabulary() | VocabularyList() | VocabularyFile() | Hash():
            text = raw if feature.missing is None else tf.where(raw == MISSING["string"], feature.missing, raw)
            return {safe_name(name): string_ids(name, feature, text)}, text
        case _:
            assert_never(feature)


def _filled_id(raw: tf.Tensor, missing: int) -> tf.Tensor:
    return tf.where(raw == MISSING["int"], tf.constant(missing, tf.int64), raw)


def string_ids(name: str, feature: Vocabulary | VocabularyList | VocabularyFile | Hash, text: tf.Tensor) -> tf.Tensor:
    """The ids of categories, int64 of shape [batch]."""
    match feature:
        case Vocabulary():
            return learned_ids(
                text,
                oov_ids=feature.oov_ids,
                filename=safe_name(name),
                top_k=feature.max_size,
                # TFT warns, dozens of times, of a threshold that leaves nothing out.
                frequency_threshold=feature.min_count if feature.min_count > 1 else None,
            )
        case VocabularyList() | VocabularyFile():
            values = feature.values

            def table() -> tf.lookup.StaticVocabularyTable:
                ids = tf.lookup.KeyValueTensorInitializer(list(values), range(len(values)), tf.string, tf.int64)
                return tf.lookup.StaticVocabularyTable(ids, feature.oov_ids)

            return tft.make_and_track_object(table, name=f"{safe_name(name)}_given").lookup(text)
        case Hash():
            return tf.strings.to_hash_bucket_fast(text, feature.num_ids)
        case _:
            assert_never(feature)


def _encode_numeric(name: str, feature: Numeric, raw: tf.Tensor) -> tuple[Tensors, tf.Tensor]:
    is_present = tf.math.is_finite(raw)
    present = tf.boolean_mask(raw, is_present)
    # In float64: the square of a float32 above 1.8e19 is infinite in float32.
    exact, exact_present = tf.cast(raw, tf.float64), tf.cast(present, tf.float64)
    mean = tft.mean(exact_present) if feature.missing == "mean" or feature.scale == "z_score" else None
    match feature.missing:
        case None:
            filled = exact
        case "mean":
            filled = tf.where(is_present, exact, mean)
        case number:
            filled = tf.where(is_present, exact, tf.cast(tf.constant(number, tf.float32), tf.float64))
    numbers = tf.cast(filled, tf.float32)
    outputs: Tensors = {}
    match feature.scale:
        case "z_score":
            outputs[safe_name(name)] = _z_score(filled, exact_present, mean)
        case "log_z_score":
            logarithms = _signed_log(exact_present)
            outputs[safe_name(name)] = _z_score(_signed_log(filled), logarithms, tft.mean(logarithms))
        case "min_max":
            low, high = tf.cast(tft.min(present), tf.float64), tf.cast(tft.max(present), tf.float64)
            outputs[safe_name(name)] = _ratio(filled - low, high - low, tf.constant(0.0, tf.float64))
        case "identity":
            outputs[safe_name(name)] = numbers
        case "none":
            pass
        case _:
            assert_never(feature.scale)
    if feature.buckets is not None:
        ids = outputs[bucketized_name(name)] = bucket_ids(feature.buckets, numbers, present)
        return outputs, tf.strings.as_string(ids)
    return outputs, tf.strings.as_string(numbers)


def _signed_log(values: tf.Tensor) -> tf.Tensor:
    return tf.sign(values) * tf.math.log1p(tf.abs(values))


def _z_score(values: tf.Tensor, present: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Return z-scores of shape [batch] by the moments of the values that are present in the training split."""
    return _ratio(values - mean, tf.sqrt(tft.var(present)), _NO_SPREAD * tf.abs(mean))


def _ratio(values: tf.Tensor, spread: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Return values / spread as float32; just values, which are all 0 then, where the spread is not above the least."""
    is_spread = spread > least
    return tf.cast(values / tf.where(is_spread, spread, tf.ones_like(spread)), tf.float32)


def bucket_ids(buckets: Buckets, values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """The bucket of each value, int64 of shape [batch] in `[0, buckets.num_ids)`."""
    match buckets:
        case Boundaries():
            return tft.apply_buckets(values, tf.constant([buckets.boundaries], tf.float32))
        case Quantiles():
            return tft.apply_buckets(values, _quantiles(present, buckets.count))
        case NonzeroQuantiles():
            boundaries = _quantiles(tf.boolean_mask(present, present != 0), buckets.count)
            return tf.where(values == 0, tf.constant(0, tf.int64), 1 + tft.apply_buckets(values, boundaries))
        case _:
            assert_never(buckets)


def _quantiles(values: tf.Tensor, count: int) -> tf.Tensor:
    # A tenth of a bucket's share: with tft.bucketize's own default of 0.01, 127 buckets would be off by a whole one.
    return tft.quantiles(values, num_buckets=count, epsilon=min(0.1 / count, 0.01))


def cross_ids(cross: Cross, texts: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return the IDs of a cross, int64 of shape [batch] in `[0, cross.num_ids)`."""
    joined = tf.strings.join([texts[name] for name in cross.of], separator=_CROSS_FIELD_SEPARATOR)
    return tf.strings.to_hash_bucket_fast(joined, cross.num_ids)


def cross_field(text: tf.Tensor) -> tf.Tensor:
    """Escape categories so that, joined, they can be told apart."""
    special = f"[{_CROSS_FIELD_SEPARATOR}{_CROSS_FIELD_ESCAPE}]"
    return tf.strings.regex_replace(text, special, rf"{_CROSS_FIELD_ESCAPE}\0")


__all__ = ["FEATURE_SET_KEY", "bucket_ids", "column_type", "cross_field", "cross_ids", "preprocessing_fn", "string_ids"]
