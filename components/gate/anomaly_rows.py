"""The number of rows of an anomaly, as far as the statistics of its split have it. Imports no TensorFlow."""

import math

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from cli.counts import format_count
from components.column_names import name_column
from components.histograms import has_counts, read_number_counts


class Concerned:
    """Counts the rows that anomalies of a split are about."""

    def __init__(self, statistics: statistics_pb2.DatasetFeatureStatisticsList, schema: schema_pb2.Schema) -> None:
        """Index the columns.

        Args:
          statistics: Statistics of the split.
          schema: Schema that features do not fit.
        """
        self._schema = schema
        (self._data,) = statistics.datasets
        # A table of thousands of columns may have as many anomalies.
        self._features = {name_column(feature): feature for feature in self._data.features}
        self._expected = {feature.name: feature for feature in schema.feature}

    def describe_rows(self, kind: str, name: str) -> str:
        """Return the number of rows, for people; empty where it is not known.

        Args:
          kind: TFDV's name of the anomaly.
          name: Name of the feature.
        """
        feature, expected = self._features.get(name), self._expected.get(name)
        if feature is None or expected is None:
            return ""
        rows, domain = self._data.num_examples, _find_domain(expected)
        match kind:
            case "FLOAT_TYPE_BIG_FLOAT" | "INT_TYPE_BIG_INT" if domain is not None:
                return _count_above(feature, domain.max, rows)
            case "FLOAT_TYPE_SMALL_FLOAT" | "INT_TYPE_SMALL_INT" if domain is not None:
                return _count_below(feature, domain.min, rows)
            case "ENUM_TYPE_UNEXPECTED_STRING_VALUES":
                return _count_unexpected(feature, _list_values(expected, self._schema), rows)
            case "FEATURE_TYPE_LOW_FRACTION_PRESENT":
                stats = feature.num_stats if feature.HasField("num_stats") else feature.string_stats
                return f"{stats.common_stats.num_missing:,} of {format_count(rows, 'row', 'have')} none"
            case _:
                return ""


def _find_domain(expected: schema_pb2.Feature) -> schema_pb2.FloatDomain | schema_pb2.IntDomain | None:
    domain = expected.WhichOneof("domain_info")
    return getattr(expected, domain) if domain in ("float_domain", "int_domain") else None


def _list_values(expected: schema_pb2.Feature, schema: schema_pb2.Schema) -> set[str]:
    shared = [domain for domain in schema.string_domain if domain.name == expected.domain]
    return {value for domain in (*shared, expected.string_domain) for value in domain.value}


def _count_unexpected(feature: statistics_pb2.FeatureNameStatistics, values: set[str], rows: int) -> str:
    stats = feature.string_stats
    buckets = stats.rank_histogram.buckets
    count = sum(bucket.sample_count for bucket in buckets if bucket.label not in values)
    # Only the most frequent values are counted one by one.
    least, total = "at least " if stats.unique > len(buckets) else "", stats.common_stats.tot_num_values
    if total > stats.common_stats.num_non_missing:
        return f"{least}{count:,.0f} of {format_count(total, 'value')} in {format_count(rows, 'row')}"
    return f"{least}{count:,.0f} of {format_count(rows, 'row')}"


def _count_above(feature: statistics_pb2.FeatureNameStatistics, bound: float, rows: int) -> str:
    counts = read_number_counts(feature)
    count = counts.total - counts.count_up_to([bound])[0]
    return _format_count(count, rows, is_exact=counts.is_exact_at([bound])) if has_counts(feature) else ""


def _count_below(feature: statistics_pb2.FeatureNameStatistics, bound: float, rows: int) -> str:
    counts, edge = read_number_counts(feature), [math.nextafter(bound, -math.inf)]
    return (
        _format_count(counts.count_up_to(edge)[0], rows, is_exact=counts.is_exact_at(edge))
        if has_counts(feature)
        else ""
    )


def _format_count(count: float, rows: int, *, is_exact: bool) -> str:
    return f"{'' if is_exact else 'about '}{max(round(count), 1):,} of {format_count(rows, 'row')}"
