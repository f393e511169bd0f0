"""Derived IDs that are out of their range, which no reader of files counts. Imports no TensorFlow."""

from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.counts import format_count
from components.config import OUT_OF_RANGE
from components.histograms import read_number_counts
from components.policy import Anomaly
from schemas.features import FeatureSet


def find_derived_out_of_range(
    features: FeatureSet, statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]
) -> list[Anomaly]:
    """Return the derived IDs that the model would clip, by split.

    Args:
      features: Declarations of the features.
      statistics: Statistics of each split.
    """
    num_ids = {name: features.features[name].raw_num_ids for name in features.derived_columns}
    anomalies = []
    for split, of_split in statistics.items():
        for feature in of_split.datasets[0].features:
            name = ".".join(feature.path.step)
            bound = num_ids.get(name)
            if bound is None:
                continue
            counts = read_number_counts(feature)
            edges = [-0.5, bound - 0.5]
            below, up_to_last = counts.count_up_to(edges)
            outside = round(counts.total - (up_to_last - below))
            if outside:
                about = "" if counts.is_exact_at(edges) else "about "
                expression = features.features[name].expression
                text = (
                    f"{about}{outside:,} of {format_count(round(counts.total), 'value')} of {name} = {expression} are "
                    "outside of "
                    f"[0, {bound}), and would be clipped into it; raise features.{name}.num_ids, or correct the "
                    "expression"
                )
                anomalies.append(Anomaly(split, name, OUT_OF_RANGE, text))
    return anomalies
