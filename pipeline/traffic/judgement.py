"""Judges a window of live traffic beside the training data: which features moved, how far, and in which direction.

A finding needs two things: a difference that matters, and less than a chance of `Monitoring.false_alarms` that rows of
the training data's distribution differ as much. That chance is divided by the number of tests (C. E. Bonferroni, 1936),
so it holds for all features together. The distances of the gate and their thresholds are kept: one above its threshold
is a finding if chance does not explain it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.column_names import name_column
from components.config import Comparison
from components.gate.comparison import Shift, compute_shifts
from components.histograms import read_category_counts, read_number_counts
from components.sensitive_statistics import is_sensitive
from components.table_statistics import select_columns
from pipeline.config.monitoring import Monitoring
from pipeline.traffic.significance import (
    Difference,
    compare_categories,
    compare_numbers,
    compare_rate,
    compare_shares,
)
from schemas.sensitive import MASK

# Differences that matter, whatever the number of rows: of the share of missing values, of any other share, and the
# share of rows with a value that the training data has not.
_MIN_MISSING, _MIN_MOVED, _MIN_NEW = 0.01, 0.05, 0.001
_MAX_SHOWN_VALUES = 3
Kind = Literal["missing", "new values", "out of range", "moved", "distance", "rejected"]
MISSING: Kind = "missing"
NEW: Kind = "new values"
RANGE: Kind = "out of range"
MOVED: Kind = "moved"
DISTANCE: Kind = "distance"
REJECTED: Kind = "rejected"

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatistics
Feature: TypeAlias = statistics_pb2.FeatureNameStatistics


@dataclass(frozen=True)
class TrafficFinding:
    """A difference that matters and that chance does not explain.

    Attributes:
      feature: Column, or output of the model, or `rejected requests`.
      kind: Kind of the difference.
      message: Difference in words, with its direction.
      size: Difference in relation to the least that matters, or to the threshold.
      chance: Probability of the difference in rows of one distribution.
    """

    feature: str
    kind: Kind
    message: str
    size: float
    chance: float

    def __str__(self) -> str:
        return f"{self.feature}: {self.message}"


@dataclass(frozen=True)
class FeatureTraffic:
    """One feature in the training data and in the window.

    Attributes:
      feature: Column, or output of the model.
      shift: Distance by the gate's measure; None if the feature has none.
      missing: Shares of missing values before and now.
      new_values: Most frequent values that the training data lacks, with their counts; the values may be masked.
      findings: Findings, the largest first.
    """

    feature: str
    shift: Shift | None
    missing: tuple[float, float]
    new_values: Sequence[tuple[str, int]] = ()
    findings: Sequence[TrafficFinding] = field(default_factory=list)

    @property
    def size(self) -> float:
        """Largest difference in relation to what is allowed."""
        distance = self.shift.value / self.shift.threshold if self.shift is not None else 0.0
        return max([distance, *(finding.size for finding in self.findings)])


@dataclass(frozen=True)
class _Test:
    kind: Kind
    difference: Difference
    least: float
    message: str


def judge_window(
    before: Statistics,
    now: Statistics,
    *,
    schema: schema_pb2.Schema,
    drift: Comparison,
    monitoring: Monitoring,
) -> list[FeatureTraffic]:
    """Return the features of the window, those with findings first, then by distance.

    Args:
      before: Statistics of the training data.
      now: Statistics of the window.
      schema: Schema whose comparators go before those of `drift`.
      drift: Thresholds by feature, and the features whose distributions are not compared.
      monitoring: Section of the config.
    """
    training = {name_column(feature): feature for feature in before.features}
    window = {name_column(feature): feature for feature in now.features if name_column(feature) in training}
    compared = [
        name
        for name in window
        if (name not in drift.excluded or name in drift.features)
        and all(_get_common(side[name]).tot_num_values for side in (training, window))
    ]
    if drift.default is None:
        drift = drift.model_copy(update={"default": monitoring.distance})
    measured = {
        shift.feature: shift
        for shift in compute_shifts(
            _wrap_statistics(select_columns(before, compared)),
            _wrap_statistics(select_columns(now, compared)),
            _complete_schema(schema, [training[name] for name in compared]),
            drift,
            "drift",
        )
    }
    tests = {
        name: [
            *_test_missing(training[name], window[name]),
            *(_test_values(training[name], window[name]) if name in compared else ()),
        ]
        for name in window
    }
    chance = monitoring.false_alarms / max(sum(map(len, tests.values())), 1)
    features = [
        FeatureTraffic(
            name,
            measured.get(name),
            (_compute_missing_share(training[name]), _compute_missing_share(window[name])),
            _list_new_values(training[name], window[name]) if name in compared else (),
            _select_findings(name, tests[name], measured.get(name), chance),
        )
        for name in window
    ]
    return sorted(features, key=lambda feature: (not feature.findings, -feature.size, feature.feature))


def judge_outputs(before: Statistics, now: Statistics, monitoring: Monitoring) -> list[FeatureTraffic]:
    """Return the outputs of the model in the window beside earlier ones, those with findings first.

    Args:
      before: Statistics of earlier outputs.
      now: Statistics of the outputs in the window.
      monitoring: Section of the config.
    """
    return judge_window(before, now, schema=schema_pb2.Schema(), drift=Comparison(), monitoring=monitoring)


def judge_rejections(
    rejections: Mapping[str, int], answered: int, training_rows: int, monitoring: Monitoring
) -> list[TrafficFinding]:
    """Return the finding about rejected requests; the training data has no row that the model rejects.

    Args:
      rejections: Number of rejected requests by reason, the most frequent first.
      answered: Number of answered requests.
      training_rows: Number of rows of the training data.
      monitoring: Section of the config.
    """
    rejected = sum(rejections.values())
    requests = answered + rejected
    difference = compare_shares(0, training_rows, rejected, requests)
    least = monitoring.max_rejected
    if requests < monitoring.min_rows or difference.chance > monitoring.false_alarms or difference.size < least:
        return []
    reason, count = next(iter(rejections.items()))
    text = f"{rejected:,} of {requests:,} ({difference.size:.1%}), {count:,} of them: {reason}"
    return [TrafficFinding("rejected requests", REJECTED, text, difference.size / least, difference.chance)]


def _complete_schema(schema: schema_pb2.Schema, features: Sequence[Feature]) -> schema_pb2.Schema:
    """Return a schema that has the features, too: TFDV measures no others."""
    complete = schema_pb2.Schema()
    complete.CopyFrom(schema)
    names = {feature.name for feature in schema.feature}
    for feature in features:
        if name_column(feature) not in names:
            is_string = feature.HasField("string_stats")
            complete.feature.add(name=name_column(feature), type=schema_pb2.BYTES if is_string else schema_pb2.FLOAT)
    return complete


def _select_findings(name: str, tests: Sequence[_Test], shift: Shift | None, chance: float) -> list[TrafficFinding]:
    significant = [test for test in tests if test.difference.chance <= chance]
    findings = [
        TrafficFinding(name, test.kind, test.message, test.difference.size / test.least, test.difference.chance)
        for test in significant
        if test.difference.size >= test.least
    ]
    # The same test decides whether chance explains the gate's distance.
    moved = next((test for test in significant if test.kind == MOVED), None)
    if shift is not None and shift.exceeded and moved is not None:
        findings = [finding for finding in findings if finding.kind != MOVED]
        size = shift.value / shift.threshold
        text = f"{moved.message}; {shift.measure} distance {shift.value:.3f}, at most {shift.threshold:g}"
        findings.append(TrafficFinding(name, DISTANCE, text, size, moved.difference.chance))
    return sorted(findings, key=lambda finding: -finding.size)


def _test_missing(before: Feature, now: Feature) -> Iterator[_Test]:
    counts = [(float(_get_common(f).num_missing), float(_count_rows(f))) for f in (before, now)]
    difference = compare_shares(*counts[0], *counts[1])
    old, new = (_compute_missing_share(feature) for feature in (before, now))
    yield _Test(MISSING, difference, _MIN_MISSING, f"missing {old:.1%} -> {new:.1%}")


def _test_values(before: Feature, now: Feature) -> Iterator[_Test]:
    """Yield the tests of the values that are present."""
    is_masked = is_sensitive(before) or is_sensitive(now)
    if before.HasField("string_stats"):
        yield from _test_categories(before, now, is_masked=is_masked)
    elif _get_common(now).num_non_missing and _get_common(before).num_non_missing:
        yield from _test_numbers(before, now, is_masked=is_masked)


def _test_numbers(before: Feature, now: Feature, *, is_masked: bool) -> Iterator[_Test]:
    old, new = read_number_counts(before), read_number_counts(now)
    if not old.total or not new.total:
        return
    low, high = float(old.low[0]), float(old.high[-1])
    at_low = float(new.count[new.high < low].sum())
    at_high = float(new.count[new.low > high].sum())
    outside = compare_rate(at_low + at_high, new.total, min(1.0, 2 / (old.total + 1)))
    bounds = f" {low:g} to {high:g}" if not is_masked else ""
    yield _Test(RANGE, outside, _MIN_NEW, f"{outside.size:.1%} out of the earlier range{bounds}")
    moved = compare_numbers(old, new)
    yield _Test(MOVED, moved, _MIN_MOVED, _describe_numbers(before, now, moved, is_masked=is_masked))


def _describe_numbers(before: Feature, now: Feature, moved: Difference, *, is_masked: bool) -> str:
    text = f"{moved.size:.0%} of the values moved"
    if is_masked:
        return text
    medians = [read_number_counts(feature).find_quantile(0.5) for feature in (before, now)]
    means = [feature.num_stats.mean for feature in (before, now)]
    name, (old, new) = ("median", medians) if medians[0] != medians[1] else ("mean", means)
    direction = "up" if new > old else "down"
    return f"{name} {direction} from {old:.4g} to {new:.4g}; {text}"


def _test_categories(before: Feature, now: Feature, *, is_masked: bool) -> Iterator[_Test]:
    old, new = read_category_counts(before), read_category_counts(now)
    values = float(_get_common(now).tot_num_values)
    if not values or not _get_common(before).tot_num_values:
        return
    # Values of a list are not independent: their number of rows is the size of the sample.
    share = min(1.0, _get_common(now).num_non_missing / values)
    if before.string_stats.unique <= len(old):
        unseen = sum(count for value, count in new.items() if value not in old)
        once = sum(1 for count in old.values() if count == 1)
        rate = min(1.0, (once + 1) / (_get_common(before).tot_num_values + 1))
        difference = compare_rate(round(unseen * share), round(values * share), rate)
        names = ", ".join(f"{value} ({count:,})" for value, count in _list_new_values(before, now))
        yield _Test(NEW, difference, _MIN_NEW, f"new values in {difference.size:.1%} of the rows: {names}")
    names_of_both = [*dict.fromkeys((*old, *new))]
    totals = [max(float(_get_common(f).tot_num_values), sum(c.values())) for f, c in ((before, old), (now, new))]
    # What is not among the most frequent values is one more.
    arrays = [
        np.array([*(counts.get(name, 0.0) for name in names_of_both), total - sum(counts.values())])
        for counts, total in ((old, totals[0]), (new, totals[1]))
    ]
    arrays[1] *= share
    moved = compare_categories(*arrays)
    changes = sorted(
        ((name, old.get(name, 0.0) / totals[0], new.get(name, 0.0) / totals[1]) for name in names_of_both),
        key=lambda change: -abs(change[2] - change[1]),
    )
    text = "; ".join(
        f"{MASK if is_masked else repr(name)} {first:.1%} -> {second:.1%}"
        for name, first, second in changes[:_MAX_SHOWN_VALUES]
    )
    yield _Test(MOVED, moved, _MIN_MOVED, f"moved most: {text}")


def _list_new_values(before: Feature, now: Feature) -> list[tuple[str, int]]:
    """Return the most frequent values that the training data lacks; none if not all of its values are kept."""
    if not before.HasField("string_stats") or before.string_stats.unique > len(read_category_counts(before)):
        return []
    old = read_category_counts(before)
    new = [(value, int(count)) for value, count in read_category_counts(now).items() if value not in old]
    is_masked = is_sensitive(before) or is_sensitive(now)
    ranked = sorted(new, key=lambda item: (-item[1], item[0]))[:_MAX_SHOWN_VALUES]
    return [(MASK if is_masked else repr(value), count) for value, count in ranked]


def _compute_missing_share(feature: Feature) -> float:
    return float(_get_common(feature).num_missing / max(_count_rows(feature), 1))


def _count_rows(feature: Feature) -> int:
    return int(_get_common(feature).num_missing + _get_common(feature).num_non_missing)


def _get_common(feature: Feature) -> Any:
    return (feature.num_stats if feature.HasField("num_stats") else feature.string_stats).common_stats


def _wrap_statistics(statistics: Statistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics])


def list_findings(features: Sequence[FeatureTraffic]) -> list[TrafficFinding]:
    """Return the findings of features, in their order."""
    return [finding for feature in features for finding in feature.findings]


def to_document(feature: FeatureTraffic) -> Mapping[str, Any]:
    """Return a feature as a JSON document."""
    shift = feature.shift
    return {
        "feature": feature.feature,
        "measure": shift.measure if shift is not None else None,
        "distance": shift.value if shift is not None else None,
        "threshold": shift.threshold if shift is not None else None,
        "missing_before": feature.missing[0],
        "missing_now": feature.missing[1],
        "new_values": [{"value": value, "count": count} for value, count in feature.new_values],
        "findings": [
            {"kind": finding.kind, "message": finding.message, "chance": finding.chance} for finding in feature.findings
        ],
    }
