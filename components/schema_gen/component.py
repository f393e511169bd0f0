"""Where the schema comes from: one that somebody curated, or one inferred from `train`."""

import json
import os
from collections.abc import Collection, Mapping

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.config import INFERRED_MIN_DOMAIN_MASS
from schemas.curated.schema_file import SCHEMA_FILE_NAME, SCHEMA_TYPES
from schemas.data import TRAIN_SPLIT
from schemas.features import ColumnType

# TFDV's own limit, the default of `infer_schema`.
_MAX_DOMAIN = 100


@component
def CuratedSchema(  # noqa: N802 (TFX names components like classes)
    schema_text: Parameter[str],
    schema: OutputArtifact[standard_artifacts.Schema],
) -> None:
    """Write `schema_text`, a tensorflow_metadata Schema in text format, to the artifact.

    Stock ImportSchemaGen is given a path, so a schema edited in place would be reused from the cache. Here the text
    itself is the parameter.
    """
    with fileio.open(os.path.join(schema.uri, SCHEMA_FILE_NAME), "w") as file:
        file.write(schema_text)


@component
def InferredSchema(  # noqa: N802
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    columns: Parameter[str],
    min_domain_mass: Parameter[float],
    schema: OutputArtifact[standard_artifacts.Schema],
) -> None:
    """Infer a schema from the statistics of `train`, as SchemaGen does, with the changes that `infer` names.

    `columns` is JSON: {"types": {column: type}, "optional": [columns that may be missing]}, and "dense": true if the
    other columns have a shape, as SchemaGen infers it.
    """
    train = tfdv.load_stats_binary(os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb"))
    declared = json.loads(columns)
    inferred = infer(train, declared["types"], optional=declared["optional"], min_domain_mass=min_domain_mass)
    if declared.get("dense"):
        add_shapes(inferred)
    tfdv.write_schema_text(inferred, os.path.join(schema.uri, SCHEMA_FILE_NAME))


def infer(
    train: statistics_pb2.DatasetFeatureStatisticsList,
    types: Mapping[str, ColumnType],
    *,
    optional: Collection[str],
    min_domain_mass: float = INFERRED_MIN_DOMAIN_MASS,
) -> schema_pb2.Schema:
    """Return the schema of `train`: types and presence are the declared ones, and rare new categories are no anomaly.

    SchemaGen's own schema takes `train` for all there can be: one category seen for the first time in `test`, or one
    value missing there, would stop the run. It takes a column without values for one of strings, and expects integers
    forever where all strings of `train` are integers.

    Args:
      train: statistics of `train`.
      types: declared type of each column.
      optional: columns that may be missing.
      min_domain_mass: least share of a split that the categories of `train` have.
    """
    schema = tfdv.infer_schema(train, infer_feature_shape=False)
    inferred = {feature.name: feature for feature in schema.feature}
    strings = {".".join(f.path.step): f.string_stats for f in train.datasets[0].features}
    for name in types:
        feature = inferred.get(name) or schema.feature.add(name=name)
        feature.type = SCHEMA_TYPES[types[name]]
        domain = feature.WhichOneof("domain_info")
        if domain is not None and (types[name] != "string" or domain not in ("domain", "string_domain")):
            feature.ClearField(domain)
        if types[name] == "string" and domain == "int_domain":
            _add_domain(schema, feature, strings[name])
        feature.presence.min_fraction = 0.0 if name in optional else 1.0
        if feature.WhichOneof("domain_info") in ("domain", "string_domain"):
            feature.distribution_constraints.min_domain_mass = min_domain_mass
    return schema


def add_shapes(schema: schema_pb2.Schema) -> None:
    """Give each column without missing values the shape [1], so that a `preprocessing_fn` gets it as a dense tensor."""
    for feature in schema.feature:
        if feature.presence.min_fraction == 1.0:
            feature.shape.dim.add(size=1)


def _add_domain(
    schema: schema_pb2.Schema, feature: schema_pb2.Feature, strings: statistics_pb2.StringStatistics
) -> None:
    """Give a column of strings its domain, as TFDV does where not all of them are integers."""
    values = sorted({bucket.label for bucket in strings.rank_histogram.buckets})
    if strings.unique == len(values) <= _MAX_DOMAIN:
        schema.string_domain.add(name=feature.name, value=values)
        feature.domain = feature.name
