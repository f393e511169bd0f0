"""The name of a column in statistics, which TFDV writes as a path."""

from tensorflow_metadata.proto.v0 import statistics_pb2


def name_column(feature: statistics_pb2.FeatureNameStatistics) -> str:
    """Return the name of a column of statistics."""
    return str(feature.name or ".".join(feature.path.step))
