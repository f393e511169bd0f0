"""Distributions out of TFDV's statistics: shares of categories, and of ranges of numbers. Imports no TensorFlow."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2


def category_shares(
    feature: statistics_pb2.FeatureNameStatistics, _: statistics_pb2.FeatureNameStatistics
) -> Mapping[str, float]:
    buckets = feature.string_stats.rank_histogram.buckets
    total = sum(bucket.sample_count for bucket in buckets) or 1.0
    return {f"'{bucket.label}'": bucket.sample_count / total for bucket in buckets}


def range_shares(
    feature: statistics_pb2.FeatureNameStatistics, ranges: statistics_pb2.FeatureNameStatistics
) -> Mapping[str, float]:
    """The share of values between each two edges of the other's histogram, its upper edge included."""
    edges = cumulated(ranges)[0]
    own, shares = cumulated(feature)
    if not edges or not own:
        return {}
    at = np.interp(edges, own, shares, left=0.0, right=1.0)
    names = [f"up to {edges[0]:g}", *(f"{low:g} to {high:g}" for low, high in pairwise(edges)), f"above {edges[-1]:g}"]
    return dict(zip(names, map(float, np.diff([0.0, *at, 1.0])), strict=True))


def cumulated(feature: statistics_pb2.FeatureNameStatistics) -> tuple[list[float], list[float]]:
    """The edges of a histogram, ascending without repeats, and the share of values up to each."""
    buckets = [b for b in _histogram(feature).buckets if np.isfinite(b.low_value) and np.isfinite(b.high_value)]
    total = sum(bucket.sample_count for bucket in buckets) or 1.0
    shares = {bucket.low_value: 0.0 for bucket in buckets[:1]}
    done = 0.0
    for bucket in buckets:
        done += bucket.sample_count
        # Of several buckets that end at one value, the last has counted all of them.
        shares[bucket.high_value] = done / total
    return list(shares), list(shares.values())


def _histogram(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.Histogram:
    """Of equal shares where there is one: with equal widths most of a skewed column would be in one bucket."""
    histograms = {histogram.type: histogram for histogram in feature.num_stats.histograms}
    standard = histograms.get(statistics_pb2.Histogram.STANDARD, statistics_pb2.Histogram())
    return histograms.get(statistics_pb2.Histogram.QUANTILES, standard)
