"""Features whose distribution differs between two runs, by the gate's measures: the largest distance first."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.column_names import name_column
from components.config import Comparison, Distance
from components.gate.comparison import Shift, compute_shifts
from components.histograms import compute_category_shares
from components.sensitive_statistics import is_sensitive
from schemas.sensitive import MASK

# Smaller distances are those of two samples of the same rows; of few rows, these differ by more.
_MIN_DISTANCES = {"L-infinity": 0.01, "Jensen-Shannon": 0.001}
_MAX_MISSING_NOISE = 0.005
# A category that vanished was renamed if another grew by its share, up to this part of it.
_RENAMED_TOLERANCE, _MIN_RENAMED_SHARE = 0.15, 0.005
_MAX_SHOWN_VALUES = 3

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatistics


@dataclass(frozen=True)
class MovedFeature:
    """A feature whose distribution moved.

    Attributes:
      split: split of the rows.
      feature: column.
      measure: measure of the gate.
      distance: distance, from 0 to 1.
      direction: values that moved, with the shares or the means before and now.
    """

    split: str
    feature: str
    measure: str
    distance: float
    direction: str

    def __str__(self) -> str:
        return f"{self.split} {self.feature}: {self.measure} {self.distance:.3f}; {self.direction}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return asdict(self)


def find_moved_features(old: Mapping[str, Statistics], new: Mapping[str, Statistics]) -> list[MovedFeature]:
    """Return the features that moved in any split, the largest distance first.

    Args:
      old: statistics of the first run by split.
      new: statistics of the second run by split.
    """
    moved = [feature for split in new if split in old for feature in _compare_split(split, old[split], new[split])]
    return sorted(moved, key=lambda feature: -feature.distance)


def _compare_split(split: str, old: Statistics, new: Statistics) -> Iterator[MovedFeature]:
    rows = max(min(old.num_examples, new.num_examples), 1)
    # Two standard deviations of a share; of the divergence, its mean for a few bins.
    noise = {"L-infinity": rows**-0.5, "Jensen-Shannon": 3 / rows}
    comparison = Comparison(default=Distance(measure="l_infinity", threshold=0.01))
    before, now = ({name_column(f): f for f in statistics.features} for statistics in (old, new))
    measured = {
        s.feature: s for s in compute_shifts(_wrap(old), _wrap(new), _make_schema(before, now), comparison, "drift")
    }
    for name in now:
        if name not in before:
            continue
        shift = measured.get(name)
        missing = _measure_missing_share(now[name]) - _measure_missing_share(before[name])
        is_moved = shift is not None and shift.value >= max(_MIN_DISTANCES[shift.measure], noise[shift.measure])
        if is_moved and shift is not None:
            yield MovedFeature(split, name, shift.measure, shift.value, _describe(shift, before[name], now[name]))
        elif abs(missing) > max(_MAX_MISSING_NOISE, noise["L-infinity"] / 2):
            yield MovedFeature(split, name, "missing", abs(missing), _describe_missing(before[name], now[name]))


def _describe(shift: Shift, before: statistics_pb2.FeatureNameStatistics, now: Any) -> str:
    parts = [] if is_sensitive(before) or is_sensitive(now) else _describe_direction(before, now)
    changes = (f"{value} {old:.1%} -> {new:.1%}" for value, old, new in shift.moved[:_MAX_SHOWN_VALUES])
    parts += [", ".join(f"{MASK} moved" if value.startswith(MASK) else value for value in changes)]
    if abs(_measure_missing_share(now) - _measure_missing_share(before)) > _MAX_MISSING_NOISE:
        parts.append(_describe_missing(before, now))
    return "; ".join(filter(None, parts))


def _describe_direction(before: statistics_pb2.FeatureNameStatistics, now: Any) -> list[str]:
    if before.HasField("num_stats"):
        old, new = before.num_stats.mean, now.num_stats.mean
        return [f"mean {'up' if new > old else 'down'} from {old:.4g} to {new:.4g}"] if old != new else []
    return list(_find_renamed(compute_category_shares(before, before), compute_category_shares(now, before)))


def _find_renamed(before: Mapping[str, float], now: Mapping[str, float]) -> Iterator[str]:
    """Yield the categories that vanished while another one grew by as much."""
    grown = {value: share - before.get(value, 0.0) for value, share in now.items()}
    for value, share in before.items():
        if share < _MIN_RENAMED_SHARE or now.get(value, 0.0) > 0:
            continue
        heir = max(grown, key=lambda other: grown[other], default=None)
        if heir is None or abs(grown[heir] - share) > _RENAMED_TOLERANCE * share:
            yield f"{value} vanished"
            continue
        kind = "a new value" if heir not in before else "which it had before"
        yield f"{value} seems to be renamed to {heir}, {kind}"


def _describe_missing(before: Any, now: Any) -> str:
    return f"missing {_measure_missing_share(before):.1%} -> {_measure_missing_share(now):.1%}"


def _measure_missing_share(feature: Any) -> float:
    common = (feature.num_stats if feature.HasField("num_stats") else feature.string_stats).common_stats
    return float(common.num_missing / max(common.num_non_missing + common.num_missing, 1))


def _make_schema(*both: Mapping[str, Any]) -> schema_pb2.Schema:
    schema = schema_pb2.Schema()
    for name, feature in both[1].items():
        if name in both[0] and both[0][name].HasField("num_stats") == feature.HasField("num_stats"):
            kind = schema_pb2.FLOAT if feature.HasField("num_stats") else schema_pb2.BYTES
            schema.feature.add(name=name, type=kind)
    return schema


def _wrap(statistics: Statistics) -> statistics_pb2.DatasetFeatureStatisticsList:
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics])
