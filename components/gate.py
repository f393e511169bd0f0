"""The gate: stops the run on anomalies, which stock ExampleValidator only writes down.

Transform is put downstream of it, so nothing is trained on data that does not fit its schema.
"""

import os

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx import v1 as tfx
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.config import TRAIN_SPLIT
from schemas.errors import DataError

_SKEWS = (
    anomalies_pb2.AnomalyInfo.COMPARATOR_L_INFTY_HIGH,
    anomalies_pb2.AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH,
)


@tfx.dsl.components.component
def AnomalyGate(  # noqa: N802 (TFX names components like classes)
    anomalies: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleAnomalies],
    statistics: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ExampleStatistics],
    schema: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Schema],
    compared_splits: tfx.dsl.components.Parameter[str],
) -> None:
    """Passes when no split has an anomaly and none of `compared_splits` (joined by commas) is skewed against `train`.

    Raises:
      DataError: one line for each anomaly: split, feature, what is wrong.
    """
    found = [
        f"{split}: {line}"
        for split in artifact_utils.decode_split_names(anomalies.split_names)
        for line in describe(read_anomalies(os.path.join(anomalies.uri, f"Split-{split}")))
    ]
    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    for split in filter(None, compared_splits.split(",")):
        found += _skews(statistics, expected, split)
    if found:
        advice = "correct the data, or change the schema if the data is right"
        raise DataError(
            "\n".join(["the data does not fit its schema:", *(f"  {line}" for line in found), f"  {advice}"])
        )


def read_anomalies(folder: str) -> anomalies_pb2.Anomalies:
    """What ExampleValidator found in one split."""
    found = anomalies_pb2.Anomalies()
    with tfx.dsl.io.fileio.open(os.path.join(folder, "SchemaDiff.pb"), "rb") as file:
        found.ParseFromString(file.read())
    return found


def describe(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """One line for each anomaly, in order of the features' names."""
    lines = [
        f"{feature}: {' '.join((reason.description or reason.short_description).split())}"
        for feature, info in sorted(anomalies.anomaly_info.items())
        for reason in info.reason
    ]
    return lines + [f"all: {info.description}" for info in [anomalies.dataset_anomaly_info] if info.description]


def _skews(
    statistics: tfx.types.standard_artifacts.ExampleStatistics, schema: schema_pb2.Schema, split: str
) -> list[str]:
    """The differences in distribution between `train` and a split that exceed the schema's skew_comparator."""
    train, other = (
        tfdv.load_stats_binary(os.path.join(statistics.uri, f"Split-{name}", "FeatureStats.pb"))
        for name in (TRAIN_SPLIT, split)
    )
    return [f"{TRAIN_SPLIT} against {split}: {line}" for line in describe(_skew(train, other, schema))]


def _skew(
    train: statistics_pb2.DatasetFeatureStatisticsList,
    other: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
) -> anomalies_pb2.Anomalies:
    # What is wrong with `train` alone was reported by ExampleValidator already.
    found = tfdv.validate_statistics(train, schema, serving_statistics=other)
    skewed = anomalies_pb2.Anomalies()
    for feature, info in found.anomaly_info.items():
        skewed.anomaly_info[feature].reason.extend(r for r in info.reason if r.type in _SKEWS)
    return skewed
