"""The mark of a sensitive column in its statistics. Imports neither TensorFlow nor numpy."""

from tensorflow_metadata.proto.v0 import statistics_pb2

# Of TFDV's custom_stats.
_SENSITIVE = "sensitive"


def mark_sensitive(feature: statistics_pb2.FeatureNameStatistics) -> None:
    """Mark a column as sensitive, for whoever shows its statistics."""
    feature.custom_stats.add(name=_SENSITIVE, num=1)


def is_sensitive(feature: statistics_pb2.FeatureNameStatistics) -> bool:
    """Return whether no value of the column may be shown."""
    return any(custom.name == _SENSITIVE for custom in feature.custom_stats)
