"""Derived features in TFX's statistics and schemas. Imports no TensorFlow.

TFX has a mark for columns that are computed for validation and that no example has. TFDV judges them as any other, and
TFXIO and TFT do not read them. Nobody writes the mark into a curated schema: `complete_schema` adds it.
"""

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from schemas.curated.schema_file import SCHEMA_TYPES
from schemas.expressions import Expression
from schemas.features import FeatureSet

_DERIVER = "expression"


def mark_derived(feature: statistics_pb2.FeatureNameStatistics | schema_pb2.Feature, expression: Expression) -> None:
    """Mark statistics or a feature of a schema as those of a derived feature."""
    source = feature.validation_derived_source
    source.Clear()
    source.deriver_name = _DERIVER
    source.description = expression.text
    for name in expression.columns:
        source.source_path.add(step=[name])
    if isinstance(feature, schema_pb2.Feature):
        feature.lifecycle_stage = schema_pb2.VALIDATION_DERIVED


def complete_schema(schema: schema_pb2.Schema, features: FeatureSet) -> schema_pb2.Schema:
    """Return a curated schema with all derived features; one that it does not describe may have any value, or none."""
    complete = schema_pb2.Schema()
    complete.CopyFrom(schema)
    described = {feature.name: feature for feature in complete.feature}
    for name, column in features.derived_columns.items():
        feature = described.get(name)
        if feature is None:
            feature = complete.feature.add(name=name, type=SCHEMA_TYPES[column.column_type])
        mark_derived(feature, column.expression)
    return complete


def find_curated(
    statistics: statistics_pb2.DatasetFeatureStatistics, schema: schema_pb2.Schema
) -> statistics_pb2.DatasetFeatureStatistics:
    """Return statistics of the columns that a curated schema is about, without marks.

    Args:
      statistics: Statistics of a split.
      schema: Curated schema, which needs not describe derived features.
    """
    described = {feature.name for feature in schema.feature}
    curated = statistics_pb2.DatasetFeatureStatistics()
    curated.CopyFrom(statistics)
    del curated.features[:]
    for feature in statistics.features:
        is_derived = feature.HasField("validation_derived_source")
        if not is_derived or ".".join(feature.path.step) in described:
            copy = curated.features.add()
            copy.CopyFrom(feature)
            copy.ClearField("validation_derived_source")
    return curated
