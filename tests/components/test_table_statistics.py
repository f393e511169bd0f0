"""Statistics of Arrow tables have the numbers of StatisticsGen, by its own code, and differ by nothing in the gate."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from cli.errors import DataError
from components.column_names import name_column
from components.config import Comparison
from components.gate.comparison import compute_shifts
from components.histograms import read_category_counts, read_number_counts, read_quantile
from components.sensitive_statistics import is_sensitive
from components.table_statistics import TableStatistics, list_columns, select_columns
from schemas.features import ColumnType
from tests.statistics import statistics_of

TYPES: dict[str, ColumnType] = {"age": "float", "rooms": "int", "town": "string"}


def build_columns(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    return {
        "age": [None if random.random() < 0.1 else np.float32(value) for value in random.normal(40, 9, rows)],
        "rooms": [None if random.random() < 0.05 else int(value) for value in random.integers(1, 9, rows)],
        "town": [None if random.random() < 0.2 else str(value) for value in random.choice(list("ABCDé"), rows)],
    }


def count(columns: dict[str, list[Any]], parts: int = 1, **options: Any) -> statistics_pb2.DatasetFeatureStatistics:
    types = {"age": pa.float32(), "rooms": pa.int64(), "town": pa.string()}
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    statistics = TableStatistics({name: TYPES[name] for name in columns}, **options)
    for batch in table.to_batches(max_chunksize=-(-table.num_rows // parts)):
        statistics.add(batch)
    return statistics.build()


def by_name(statistics: statistics_pb2.DatasetFeatureStatistics) -> dict[str, statistics_pb2.FeatureNameStatistics]:
    return {name_column(feature): feature for feature in statistics.features}


@pytest.mark.parametrize("parts", [1, 7])
def test_the_numbers_are_those_of_statistics_gen(parts: int) -> None:
    columns = build_columns(2000)
    (expected,) = statistics_of(columns).datasets
    actual = count(columns, parts)
    assert actual.num_examples == expected.num_examples == 2000
    ours, theirs = by_name(actual), by_name(expected)
    assert {*ours} == {*theirs} == {*TYPES}
    for name, feature in theirs.items():
        assert ours[name].type == feature.type
        stats = ("string_stats" if name == "town" else "num_stats",)
        our, their = (getattr(side[name], stats[0]) for side in (ours, theirs))
        for key in ("num_missing", "num_non_missing", "tot_num_values"):
            assert getattr(our.common_stats, key) == getattr(their.common_stats, key), (name, key)
        if name == "town":
            assert read_category_counts(ours[name]) == read_category_counts(feature)
            assert our.unique == their.unique
            assert our.avg_length == pytest.approx(their.avg_length)
            continue
        assert (our.min, our.max, our.num_zeros) == (their.min, their.max, their.num_zeros)
        assert (our.mean, our.std_dev) == pytest.approx((their.mean, their.std_dev))
        for part in ("low", "high", "count"):
            np.testing.assert_array_equal(
                getattr(read_number_counts(ours[name]), part), getattr(read_number_counts(feature), part)
            )
        assert [read_quantile(ours[name], share) for share in (0.1, 0.5, 0.9)] == [
            read_quantile(feature, share) for share in (0.1, 0.5, 0.9)
        ]


def test_the_gate_finds_no_distance_to_statistics_gen() -> None:
    columns = build_columns(2000)
    schema = text_format.Parse(
        "feature { name: 'age' type: FLOAT } feature { name: 'rooms' type: INT } feature { name: 'town' type: BYTES }",
        schema_pb2.Schema(),
    )
    comparison = Comparison.model_validate({"default": {"measure": "jensen_shannon", "threshold": 0.1}})
    ours = statistics_pb2.DatasetFeatureStatisticsList(datasets=[count(columns)])
    measured = compute_shifts(statistics_of(columns), ours, schema, comparison, "drift")
    assert {shift.feature: shift.value for shift in measured} == pytest.approx(dict.fromkeys(TYPES, 0.0), abs=1e-9)
    # And to other rows the same distance as StatisticsGen's.
    other = build_columns(500, seed=1)
    expected = compute_shifts(statistics_of(columns), statistics_of(other), schema, comparison, "drift")
    actual = compute_shifts(
        statistics_of(columns),
        statistics_pb2.DatasetFeatureStatisticsList(datasets=[count(other)]),
        schema,
        comparison,
        "drift",
    )
    assert {s.feature: s.value for s in actual} == pytest.approx({s.feature: s.value for s in expected}, abs=1e-6)


def test_values_of_a_list_count_one_by_one() -> None:
    rows = ["Action| Comedy ", None, "", "Drama||Action"]
    statistics = TableStatistics({"town": "string"}, delimiters={"town": "|"})
    statistics.add(pa.record_batch({"town": rows}))
    statistics.add(pa.record_batch({"town": pa.array([["Drama"], []], pa.list_(pa.string()))}))
    (feature,) = statistics.build().features
    assert read_category_counts(feature) == {"Action": 2, "Drama": 2, "Comedy": 1}
    common = feature.string_stats.common_stats
    assert (common.num_non_missing, common.num_missing, common.tot_num_values) == (3, 3, 5)


def test_only_missing_values_of_some_columns_are_counted() -> None:
    statistics = count(build_columns(100), uncounted=["town", "age"], sensitive=["rooms"])
    features = by_name(statistics)
    assert features["town"].string_stats.common_stats.num_missing > 5
    assert read_category_counts(features["town"]) == {}
    assert not read_number_counts(features["age"]).total
    assert [name for name, feature in features.items() if is_sensitive(feature)] == ["rooms"]
    # A column that is not counted may have any type, such as a date of a timestamp.
    dates = TableStatistics({"age": "int"}, uncounted=["age"])
    dates.add(pa.record_batch({"age": ["2026-11-30", None]}))
    assert dates.build().features[0].num_stats.common_stats.num_missing == 1


def test_nan_is_missing_and_infinity_is_not() -> None:
    statistics = TableStatistics({"age": "float"})
    statistics.add(pa.record_batch({"age": [float("nan"), 1.0, float("inf"), None]}))
    (feature,) = statistics.build().features
    assert (feature.num_stats.common_stats.num_missing, feature.num_stats.max) == (2, 1.0)
    assert read_number_counts(feature).total == 2


def test_another_type_is_named() -> None:
    with pytest.raises(DataError, match=r"column 'rooms': expected the type int of the training data, found string$"):
        count_text = TableStatistics({"rooms": "int"})
        count_text.add(pa.record_batch({"rooms": ["many"]}))


def test_columns_are_listed_and_selected() -> None:
    statistics = count(build_columns(10))
    assert list_columns(statistics) == TYPES
    assert [*by_name(select_columns(statistics, ["town", "none"]))] == ["town"]


def test_a_column_of_many_strings_keeps_the_most_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.table_statistics.COUNTED_VALUES", 10)
    statistics = TableStatistics({"town": "string"})
    for start in range(0, 100, 10):
        statistics.add(pa.record_batch({"town": [*["often"] * 5, *(f"town {start + n}" for n in range(10))]}))
    (feature,) = statistics.build().features
    assert read_category_counts(feature)["often"] == 50
    assert feature.string_stats.unique == 101
    assert feature.string_stats.common_stats.tot_num_values == 150
