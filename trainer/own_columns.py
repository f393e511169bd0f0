"""Columns that the user's `preprocessing_fn` returns beside the declared ones, which become inputs of the network."""

import tensorflow as tf
import tensorflow_transform as tft

from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, OwnColumn


def add_own_columns(features: FeatureSet, transform_output: tft.TFTransformOutput) -> FeatureSet:
    """Return the declaration with all further columns of the Transform graph, which Transform has checked."""
    declared = {column.name for column in features.id_columns} | {column.name for column in features.number_columns}
    declared |= {features.label.name, TRANSFORMED_WEIGHT}
    num_ids = {
        feature.name: feature.int_domain.max + 1
        for feature in transform_output.transformed_metadata.schema.feature
        if feature.HasField("int_domain")
    }
    own = [
        OwnColumn(name=name, width=spec.shape[0] if spec.shape else 1)
        if spec.dtype == tf.float32
        else OwnColumn(name=name, num_ids=num_ids[name])
        for name, spec in sorted(transform_output.transformed_feature_spec().items())
        if name not in declared
    ]
    return features.model_copy(update={"own_columns": tuple(own)}) if own else features
