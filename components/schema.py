"""Where the schema comes from: one that somebody curated, or one inferred from `train`."""

import os

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts

from components.config import INFERRED_MIN_DOMAIN_MASS
from schemas.curated import SCHEMA_FILE_NAME
from schemas.data import TRAIN_SPLIT


@component
def CuratedSchema(  # noqa: N802 (TFX names components like classes)
    schema_text: Parameter[str],
    schema: OutputArtifact[standard_artifacts.Schema],
) -> None:
    """Writes `schema_text`, a tensorflow_metadata Schema in text format, to the artifact.

    Stock ImportSchemaGen is given a path, so a schema edited in place would be answered from the cache. Here the text
    itself is the parameter.
    """
    with fileio.open(os.path.join(schema.uri, SCHEMA_FILE_NAME), "w") as file:
        file.write(schema_text)


@component
def InferredSchema(  # noqa: N802
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    optional: Parameter[str],
    min_domain_mass: Parameter[float],
    schema: OutputArtifact[standard_artifacts.Schema],
) -> None:
    """Infers a schema from the statistics of `train`, as SchemaGen does, with the changes that `infer` names.

    `optional` names the columns that may be missing, joined by commas.
    """
    train = tfdv.load_stats_binary(os.path.join(statistics.uri, f"Split-{TRAIN_SPLIT}", "FeatureStats.pb"))
    inferred = infer(train, optional=frozenset(optional.split(",")), min_domain_mass=min_domain_mass)
    tfdv.write_schema_text(inferred, os.path.join(schema.uri, SCHEMA_FILE_NAME))


def infer(
    train: statistics_pb2.DatasetFeatureStatisticsList,
    *,
    optional: frozenset[str],
    min_domain_mass: float = INFERRED_MIN_DOMAIN_MASS,
) -> schema_pb2.Schema:
    """The schema of `train`, except that presence is as declared, and that rare new categories are no anomaly.

    SchemaGen's own schema takes `train` for all there can be: one category seen for the first time in `test`, or one
    value missing there, would stop the run.
    """
    schema = tfdv.infer_schema(train, infer_feature_shape=False)
    for feature in schema.feature:
        feature.presence.min_fraction = 0.0 if feature.name in optional else 1.0
        if feature.WhichOneof("domain_info") in ("domain", "string_domain"):
            feature.distribution_constraints.min_domain_mass = min_domain_mass
    return schema
