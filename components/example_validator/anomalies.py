"""Reading of ExampleValidator's anomalies. Imports no TensorFlow."""

from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from components.column_names import name_column
from components.policy import Anomaly
from components.sensitive_statistics import is_sensitive
from schemas.sensitive import MASK

# In the folder of each split, as the stock component names it.
ANOMALIES_FILE = "SchemaDiff.pb"
_ALL_COLUMNS = "all"


def parse_anomalies(content: bytes) -> anomalies_pb2.Anomalies:
    """Return the anomalies of one split.

    Raises:
      ValueError: they are damaged.
    """
    try:
        return anomalies_pb2.Anomalies.FromString(content)
    except DecodeError as error:
        raise ValueError(f"is damaged: {error}") from error


def mask_values(anomalies: anomalies_pb2.Anomalies, statistics: statistics_pb2.DatasetFeatureStatistics) -> None:
    """Keep of the anomalies of sensitive columns what TFDV calls them; its long descriptions quote values.

    Args:
      anomalies: Anomalies of a split; changed in place.
      statistics: Statistics of the split, which mark sensitive columns.
    """
    sensitive = {name_column(feature) for feature in statistics.features if is_sensitive(feature)}
    if sensitive:
        # It has the categories of the schema, which is an artifact of its own.
        anomalies.ClearField("baseline")
    for name in sensitive:
        if name in anomalies.anomaly_info:
            info = anomalies.anomaly_info[name]
            for described in (info, *info.reason):
                described.description = f"{described.short_description}: {MASK}"


def list_anomalies(anomalies: anomalies_pb2.Anomalies, split: str) -> list[Anomaly]:
    """Return the anomalies of a split, in order of the features' names."""
    of_features = [
        (feature, reason) for feature, info in sorted(anomalies.anomaly_info.items()) for reason in info.reason
    ]
    of_all = [(_ALL_COLUMNS, reason) for reason in anomalies.dataset_anomaly_info.reason]
    return [
        Anomaly(
            split,
            feature,
            anomalies_pb2.AnomalyInfo.Type.Name(reason.type),
            " ".join((reason.description or reason.short_description).split()),
        )
        for feature, reason in of_features + of_all
    ]
