"""Findings matter and are beyond chance; thresholds, exclusions and directions are those of the config and the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.config import Comparison
from components.table_statistics import TableStatistics
from pipeline.config.monitoring import Monitoring
from pipeline.traffic.judgement import FeatureTraffic, judge_outputs, judge_window
from schemas.features import ColumnType

RANDOM = np.random.default_rng(0)
TOWNS = RANDOM.choice(list("ABCD"), 20_000, p=[0.5, 0.3, 0.19, 0.01])
AGES = RANDOM.normal(40, 10, 20_000).astype(np.float32)


def count(columns: Mapping[str, Any]) -> statistics_pb2.DatasetFeatureStatistics:
    types: dict[str, ColumnType] = {name: "float" if name == "age" else "string" for name in columns}
    statistics = TableStatistics(types)
    statistics.add(pa.record_batch({name: pa.array(values) for name, values in columns.items()}))
    return statistics.build()


def judge(name: str, before: Any, now: Any, drift: Comparison | None = None) -> FeatureTraffic:
    (feature,) = judge_window(
        count({name: before}),
        count({name: now}),
        schema=schema_pb2.Schema(),
        drift=drift or Comparison(),
        monitoring=Monitoring(),
    )
    return feature


def list_kinds(feature: FeatureTraffic) -> list[str]:
    return [finding.kind for finding in feature.findings]


def test_one_new_value_of_many_rows_is_chance_and_many_are_not() -> None:
    before = [*TOWNS, "once"]
    few = judge("town", before, [*TOWNS[:999], "new"])
    assert (list_kinds(few), few.new_values) == ([], [("'new'", 1)])
    many = judge("town", before, [*TOWNS[:990], *["new"] * 7, *["newer"] * 3])
    assert list_kinds(many) == ["new values"]
    assert str(many.findings[0]) == "town: new values in 1.0% of the rows: 'new' (7), 'newer' (3)"


def test_new_values_of_a_column_of_unique_values_are_chance() -> None:
    names = [f"name {number}" for number in range(900)]
    assert list_kinds(judge("name", names, [f"other {number}" for number in range(300)])) == []
    # Of more values than are kept, none can be called new.
    many = [f"name {number}" for number in range(2000)]
    feature = judge("name", many, [f"other {number}" for number in range(300)])
    assert feature.new_values == []


def test_a_moved_share_is_a_finding_only_if_it_matters() -> None:
    assert list_kinds(judge("town", TOWNS, TOWNS[:3000])) == []
    moved = judge("town", TOWNS, [*TOWNS[:2400], *["B"] * 600])
    assert list_kinds(moved) == ["moved"]
    assert moved.findings[0].message.startswith("moved most: 'B' 30.")
    # Significant in so many rows, and too small to matter.
    slight = [*TOWNS, *TOWNS, *["B"] * 2000]
    assert list_kinds(judge("town", [*TOWNS] * 5, slight)) == []


def test_the_threshold_of_the_gate_alone_is_no_finding_in_few_rows() -> None:
    drift = Comparison.model_validate({"default": {"measure": "jensen_shannon", "threshold": 0.0001}})
    chance = judge("town", TOWNS, TOWNS[:300], drift)
    assert chance.shift is not None
    assert (chance.shift.exceeded, list_kinds(chance)) == (True, [])
    certain = judge("town", TOWNS, [*TOWNS[:240], *["B"] * 100], drift)
    assert list_kinds(certain) == ["distance"]
    assert certain.findings[0].message.endswith(", at most 0.0001")


def test_thresholds_are_those_of_schema_then_config_then_section() -> None:
    schema = schema_pb2.Schema()
    column = schema.feature.add(name="town", type=schema_pb2.BYTES)
    column.drift_comparator.infinity_norm.threshold = 0.2
    statistics = count({"town": TOWNS, "age": AGES})
    drift = Comparison.model_validate({"features": {"age": {"threshold": 0.3}}})
    arguments: dict[str, Any] = {"monitoring": Monitoring(), "drift": drift}
    features = judge_window(statistics, statistics, schema=schema, **arguments)
    shifts = {
        judged.feature: (judged.shift.measure, round(judged.shift.threshold, 6)) for judged in features if judged.shift
    }
    assert shifts == {"town": ("L-infinity", 0.2), "age": ("Jensen-Shannon", 0.3)}
    features = judge_window(statistics, statistics, schema=schema_pb2.Schema(), **{**arguments, "drift": Comparison()})
    assert {round(judged.shift.threshold, 6) for judged in features if judged.shift is not None} == {0.1}


def test_only_missing_values_of_an_excluded_column_are_judged() -> None:
    drift = Comparison(excluded=("age",))
    feature = judge("age", AGES, AGES[:1000] + 50, drift)
    assert (feature.shift, list_kinds(feature)) == (None, [])
    empty = judge("age", AGES, [None] * 100 + AGES[:900].tolist(), drift)
    assert [str(finding) for finding in empty.findings] == ["age: missing 0.0% -> 10.0%"]


def test_a_few_rows_in_another_unit_are_out_of_range() -> None:
    now = AGES[:1000].copy()
    now[:20] *= 1000
    feature = judge("age", AGES, now)
    assert list_kinds(feature) == ["out of range"]
    assert feature.findings[0].message.startswith("2.0% out of the earlier range ")
    # One extreme value of many rows is chance.
    now = AGES[:1000].copy()
    now[0] = 1e9
    assert list_kinds(judge("age", AGES, now)) == []


def test_a_column_without_any_value_is_missing_alone() -> None:
    feature = judge("age", AGES, pa.nulls(1000, pa.float32()))
    assert [str(finding) for finding in feature.findings] == ["age: missing 0.0% -> 100.0%"]


def test_outputs_are_judged_by_the_same_tests() -> None:
    before, now = count({"age": AGES}), count({"age": AGES[:1000] + 20})
    (feature,) = judge_outputs(before, now, Monitoring())
    assert list_kinds(feature) == ["out of range", "distance"]
    assert feature.findings[1].message.startswith("median up from 40")
