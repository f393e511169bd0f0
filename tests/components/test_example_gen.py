"""How rows are shared out between splits, by the executor itself where it matters."""

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.example_gen import REJECTED_PROPERTY, ROWS_PROPERTY, TableExecutor, _settings, _split_of, example_gen
from schemas.data import Data
from schemas.errors import DataError
from schemas.features import FeatureSet

SHARES = ("eval", "test", "calibration", "holdout", "later", "audit")
FEATURES = FeatureSet.model_validate(
    {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
)


def converted(base: Path, splits: dict[str, Any], **settings: Any) -> tuple[Any, Path]:
    """Runs the executor; returns its artifact and where that is."""
    data = Data.model_validate({"base": str(base), "splits": splits, **settings})
    component = example_gen(data=data, features=FEATURES, code_fingerprint="")
    examples = standard_artifacts.Examples()
    examples.uri = str(base / "out")
    TableExecutor().Do({}, {"examples": [examples]}, component.exec_properties)
    return examples, base / "out"


def values(out: Path, split: str) -> list[float]:
    import tensorflow as tf

    files = sorted(map(str, (out / f"Split-{split}").glob("*.gz")))
    records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
    return [tf.train.Example.FromString(record).features.feature["x"].float_list.value[0] for record in records]


def write(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(["x,y,group,when", *rows]) + "\n")


def test_shares_reach_the_executor_in_the_order_of_the_config(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ["1,0,a,2026-01"])
    splits = {"train": {"files": "*.csv"}, **{name: {"share_of": "train", "share": 0.1} for name in SHARES}}
    data = Data.model_validate({"format": "csv", "base": str(tmp_path), "splits": splits})
    component = example_gen(data=data, features=FEATURES, code_fingerprint="")
    assert tuple(_settings(component.exec_properties)["splits"]) == SHARES


def test_every_share_gets_its_part_and_a_row_always_falls_on_the_same_side() -> None:
    shares = [("eval", 0.1), ("test", 0.3)]
    rows = [str(number).encode() for number in range(20_000)]
    names = [_split_of(row, "train", shares) for row in rows]
    assert names == [_split_of(row, "train", shares) for row in rows]
    for name, share in (*shares, ("train", 0.6)):
        assert abs(names.count(name) / len(rows) - share) < 0.01


def test_parts_by_time_and_by_values_come_before_shares(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [f"{i},{i % 2},g{i % 7},2026-{1 + i % 12:02d}" for i in range(1200)])
    splits = {
        "train": {"files": "a.csv"},
        "test": {"part_of": "train", "column": "when", "at_least": "2026-11"},
        "low": {"part_of": "train", "column": "x", "below": 100},
        "third": {"part_of": "train", "column": "group", "values": ["g3"]},
        "eval": {"share_of": "train", "share": 0.2},
    }
    artifact, out = converted(tmp_path, splits, ignored_columns=["group", "when"])
    counted = json.loads(artifact.get_string_custom_property(ROWS_PROPERTY))
    assert sum(counted.values()) == 1200
    assert all(int(x) % 12 >= 10 for x in values(out, "test")) and counted["test"] == 200
    assert all(x < 100 and int(x) % 12 < 10 for x in values(out, "low"))
    assert all(int(x) % 7 == 3 and x >= 100 for x in values(out, "third"))
    assert abs(counted["eval"] / (counted["eval"] + counted["train"]) - 0.2) < 0.05


def test_a_group_never_straddles_splits(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [f"{i},{i % 2},g{i // 10},2026-01" for i in range(1000)])
    splits = {"train": {"files": "a.csv"}, "eval": {"share_of": "train", "share": 0.3}}
    _, out = converted(tmp_path, splits, group_column="group", ignored_columns=["when"])
    groups = [{int(x) // 10 for x in values(out, split)} for split in ("train", "eval")]
    assert groups[0] | groups[1] == set(range(100)) and not groups[0] & groups[1]
    assert not list(out.glob("groups-*"))
    write(tmp_path / "b.csv", ["1,0,g5,2026-01", "2,0,new,2026-01"])
    with pytest.raises(
        DataError, match="1 of .* values of 'group' in split '(train|test)' are in '(eval|test|train)' too"
    ):
        converted(tmp_path, {**splits, "test": {"files": "b.csv"}}, group_column="group", ignored_columns=["when"])


def test_bad_rows_are_left_out_counted_and_written_aside(tmp_path: Path) -> None:
    write(
        tmp_path / "a.csv", [f"{i},{i % 2},g,2026-01" for i in range(100)] + ["old,1,g,2026-01", "7,1", "7,,g,2026-01"]
    )
    splits = {"train": {"files": "a.csv"}, "eval": {"share_of": "train", "share": 0.3}}
    settings: dict[str, Any] = {"ignored_columns": ["group", "when"], "max_bad_rows": 3}
    artifact, out = converted(tmp_path, splits, **settings)
    assert artifact.get_int_custom_property(REJECTED_PROPERTY) == 3
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert sorted(reject["place"].removeprefix(str(tmp_path / "a.csv")) for reject in rejects) == [
        ":102",
        ":103",
        ":104",
    ]
    assert {reject["column"] for reject in rejects} == {"x", "y", None}
    with pytest.raises(DataError, match="more bad rows than data.max_bad_rows: 2; .*a.csv:10"):
        converted(tmp_path, splits, **{**settings, "max_bad_rows": 2})


def test_a_window_of_spans_is_one_artifact(tmp_path: Path) -> None:
    for span in (1, 2, 3):
        write(tmp_path / f"day-{span}.csv", [f"{span * 100 + i},{i % 2},g,2026-01" for i in range(50)])
    splits = {"train": {"files": "day-{SPAN}.csv"}, "eval": {"share_of": "train", "share": 0.3}}
    artifact, out = converted(tmp_path, splits, window=2, ignored_columns=["group", "when"])
    assert sorted(values(out, "train") + values(out, "eval")) == [*range(200, 250), *range(300, 350)]
    assert artifact.span == 3


def test_the_same_rows_fall_into_the_same_splits_whatever_files_they_are_in(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},g{i},2026-01" for i in range(300)]
    for folder, parts in (("one", [rows]), ("two", [rows[200:], rows[:200]])):
        (tmp_path / folder).mkdir()
        for number, part in enumerate(parts):
            write(tmp_path / folder / f"{number}.csv", part)
    splits = {"train": {"files": "*.csv"}, "eval": {"share_of": "train", "share": 0.3}}
    found = [
        sorted(values(converted(tmp_path / folder, splits, ignored_columns=["group", "when"])[1], "eval"))
        for folder in ("one", "two")
    ]
    assert found[0] == found[1]
