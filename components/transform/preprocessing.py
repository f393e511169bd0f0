"""The `preprocessing_fn` of TFX's Transform: raw columns in, ids in `[0, num_ids)` and scaled numbers out.

    Transform(preprocessing_fn="components.transform.preprocessing.preprocessing_fn", custom_config={...})

The same graph is called by the served model, so a value is encoded alike in training and in serving. It knows a missing
value as an empty string, as NaN, or, for identity features, as -2**63, which is also what a served request may send.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow_transform import schema_inference

from components.transform.bags import encode_bags
from components.transform.category_tables import compute_category_ids, compute_fingerprint_ids
from components.transform.derived_columns import derive_columns
from components.transform.numeric_encoding import NumericEncoding
from components.transform.raw_matrix import build_raw_matrix, select_rows
from components.transform.vectors import encode_vectors
from schemas.features import (
    MISSING,
    TRANSFORMED_WEIGHT,
    BaseFeature,
    Cross,
    FeatureSet,
    Hash,
    Identity,
    IdList,
    Input,
    Numeric,
    Text,
    Vector,
    Vocabulary,
    VocabularyFile,
    VocabularyList,
    bucketized_name,
    indicator_name,
    safe_name,
)
from serving.model.signatures import encode_label

FEATURE_SET_KEY = "feature_set"
# Fields of a crossed value cannot run into each other: a separator inside a category is escaped.
_CROSS_FIELD_SEPARATOR, _CROSS_FIELD_ESCAPE = "\x1f", "\x1e"

Tensors = dict[str, tf.Tensor]


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> Tensors:
    """Encode a batch; columns of one treatment share every operation, so that a wide table is not a large graph.

    Args:
      inputs: raw columns by name, each a SparseTensor or Tensor with at most one value a row.
      custom_config: `feature_set` holds the declaration as JSON.

    Returns:
      Tensors by `safe_name`: int64 ids, float32 numbers, and the label as `encode_label` has it; of shape [batch], or
      [batch, width] for lists, texts and vectors. The rows' weights are passed through.
    """
    feature_set = FeatureSet.model_validate_json(custom_config[FEATURE_SET_KEY])
    crossed = {name for cross in feature_set.crosses for name in cross.features}
    columns = {**inputs, **derive_columns(feature_set.encoded_derived_columns, inputs)}
    outputs: Tensors = {}
    # What a cross combines: a category's own text, or the number of its bucket.
    texts: Tensors = {}
    by_encoder: dict[Encoder, dict[str, BaseFeature]] = {encode: {} for encode in ENCODERS.values()}
    for name, feature in feature_set.encoded_features.items():
        if not isinstance(feature, Input):
            by_encoder[_find_encoder(type(feature))][name] = feature
    for encode, features in by_encoder.items():
        if features:
            (column_type,) = {feature.column_type for feature in features.values()}
            raw = build_raw_matrix([columns[name] for name in features], MISSING[column_type])
            encoded, fields = encode(features, raw, crossed)
            outputs |= encoded
            texts |= fields
    for cross in feature_set.crosses:
        outputs[cross.name] = compute_cross_ids(cross, texts)
    _describe_ids(feature_set, outputs)
    label = feature_set.label
    missing = MISSING[feature_set.column_types[label.column]]
    outputs[label.name] = encode_label(label, build_raw_matrix([inputs[label.column]], missing)[0])
    if feature_set.weight is not None:
        outputs[TRANSFORMED_WEIGHT] = build_raw_matrix([inputs[feature_set.weight]], MISSING["float"])[0]
    return outputs


def _encode_bags(features: Mapping[str, Any], raw: tf.Tensor, crossed: set[str]) -> tuple[Tensors, Tensors]:
    """Return the ids and weights of lists and texts."""
    return encode_bags(features, raw), {}


def _encode_numbers(features: Mapping[str, Numeric], raw: tf.Tensor, crossed: set[str]) -> tuple[Tensors, Tensors]:
    """Return the transformed columns of numeric features, and the texts of those that are crossed."""
    encoding = NumericEncoding(features, raw)
    outputs = {safe_name(name): numbers for name, numbers in encoding.scaled.items()}
    outputs |= {bucketized_name(name): ids for name, ids in encoding.buckets.items()}
    outputs |= {indicator_name(name): is_missing for name, is_missing in encoding.indicators.items()}
    return outputs, {name: tf.strings.as_string(encoding.buckets[name]) for name in features if name in crossed}


def _encode_integers(features: Mapping[str, Identity], raw: tf.Tensor, crossed: set[str]) -> tuple[Tensors, Tensors]:
    """Return the ids of identity features, as `_encode_numbers` does."""
    # One that may not be missing never is; a request is checked before.
    fill = [[MISSING["int"] if feature.missing is None else feature.missing] for feature in features.values()]
    most = [[feature.num_ids - 1] for feature in features.values()]
    filled = tf.where(raw == MISSING["int"], tf.constant(fill, tf.int64), raw)
    ids = dict(zip(features, tf.unstack(tf.clip_by_value(filled, 0, tf.constant(most, tf.int64))), strict=True))
    outputs = {safe_name(name): column for name, column in ids.items()}
    return outputs, {name: tf.strings.as_string(ids[name]) for name in features if name in crossed}


def _encode_categories(features: Mapping[str, Any], raw: tf.Tensor, crossed: set[str]) -> tuple[Tensors, Tensors]:
    """Return the ids of categories, as `_encode_numbers` does."""
    fill = [["" if feature.missing is None else feature.missing] for feature in features.values()]
    texts = tf.where(raw == MISSING["string"], tf.constant(fill), raw)
    names = list(features)
    hash_numbers = [number for number, feature in enumerate(features.values()) if isinstance(feature, Hash)]
    table_numbers = sorted({*range(len(names))} - {*hash_numbers})
    columns: dict[int, tf.Tensor] = {}
    if table_numbers:
        ids = compute_category_ids(
            {names[number]: features[names[number]] for number in table_numbers}, select_rows(texts, table_numbers)
        )
        columns |= dict(zip(table_numbers, tf.unstack(ids, len(table_numbers)), strict=True))
    if hash_numbers:
        ids = compute_fingerprint_ids(
            select_rows(texts, hash_numbers), [features[names[number]].num_ids for number in hash_numbers]
        )
        columns |= dict(zip(hash_numbers, tf.unstack(ids, len(hash_numbers)), strict=True))
    outputs = {safe_name(name): columns[number] for number, name in enumerate(names)}
    return outputs, {name: escape_cross_field(texts[number]) for number, name in enumerate(names) if name in crossed}


# An encoder takes declarations by name, raw values of shape [columns, batch] in their order, and the names of crossed
# features. It returns the transformed columns, and the texts of the crossed features. Kinds with one encoder share
# operations, so they have one column type.
Encoder = Callable[[Mapping[str, Any], tf.Tensor, set[str]], tuple[Tensors, Tensors]]
ENCODERS: Mapping[type[BaseFeature], Encoder] = {
    Numeric: _encode_numbers,
    Identity: _encode_integers,
    Vocabulary: _encode_categories,
    VocabularyList: _encode_categories,
    VocabularyFile: _encode_categories,
    Hash: _encode_categories,
    IdList: _encode_bags,
    Text: _encode_bags,
    Vector: encode_vectors,
}


def _find_encoder(kind: type[BaseFeature]) -> Encoder:
    """Return the encoder of a kind, or of the kind that it is a subclass of."""
    return next(ENCODERS[base] for base in kind.__mro__ if base in ENCODERS)


def _describe_ids(feature_set: FeatureSet, outputs: Tensors) -> None:
    """Put the range of each id column into the schema of the transformed columns."""
    ends: dict[int, tf.Tensor] = {0: tf.constant(0, tf.int64)}
    for column in feature_set.id_columns:
        last = ends.setdefault(column.num_ids - 1, tf.constant(column.num_ids - 1, tf.int64))
        schema_inference.set_tensor_schema_override(outputs[column.name], ends[0], last)


def compute_cross_ids(cross: Cross, texts: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return the IDs of a cross, int64 of shape [batch] in `[0, cross.num_ids)`."""
    joined = tf.strings.join([texts[name] for name in cross.features], separator=_CROSS_FIELD_SEPARATOR)
    return tf.strings.to_hash_bucket_fast(joined, cross.num_ids)


def escape_cross_field(text: tf.Tensor) -> tf.Tensor:
    """Escape categories so that, joined, they can be told apart."""
    special = f"[{_CROSS_FIELD_SEPARATOR}{_CROSS_FIELD_ESCAPE}]"
    return tf.strings.regex_replace(text, special, rf"{_CROSS_FIELD_ESCAPE}\0")
