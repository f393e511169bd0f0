"""How far two data sets are apart, feature by feature, and what moved. The distances are TFDV's own.

For numbers TFDV has ten bins of equal width for each data set, and cuts both at the edges of either. It spreads the
values of a bin evenly over its parts, so one value beyond the others moves whole numbers into other parts. The distance
of a column of 1, 2, 3 to itself with a single 4 was 0.32. Here both are counted between the same edges.

Imports no TensorFlow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.column_names import name_column
from components.config import DRIFT, SKEW, Comparison, Distance, Validation
from components.example_validator.validation import find_anomalies
from components.histograms import compute_category_shares, compute_range_shares, has_counts, read_number_counts
from components.sensitive_statistics import is_sensitive
from schemas.data import TRAIN_SPLIT
from schemas.sensitive import MASK

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon",
}
_VALUES_SHOWN = 3
Side = Literal["drift", "skew"]


@dataclass(frozen=True)
class Shift:
    """The distance of one feature between two data sets.

    Attributes:
      feature: the column.
      measure: `L-infinity` or `Jensen-Shannon`.
      value: the distance, from 0 to 1.
      threshold: greatest distance that is allowed.
      moved: the values, or ranges of values, whose shares moved most: (value, share before, share now).
    """

    feature: str
    measure: str
    value: float
    threshold: float
    moved: list[tuple[str, float, float]]

    @property
    def exceeded(self) -> bool:
        return self.value > self.threshold

    def __str__(self) -> str:
        moved = ", ".join(f"{value} {before:.1%} to {now:.1%}" for value, before, now in self.moved)
        return f"{self.measure} distance {self.value:.4f}, at most {self.threshold:g}; moved most: {moved}"


@dataclass(frozen=True)
class ComparedShift:
    """A shift, of what against what.

    Attributes:
      where: the two data sets, in words.
      kind: DRIFT or SKEW.
      shift: the distance.
    """

    where: str
    kind: str
    shift: Shift


def compare_all(
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    pushed: statistics_pb2.DatasetFeatureStatisticsList | None,
    schema: schema_pb2.Schema,
    validation: Validation,
    compared_splits: Iterable[str],
) -> list[ComparedShift]:
    """Return the skew of splits against `train`, and the drift of `train`.

    Args:
      statistics: by split.
      pushed: statistics of `train` in the run that was pushed last, if there is one.
      schema: with comparators of its own.
      validation: with thresholds by feature.
      compared_splits: whose skew is taken.
    """
    train = statistics[TRAIN_SPLIT]
    shifted = [
        ComparedShift(f"{split} against {TRAIN_SPLIT}", SKEW, shift)
        for split in compared_splits
        for shift in compute_shifts(train, statistics[split], schema, validation.skew, "skew")
    ]
    if pushed is not None:
        where = f"{TRAIN_SPLIT} against that of the pushed model"
        shifted += [
            ComparedShift(where, DRIFT, s) for s in compute_shifts(pushed, train, schema, validation.drift, "drift")
        ]
    return shifted


def compute_shifts(
    before: statistics_pb2.DatasetFeatureStatisticsList,
    now: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    comparison: Comparison,
    side: Side,
) -> list[Shift]:
    """Return the distances of all features that are compared, the largest in relation to its threshold first.

    Args:
      before: the data set that is compared with.
      now: the data set that is judged.
      schema: whose comparators go before those of `comparison`.
      comparison: thresholds by feature.
      side: kind of the schema's comparators that count.
    """
    compared = _with_comparators(schema, comparison, side)
    distances = _measure(now, before, compared, side)
    features = [{name_column(f): f for f in statistics.datasets[0].features} for statistics in (before, now)]
    result = []
    for info in distances:
        (name,) = info.path.step
        for measured in info.drift_measurements if side == "drift" else info.skew_measurements:
            moved = _list_changes(features[0].get(name), features[1].get(name))
            result.append(Shift(name, _MEASURES[measured.type], measured.value, measured.threshold, moved))
    return sorted(result, key=lambda shift: -shift.value / shift.threshold)


def _measure(
    now: statistics_pb2.DatasetFeatureStatisticsList,
    before: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    side: Side,
) -> "list[anomalies_pb2.DriftSkewInfo]":
    """Return what TFDV measures, for statistics of one data set each."""
    current, previous = _prepare(now, before)
    anomalies = (
        find_anomalies(current, schema, previous=previous)
        if side == "drift"
        else find_anomalies(current, schema, serving=previous)
    )
    return list(anomalies.drift_skew_info)


def _prepare(
    *both: statistics_pb2.DatasetFeatureStatisticsList,
) -> list[statistics_pb2.DatasetFeatureStatistics]:
    """Return both data sets without the features of which nothing was counted, numbers between the same edges."""
    by_name = [
        {name_column(feature): feature for feature in statistics.datasets[0].features if feature.WhichOneof("stats")}
        for statistics in both
    ]
    edges = {
        name: _list_edges(feature, by_name[1][name])
        for name, feature in by_name[0].items()
        if name in by_name[1] and has_counts(feature) and has_counts(by_name[1][name])
    }
    answer = []
    for statistics, features in zip(both, by_name, strict=True):
        dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=statistics.datasets[0].num_examples)
        for name, feature in features.items():
            copy = dataset.features.add()
            copy.CopyFrom(feature)
            del copy.custom_stats[:]
            if edges.get(name):
                _cut(copy, edges[name], read_number_counts(feature).count_up_to(edges[name]))
        answer.append(dataset)
    return answer


def _list_edges(*features: statistics_pb2.FeatureNameStatistics) -> list[float]:
    """Return where TFDV cuts; nothing where there are infinite values, which have no width."""
    buckets = [bucket for feature in features for h in _list_standard_histograms(feature) for bucket in h.buckets]
    edges = sorted({edge for bucket in buckets for edge in (bucket.low_value, bucket.high_value)})
    if not np.isfinite(edges).all() or len(edges) < 2:
        return []
    # A constant has no width; as the smallest value it has a bin to itself.
    is_point = any(bucket.low_value == bucket.high_value == edges[0] for bucket in buckets)
    return [2 * edges[0] - edges[1], *edges] if is_point else edges


def _cut(feature: statistics_pb2.FeatureNameStatistics, edges: list[float], up_to: Iterable[float]) -> None:
    (histogram,) = _list_standard_histograms(feature)
    del histogram.buckets[:]
    # The smallest value is in the first bin.
    counts = np.diff(np.concatenate([[0.0], list(up_to)[1:]]))
    for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _list_standard_histograms(feature: statistics_pb2.FeatureNameStatistics) -> list[statistics_pb2.Histogram]:
    return [h for h in feature.num_stats.histograms if h.type == statistics_pb2.Histogram.STANDARD]


def _with_comparators(schema: schema_pb2.Schema, comparison: Comparison, side: Side) -> schema_pb2.Schema:
    """Return the schema with a comparator for each feature that is compared, and none of the other side."""
    compared = schema_pb2.Schema()
    compared.CopyFrom(schema)
    for feature in compared.feature:
        feature.ClearField("skew_comparator" if side == "drift" else "drift_comparator")
        comparator = feature.drift_comparator if side == "drift" else feature.skew_comparator
        if not comparator.ListFields():
            feature.ClearField("drift_comparator" if side == "drift" else "skew_comparator")
            default = None if feature.name in comparison.excluded else comparison.default
            distance = comparison.features.get(feature.name, default)
            if distance is not None:
                comparator = feature.drift_comparator if side == "drift" else feature.skew_comparator
                _set(comparator, distance, is_category=feature.type == schema_pb2.BYTES)
    return compared


def _set(comparator: schema_pb2.FeatureComparator, distance: Distance, *, is_category: bool) -> None:
    # A default of L-infinity cannot be taken of numbers.
    if distance.measure == "l_infinity" and is_category:
        comparator.infinity_norm.threshold = distance.threshold
    else:
        comparator.jensen_shannon_divergence.threshold = distance.threshold


def _list_changes(
    before: statistics_pb2.FeatureNameStatistics | None, now: statistics_pb2.FeatureNameStatistics | None
) -> list[tuple[str, float, float]]:
    if before is None or now is None:
        return []
    shares = compute_category_shares if before.HasField("string_stats") else compute_range_shares
    shares_before, shares_now = shares(before, before), shares(now, before)
    changes = sorted(
        {*shares_before, *shares_now},
        key=lambda value: (-round(abs(shares_now.get(value, 0.0) - shares_before.get(value, 0.0)), 9), value),
    )
    is_masked = is_sensitive(before) or is_sensitive(now)
    return [
        (MASK if is_masked else value, shares_before.get(value, 0.0), shares_now.get(value, 0.0))
        for value in changes[:_VALUES_SHOWN]
    ]
