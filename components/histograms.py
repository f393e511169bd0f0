"""Distributions out of statistics: shares of categories and counts of numbers. Imports no TensorFlow.

StatisticsGen writes true counts of numbers as `custom_stats` of each column (components/value_counts.py). Statistics
that another program took have TFDV's histograms alone, which interpolate: their counts and quantiles are estimates.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from tensorflow_metadata.proto.v0 import statistics_pb2

from components.value_counts import ValueCounts, merge

# Beyond it the number of different values is estimated, to about 1 / sqrt(COUNTED_VALUES), and a value's count may be
# short by a share of 1 / COUNTED_VALUES of all rows. 10 MB a column at most; of numbers 2 MB, for each shard at work.
COUNTED_VALUES = 1 << 16
# Bins of a column of numbers in the artifact: at most 30 kB a column and split.
WRITTEN_BINS = 1 << 10
# Of TFDV's custom_stats: `histogram` has a bucket for each bin, from its smallest to its largest value.
_COUNTS = "value_counts"
_QUANTILE = "quantile {:.0%}"
# The wire format of a histogram's bucket: its tag and length, and a tag before each of the doubles.
_DOUBLES = ("low_value", "high_value", "sample_count")
_BUCKET = np.dtype(
    [("tag", "u1"), ("size", "u1"), *(field for name in _DOUBLES for field in ((f"{name} tag", "u1"), (name, "<f8")))]
)
_BUCKET_TAGS = {
    "tag": statistics_pb2.Histogram.DESCRIPTOR.fields_by_name["buckets"].number << 3 | 2,
    "size": _BUCKET.itemsize - 2,
    **{f"{d} tag": statistics_pb2.Histogram.Bucket.DESCRIPTOR.fields_by_name[d].number << 3 | 1 for d in _DOUBLES},
}
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_MOVED_RANGES = 10


def build_custom_stats(counts: ValueCounts, max_bins: int) -> list[statistics_pb2.CustomStatistic]:
    """Return the counts in at most `max_bins` bins, and the quantiles of all."""
    written = merge([counts], max_bins)
    histogram = add_buckets(statistics_pb2.Histogram(), written.low, written.high, written.count)
    quantiles = [
        statistics_pb2.CustomStatistic(name=_QUANTILE.format(share), num=counts.find_quantile(share))
        for share in QUANTILES
    ]
    return [statistics_pb2.CustomStatistic(name=_COUNTS, histogram=histogram), *quantiles]


def add_buckets(
    histogram: statistics_pb2.Histogram, low: ArrayLike, high: ArrayLike, count: ArrayLike
) -> statistics_pb2.Histogram:
    """Add buckets to a histogram and return it; a message of Python for each is many times as slow."""
    serialized = np.zeros(len(np.asarray(low)), _BUCKET)
    for name, value in _BUCKET_TAGS.items():
        serialized[name] = value
    for name, values in zip(_DOUBLES, (low, high, count), strict=True):
        serialized[name] = values
    histogram.MergeFromString(serialized.tobytes())
    return histogram


def has_counts(feature: statistics_pb2.FeatureNameStatistics) -> bool:
    """Return whether the statistics have true counts of numbers."""
    return any(custom.name == _COUNTS for custom in feature.custom_stats)


def read_number_counts(feature: statistics_pb2.FeatureNameStatistics) -> ValueCounts:
    """Return how many values are where: true counts, or TFDV's estimate where nobody counted."""
    true_counts = [custom.histogram for custom in feature.custom_stats if custom.name == _COUNTS]
    buckets = (true_counts[0] if true_counts else _select_histogram(feature)).buckets
    low, high, count = (
        np.array([getattr(bucket, name) for bucket in buckets], dtype=np.float64)
        for name in ("low_value", "high_value", "sample_count")
    )
    return ValueCounts(low, high, count)


def read_quantile(feature: statistics_pb2.FeatureNameStatistics, share: float) -> float:
    """Return one of QUANTILES: a value of the column if it was counted, else an estimate; NaN without any value."""
    name = _QUANTILE.format(share)
    written = [custom.num for custom in feature.custom_stats if custom.name == name]
    if written:
        return float(written[0])
    counts = read_number_counts(feature)
    if not counts.total:
        return float("nan")
    return float(np.interp(share * counts.total, np.cumsum(counts.count), counts.high))


def read_category_counts(feature: statistics_pb2.FeatureNameStatistics) -> Mapping[str, float]:
    """Return the number of each of the most frequent values."""
    return {bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets}


def compute_category_shares(
    feature: statistics_pb2.FeatureNameStatistics, _: statistics_pb2.FeatureNameStatistics
) -> Mapping[str, float]:
    """Return the share that each of the most frequent values, in quotes, has of all values."""
    counts = read_category_counts(feature)
    # The histogram has the most frequent values only.
    total = max(feature.string_stats.common_stats.tot_num_values, sum(counts.values())) or 1.0
    return {f"'{value}'": count / total for value, count in counts.items()}


def compute_range_shares(
    feature: statistics_pb2.FeatureNameStatistics, ranges: statistics_pb2.FeatureNameStatistics
) -> Mapping[str, float]:
    """Return the share of values between each two deciles of the other feature, the upper one included."""
    own, other = read_number_counts(feature).finite, read_number_counts(ranges).finite
    if not own.total or not other.total:
        return {}
    deciles = [other.find_quantile(share) for share in np.linspace(0, 1, _MOVED_RANGES + 1)]
    edges = list(dict.fromkeys([float(other.low[0]), *deciles[1:]]))
    at = own.count_up_to(edges) / own.total
    names = [f"up to {edges[0]:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(edges)), f"above {edges[-1]:g}"]
    return dict(zip(names, map(float, np.diff([0.0, *at, 1.0])), strict=True))


def _select_histogram(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.Histogram:
    """Return the histogram of equal shares where one exists.

    With equal widths most of a skewed column would be in one bucket.
    """
    histograms = {histogram.type: histogram for histogram in feature.num_stats.histograms}
    standard = histograms.get(statistics_pb2.Histogram.STANDARD, statistics_pb2.Histogram())
    return histograms.get(statistics_pb2.Histogram.QUANTILES, standard)
