"""Distributions of two runs: distance, order, direction, renamed categories."""

from tensorflow_metadata.proto.v0 import statistics_pb2

from oncall.distributions import find_moved_features


def _statistics(shares: dict[str, int], missing: int = 0) -> statistics_pb2.DatasetFeatureStatistics:
    rows = sum(shares.values()) + missing
    data = statistics_pb2.DatasetFeatureStatistics(name="train", num_examples=rows)
    for name, counts in (("kind", shares), ("constant", {"x": rows})):
        feature = data.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
        feature.path.step.append(name)
        stats = feature.string_stats
        stats.common_stats.num_non_missing = stats.common_stats.tot_num_values = sum(counts.values())
        stats.common_stats.num_missing = missing if name == "kind" else 0
        stats.unique = len(counts)
        for label, count in counts.items():
            stats.rank_histogram.buckets.add(label=label, sample_count=count)
    return data


def _find(old: dict[str, int], new: dict[str, int], missing: int = 0) -> list[str]:
    moved = find_moved_features({"train": _statistics(old)}, {"train": _statistics(new, missing)})
    return [str(feature) for feature in moved]


def test_a_category_that_was_renamed_is_recognised() -> None:
    (line,) = _find({"a": 46, "b": 54}, {"c": 46, "b": 54})
    assert line.startswith("train kind: L-infinity 0.460; 'a' seems to be renamed to 'c', a new value; ")
    assert "'a' 46.0% -> 0.0%" in line
    (line,) = _find({"a": 30, "b": 54, "c": 16}, {"b": 54, "c": 46})
    assert "'a' seems to be renamed to 'c', which it had before" in line


def test_a_category_that_vanished_is_not_renamed_if_no_other_grew_by_its_share() -> None:
    (line,) = _find({"a": 40, "b": 30, "c": 30}, {"b": 50, "c": 50})
    assert "'a' vanished; " in line


def test_equal_shares_are_no_change_and_missing_values_are() -> None:
    assert _find({"a": 40, "b": 60}, {"a": 400, "b": 600}) == []
    assert _find({"a": 40, "b": 60}, {"a": 40, "b": 60}, missing=10) == [
        "train kind: missing 0.091; missing 0.0% -> 9.1%"
    ]
