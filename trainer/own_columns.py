"""Columns that the user's `preprocessing_fn` returns beside the declared ones, which become inputs of the network."""

import tensorflow as tf
import tensorflow_transform as tft

from cli.errors import PipelineError
from schemas.features import TRANSFORMED_WEIGHT, FeatureSet, OwnColumn


def add_own_columns(features: FeatureSet, transform_output: tft.TFTransformOutput) -> FeatureSet:
    """Return the declaration with all further columns of the Transform graph.

    Raises:
      PipelineError: One of them has no fixed width, or is of ids in an unknown range.
    """
    declared = {column.name for column in features.id_columns} | {column.name for column in features.number_columns}
    declared |= {features.label.name, TRANSFORMED_WEIGHT}
    domains = {
        feature.name: feature.int_domain
        for feature in transform_output.transformed_metadata.schema.feature
        if feature.HasField("int_domain")
    }
    own = []
    for name, spec in sorted(transform_output.transformed_feature_spec().items()):
        if name in declared:
            continue
        width = _find_width(name, spec)
        if spec.dtype == tf.float32:
            own.append(OwnColumn(name=name, width=width))
            continue
        domain = domains.get(name)
        if domain is None or domain.min < 0 or not domain.HasField("max") or width != 1:
            raise PipelineError(
                f"transform.module: '{name}' has integers in an unknown range, from below 0, or several in a row; the "
                "network takes ids from 0 on: tft.compute_and_apply_vocabulary(..., num_oov_buckets=1), or numbers: "
                "tf.cast(..., tf.float32)"
            )
        own.append(OwnColumn(name=name, num_ids=domain.max + 1))
    return features.model_copy(update={"own_columns": tuple(own)}) if own else features


def _find_width(name: str, spec: tf.io.FixedLenFeature) -> int:
    if not isinstance(spec, tf.io.FixedLenFeature) or len(spec.shape) > 1 or None in spec.shape:
        raise PipelineError(
            f"transform.module: '{name}' has another number of values in each row; the network takes tensors of shape "
            "[batch] or [batch, width]: tf.reshape(..., [-1, width])"
        )
    return int(spec.shape[0]) if spec.shape else 1
