"""How many rows an anomaly is about, as far as the statistics of its split tell. Imports no TensorFlow."""

import math

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

# Histograms of numbers come from a sketch: of many rows, fewer than this share are lost in its error.
_SURE_SHARE, _FEW_ROWS = 0.002, 1000


def concerned(
    kind: str, name: str, statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema
) -> str:
    """The number of rows, for people; empty where it is not known.

    Args:
      kind: TFDV's name of the anomaly.
      name: of the feature.
      statistics: of the split.
      schema: that the feature does not fit.
    """
    data = statistics.datasets[0]
    found = next((one for one in data.features if one.name == name or list(one.path.step) == [name]), None)
    expected = next((one for one in schema.feature if one.name == name), None)
    if found is None or expected is None:
        return ""
    rows, domain = data.num_examples, _domain(expected)
    match kind:
        case "FLOAT_TYPE_BIG_FLOAT" | "INT_TYPE_BIG_INT" if domain is not None:
            return _about(_count(found, domain.max, math.inf), rows)
        case "FLOAT_TYPE_SMALL_FLOAT" | "INT_TYPE_SMALL_INT" if domain is not None:
            return _about(_count(found, -math.inf, domain.min), rows)
        case "ENUM_TYPE_UNEXPECTED_STRING_VALUES":
            return _unexpected(found, _values(expected, schema), rows)
        case "FEATURE_TYPE_LOW_FRACTION_PRESENT":
            stats = found.num_stats if found.HasField("num_stats") else found.string_stats
            return f"{stats.common_stats.num_missing:,} of {rows:,} rows have none"
        case _:
            return ""


def _domain(expected: schema_pb2.Feature) -> schema_pb2.FloatDomain | schema_pb2.IntDomain | None:
    known = expected.WhichOneof("domain_info")
    return getattr(expected, known) if known in ("float_domain", "int_domain") else None


def _values(expected: schema_pb2.Feature, schema: schema_pb2.Schema) -> set[str]:
    shared = [one for one in schema.string_domain if one.name == expected.domain]
    return {value for one in (*shared, expected.string_domain) for value in one.value}


def _unexpected(found: statistics_pb2.FeatureNameStatistics, known: set[str], rows: int) -> str:
    stats = found.string_stats
    buckets = stats.rank_histogram.buckets
    count = sum(bucket.sample_count for bucket in buckets if bucket.label not in known)
    # Only the most frequent values are counted one by one.
    return f"{'at least ' if stats.unique > len(buckets) else ''}{count:,.0f} of {rows:,} rows"


def _count(found: statistics_pb2.FeatureNameStatistics, low: float, high: float) -> float:
    """How many values are between two numbers, by the histogram of equal widths."""
    standard = statistics_pb2.Histogram.STANDARD
    buckets = [b for h in found.num_stats.histograms if h.type == standard for b in h.buckets]
    counted = 0.0
    for bucket in buckets:
        width = bucket.high_value - bucket.low_value
        if np.isfinite(width) and width > 0:
            inside = min(bucket.high_value, high) - max(bucket.low_value, low)
            counted += bucket.sample_count * max(inside, 0.0) / width
        elif low < bucket.low_value < high:
            counted += bucket.sample_count
    return counted


def _about(count: float, rows: int) -> str:
    if rows >= _FEW_ROWS and count < _SURE_SHARE * rows:
        return f"fewer than {math.ceil(_SURE_SHARE * rows):,} of {rows:,} rows"
    return f"about {max(round(count), 1):,} of {rows:,} rows"
