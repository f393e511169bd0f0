"""How rows are shared out between splits, by the executor itself where it matters."""

import datetime
import gzip
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from tfx.components.example_gen.csv_example_gen.component import CsvExampleGen
from tfx.components.example_gen.csv_example_gen.executor import Executor as CsvExecutor
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

from cli.errors import DataError
from components.example_gen import component as example_gen_component
from components.example_gen.blocks import BATCHES_AHEAD, Division, convert
from components.example_gen.component import (
    CONTENT_PROPERTY,
    DATA_TIME_PROPERTY,
    FINDINGS_PROPERTY,
    LABELS_PROPERTY,
    REJECTED_PROPERTY,
    ROWS_PROPERTY,
    TableExecutor,
    _read_settings,
    build_example_gen,
)
from components.example_gen.shares import Shares, assign_shares
from pipeline.config.beam_args import build_beam_args
from pipeline.config.pipeline_config import load
from schemas.data import Data
from schemas.features import FeatureSet
from schemas.tables import pieces, readers
from schemas.tables.precision import TableCounts
from schemas.tables.row_hash import compute_points, hash_rows
from schemas.tables.typed_columns import Batch, Table
from tests.conftest import CENSUS_CONFIG, ROOT

pytestmark = pytest.mark.integration

SPLITS: dict[str, Any] = {"train": {"files": "*.csv"}, "eval": {"source": "train", "fraction": 0.2}}
SHARES = ("eval", "test", "calibration", "holdout", "later", "audit")
FEATURES = FeatureSet.model_validate(
    {"features": {"x": {"kind": "numeric"}}, "label": {"column": "y", "positive": "1", "negative": "0"}}
)


def run_example_gen(
    base: Path, splits: dict[str, Any], *, workers: int = 1, features: FeatureSet = FEATURES, **settings: Any
) -> tuple[Any, Path]:
    """Run the executor; return its artifact and where that is."""
    data = Data.model_validate({"base": str(base), "splits": splits, **settings})
    component = build_example_gen(data=data, features=features, code_fingerprint="")
    examples = standard_artifacts.Examples()
    examples.uri = str(base / "out")
    config = load(CENSUS_CONFIG, ["beam.running_mode=multi_threading", f"beam.workers={workers}"])
    context = TableExecutor.Context(beam_pipeline_args=build_beam_args(config))
    TableExecutor(context).Do({}, {"examples": [examples]}, component.exec_properties)
    return examples, base / "out"


def values(out: Path, split: str) -> list[float]:
    files = sorted(map(str, (out / f"Split-{split}").glob("*.gz")))
    records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
    return [tf.train.Example.FromString(record).features.feature["x"].float_list.value[0] for record in records]


def write(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(["x,y,group,when", *rows]) + "\n")


def test_shares_reach_the_executor_in_the_order_of_the_config(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ["1,0,a,2026-01"])
    splits = {"train": {"files": "*.csv"}, **{name: {"source": "train", "fraction": 0.1} for name in SHARES}}
    data = Data.model_validate({"format": "csv", "base": str(tmp_path), "splits": splits})
    component = build_example_gen(data=data, features=FEATURES, code_fingerprint="")
    assert tuple(_read_settings(component.exec_properties)["splits"]) == SHARES


def assign(rows: int, shares: dict[str, float]) -> dict[str, list[bool]]:
    hashes = hash_rows(pa.RecordBatch.from_pydict({"x": pa.array(range(rows), pa.int64())}), ["x"])
    bounds = {name: int(bound * 2**64) for name, bound in zip(shares, np.cumsum([*shares.values()]), strict=True)}
    is_in_split = assign_shares(compute_points(hashes), np.ones(rows, dtype=bool), "train", bounds)
    return {name: mine.tolist() for name, mine in is_in_split.items()}


def test_every_share_gets_its_part_and_every_row_one_split() -> None:
    shares = assign(20_000, {"eval": 0.1, "test": 0.3})
    for name, share in {"eval": 0.1, "test": 0.3, "train": 0.6}.items():
        assert abs(sum(shares[name]) / 20_000 - share) < 0.01
    assert np.sum([*shares.values()], axis=0).tolist() == [1] * 20_000


def test_a_row_falls_where_it_always_fell() -> None:
    shares = assign(12, {"eval": 0.4, "test": 0.3})
    assert {name: np.flatnonzero(rows).tolist() for name, rows in shares.items()} == {
        "eval": [1, 2, 4, 6, 7, 11],
        "test": [0, 8, 9, 10],
        "train": [3, 5],
    }


def test_parts_by_time_and_by_values_come_before_shares(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [f"{i},{i % 2},g{i % 7},2026-{1 + i % 12:02d}" for i in range(1200)])
    splits = {
        "train": {"files": "a.csv"},
        "test": {"source": "train", "column": "when", "at_least": "2026-11"},
        "low": {"source": "train", "column": "x", "below": 100},
        "third": {"source": "train", "column": "group", "values": ["g3"]},
        "eval": {"source": "train", "fraction": 0.2},
    }
    artifact, out = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"])
    rows_by_split = json.loads(artifact.get_string_custom_property(ROWS_PROPERTY))
    assert sum(rows_by_split.values()) == 1200
    assert all(int(x) % 12 >= 10 for x in values(out, "test")) and rows_by_split["test"] == 200
    assert all(x < 100 and int(x) % 12 < 10 for x in values(out, "low"))
    assert all(int(x) % 7 == 3 and x >= 100 for x in values(out, "third"))
    assert abs(rows_by_split["eval"] / (rows_by_split["eval"] + rows_by_split["train"]) - 0.2) < 0.05


def test_a_group_never_straddles_splits(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [f"{i},{i % 2},g{i // 10},2026-01" for i in range(1000)])
    splits = {"train": {"files": "a.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    _, out = run_example_gen(tmp_path, splits, group_column="group", ignored_columns=["when"])
    groups = [{int(x) // 10 for x in values(out, split)} for split in ("train", "eval")]
    assert groups[0] | groups[1] == set(range(100)) and not groups[0] & groups[1]
    assert not list(out.glob("groups-*"))
    write(tmp_path / "b.csv", ["1,0,g5,2026-01", "2,0,new,2026-01"])
    with pytest.raises(
        DataError, match="1 of .* values of 'group' in split '(train|test)' are in '(eval|test|train)' too"
    ):
        run_example_gen(
            tmp_path, {**splits, "test": {"files": "b.csv"}}, group_column="group", ignored_columns=["when"]
        )


def test_bad_rows_are_left_out_counted_and_written_aside(tmp_path: Path) -> None:
    write(
        tmp_path / "a.csv", [f"{i},{i % 2},g,2026-01" for i in range(100)] + ["old,1,g,2026-01", "7,1", "7,,g,2026-01"]
    )
    splits = {"train": {"files": "a.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    settings: dict[str, Any] = {"ignored_columns": ["group", "when"], "max_bad_rows": 3}
    artifact, out = run_example_gen(tmp_path, splits, **settings)
    assert artifact.get_int_custom_property(REJECTED_PROPERTY) == 3
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert sorted(reject["place"].removeprefix(str(tmp_path / "a.csv")) for reject in rejects) == [
        ":102",
        ":103",
        ":104",
    ]
    assert {reject["column"] for reject in rejects} == {"x", "y", None}
    with pytest.raises(DataError, match="more bad rows than data.max_bad_rows: 2; .*a.csv:10"):
        run_example_gen(tmp_path, splits, **{**settings, "max_bad_rows": 2})


def test_what_is_found_in_the_values_is_written_on_the_artifact(tmp_path: Path) -> None:
    """The gate reads it there; rows are named by their places in the files."""
    write(tmp_path / "a.csv", [f"{i}.5,{i % 2},g,2026-01" for i in range(100)])
    write(tmp_path / "b.csv", [*(f"{i}.5,{i % 2},g,2026-01" for i in range(100)), "-1e30,1,g,2026-01"])
    splits = {"train": {"files": "*.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    artifact, _ = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"])
    (finding,) = json.loads(artifact.get_string_custom_property(FINDINGS_PROPERTY))
    assert (finding["where"], finding["feature"], finding["kind"]) == ("data", "x", "EXTREME_VALUES")
    assert finding["text"].startswith(
        "1 of 201 values are many decades from the others, which are below 128 in magnitude: "
    )
    assert f"-1e30 ({tmp_path}/b.csv:102)" in finding["text"]


def test_each_splits_content_has_a_name_that_only_its_records_change(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},g,2026-01" for i in range(100)]
    splits = {"train": {"files": "train.csv"}, "eval": {"files": "eval.csv"}}

    def content() -> dict[str, str]:
        artifact, _ = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"])
        contents: dict[str, str] = json.loads(artifact.get_string_custom_property(CONTENT_PROPERTY))
        return contents

    write(tmp_path / "train.csv", rows)
    write(tmp_path / "eval.csv", rows[50:])
    first = content()
    assert first.keys() == splits.keys() and first["train"] != first["eval"]
    write(tmp_path / "train.csv", rows)
    os.utime(tmp_path / "train.csv", (1, 1))
    assert content() == first
    # As many rows and bytes.
    write(tmp_path / "train.csv", [*rows[:7], "9,1,g,2026-01", *rows[8:]])
    assert {split for split, name in content().items() if name != first[split]} == {"train"}


def test_labels_are_counted_by_split(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [f"{i},{int(i < 30)},g,2026-01" for i in range(100)])
    write(tmp_path / "eval.csv", [f"{i},0,g,2026-01" for i in range(7)])
    splits = {"train": {"files": "train.csv"}, "eval": {"files": "eval.csv"}}
    artifact, _ = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"])
    labels = json.loads(artifact.get_string_custom_property(LABELS_PROPERTY))
    assert labels == {"train": {"0": 70, "1": 30}, "eval": {"0": 7, "1": 0}}
    numbers = FeatureSet.model_validate(
        {"features": {"y": {"kind": "numeric"}}, "label": {"column": "x", "kind": "regression"}}
    )
    artifact, _ = run_example_gen(tmp_path, splits, features=numbers, ignored_columns=["group", "when"])
    labels = json.loads(artifact.get_string_custom_property(LABELS_PROPERTY))
    assert labels["eval"] == {"rows": 7, "mean": 3.0, "std": 2.0}
    assert labels["train"] == {"rows": 100, "mean": 49.5, "std": pytest.approx(np.arange(100).std())}


def test_a_window_of_spans_is_one_artifact(tmp_path: Path) -> None:
    for span in (1, 2, 3):
        write(tmp_path / f"day-{span}.csv", [f"{span * 100 + i},{i % 2},g,2026-01" for i in range(50)])
    splits = {"train": {"files": "day-{SPAN}.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    artifact, out = run_example_gen(tmp_path, splits, window=2, ignored_columns=["group", "when"])
    assert sorted(values(out, "train") + values(out, "eval")) == [*range(200, 250), *range(300, 350)]
    assert artifact.span == 3
    data_time = json.loads(artifact.get_string_custom_property(DATA_TIME_PROPERTY))
    newest = max((tmp_path / f"day-{span}.csv").stat().st_mtime for span in (2, 3))
    assert data_time == {"seconds": pytest.approx(newest), "source": "the time of the files of span 3", "span": 3}


def test_the_time_of_the_data_is_the_date_of_the_newest_span_of_train(tmp_path: Path) -> None:
    for name in ("d-2026-01-30", "d-2026-01-31", "test-2026-02-03"):
        write(tmp_path / f"{name}.csv", [f"{i},{i % 2},g,2026-01" for i in range(50)])
    splits = {
        "train": {"files": "d-{YYYY}-{MM}-{DD}.csv"},
        "eval": {"source": "train", "fraction": 0.3},
        "test": {"files": "test-{YYYY}-{MM}-{DD}.csv"},
    }
    artifact, _ = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"])
    data_time = json.loads(artifact.get_string_custom_property(DATA_TIME_PROPERTY))
    seconds = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC).timestamp()
    assert data_time == {"seconds": seconds, "source": "the date of the newest span", "span": 20484}


def test_the_same_rows_fall_into_the_same_splits_whatever_files_they_are_in(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2},g{i},2026-01" for i in range(300)]
    for folder, parts in (("one", [rows]), ("two", [rows[200:], rows[:200]])):
        (tmp_path / folder).mkdir()
        for number, part in enumerate(parts):
            write(tmp_path / folder / f"{number}.csv", part)
    splits = {"train": {"files": "*.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    rows_found = [
        sorted(values(run_example_gen(tmp_path / folder, splits, ignored_columns=["group", "when"])[1], "eval"))
        for folder in ("one", "two")
    ]
    assert rows_found[0] == rows_found[1]


NAMES = ["Anna", "Böla", '"Cleo, the ""cook"""', '"Dora\nthe second"', ""]


def written_in_pieces(
    folder: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int, workers: int = 1
) -> dict[str, bytes]:
    """Return the records of each split, of 4,000 rows with quoted line ends, read in pieces of so many bytes."""
    monkeypatch.setattr(readers, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr("components.example_gen.blocks._THREADS", workers)
    folder.mkdir()
    write(folder / "a.csv", [f"{i},{i % 2},{NAMES[i % 5]},2026-01" for i in range(4000)])
    splits = {"train": {"files": "a.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    _, out = run_example_gen(folder, splits, workers=workers, ignored_columns=["group", "when"])
    return {
        split: b"".join(gzip.decompress(file.read_bytes()) for file in sorted((out / f"Split-{split}").iterdir()))
        for split in ("train", "eval")
    }


def test_the_records_are_the_same_in_whatever_pieces_and_with_how_many_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written_in_pieces(tmp_path / "whole", monkeypatch, 1 << 30)
    assert len(list((tmp_path / "whole" / "out" / "Split-train").iterdir())) == 1
    for size, workers in ((20_000, 1), (20_000, 3), (50_000, 2)):
        folder = tmp_path / f"{size}-{workers}"
        assert written_in_pieces(folder, monkeypatch, size, workers) == whole
        assert len(list((folder / "out" / "Split-train").iterdir())) >= 100_000 // size - 2


def test_places_are_those_of_the_file_in_whatever_piece_a_row_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PIECE_BYTES", 20_000)
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 4096)
    rows = [f"{i},{i % 2},{NAMES[i % 5]},2026-01" for i in range(4000)]
    rows[3100] = "old,1,g,2026-01"
    rows[3500] = "7,1"
    write(tmp_path / "a.csv", rows)
    splits = {"train": {"files": "a.csv"}, "eval": {"source": "train", "fraction": 0.3}}
    _, out = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"], max_bad_rows=2)
    places = [json.loads(line)["place"] for line in (out / "rejects.jsonl").read_text().splitlines()]
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert [lines[int(place.rpartition(":")[2]) - 1] for place in places] == ["old,1,g,2026-01", "7,1"]
    with pytest.raises(
        DataError, match=f"a.csv:{places[0].rpartition(':')[2]}: x: expected a finite number, found 'old'"
    ):
        run_example_gen(tmp_path, splits, ignored_columns=["group", "when"], max_bad_rows=1)


def test_a_large_compressed_csv_is_named_as_what_cannot_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in (readers, example_gen_component):
        monkeypatch.setattr(module, "PIECE_BYTES", 5_000)
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 4096)
    write(tmp_path / "a.csv", [f"{i},{i % 2},g,2026-01" for i in range(4000)])
    write(tmp_path / "b.csv", [f"{i},{i % 2},g,2026-01" for i in range(4000)])
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    write(tmp_path / "small.csv", ["1,1,g,2026-01"])
    (tmp_path / "small.csv.gz").write_bytes(gzip.compress((tmp_path / "small.csv").read_bytes()))
    splits = {
        "train": {"files": "a.csv"},
        "eval": {"files": "b.csv.gz"},
        "test": {"files": "small.csv.gz"},
    }
    _, out = run_example_gen(tmp_path, splits, ignored_columns=["group", "when"])
    assert [line for line in capfd.readouterr().err.splitlines() if "cannot be cut" in line] == [
        f"{tmp_path}/b.csv.gz: is read by one worker and makes one shard, since compressed CSV cannot be cut; decompress "
        "it, or divide it into several files"
    ]
    shards = {split: len(list((out / f"Split-{split}").iterdir())) for split in splits}
    assert shards["train"] > 5
    assert (shards["eval"], shards["test"]) == (1, 1)


def test_parquet_is_read_in_pieces_of_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PIECE_BYTES", 1)
    rows = pa.table({"x": [*map(str, range(690)), "old", *map(str, range(691, 1000))], "y": ["0", "1"] * 500})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet", row_group_size=100)
    splits = {"train": {"files": "*.parquet"}, "eval": {"source": "train", "fraction": 0.3}}
    _, out = run_example_gen(tmp_path, splits, format="parquet", max_bad_rows=1)
    assert len(list((out / "Split-train").iterdir())) == 10
    assert sorted(values(out, "train") + values(out, "eval")) == [float(i) for i in range(1000) if i != 690]
    assert json.loads((out / "rejects.jsonl").read_text())["place"] == f"{tmp_path / 'a.parquet'}: row 691"


def test_no_more_than_a_few_batches_are_there_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.tables.readers.BLOCK_BYTES", 4096)
    monkeypatch.setattr("schemas.tables.typed_columns._ROWS_TOGETHER", 1)
    write(tmp_path / "a.csv", [f"{i},{i % 2},g,2026-01" for i in range(20_000)])
    data = Data.model_validate({"base": str(tmp_path), "splits": SPLITS, "ignored_columns": ["group", "when"]})
    table = Table.from_config(str(tmp_path / "a.csv"), data, FEATURES, max_bad_rows=0)
    read = written = most = 0
    batches = table.read_batches

    def count_rows() -> Iterator[Batch]:
        nonlocal read
        for batch in batches():
            read += len(batch.rows)
            yield batch

    monkeypatch.setattr(table, "read_batches", count_rows)
    for _, block in convert(table, Division("train", {}, Shares({}), "0", {"train": 0}), TableCounts(table.columns)):
        written += block.rows
        most = max(most, read - written)
    assert written == 20_000
    assert most <= BATCHES_AHEAD * 350


def test_examples_are_those_of_the_stock_component(tmp_path: Path) -> None:
    """But for what is documented: types are declared, where stock guesses, and ignored columns are left out."""
    (tmp_path / "in").mkdir()
    shutil.copy(ROOT / "data" / "census" / "test.csv.gz", tmp_path / "in.gz")
    lines = gzip.decompress((tmp_path / "in.gz").read_bytes()).decode().splitlines()[:3000]
    # A missing number and a missing text; stock leaves a row of nothing but missing values out, and so none is here.
    lines[5] = "," + lines[5].partition(",")[2]
    (tmp_path / "in" / "a.csv").write_text("\n".join(lines) + "\n")
    config = load(CENSUS_CONFIG)
    declared = config.feature_set.model_dump(mode="json")
    declared["features"]["age"]["missing"] = "mean"
    data = Data.model_validate(
        {**config.data.model_dump(), "base": str(tmp_path / "in"), "splits": SPLITS, "missing_values": [""]}
    )
    component = build_example_gen(data=data, features=FeatureSet.model_validate(declared), code_fingerprint="")
    mine = standard_artifacts.Examples()
    mine.uri = str(tmp_path / "mine")
    TableExecutor().Do({}, {"examples": [mine]}, component.exec_properties)
    stock = standard_artifacts.Examples()
    stock.uri = str(tmp_path / "stock")
    whole = example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name="train", pattern="*.csv")])
    properties = CsvExampleGen(str(tmp_path / "in"), input_config=whole).exec_properties
    CsvExecutor().Do({}, {"examples": [stock]}, properties)
    names = set(config.feature_set.column_types)
    # The stock component shares out a single split too, by another hash.
    actual, expected = (
        Counter(example for split in ("train", "eval") for example in examples(tmp_path / who, split, names))
        for who in ("mine", "stock")
    )
    assert actual == expected
    assert sum(actual.values()) == 2999


def examples(out: Path, split: str, names: set[str]) -> list[str]:
    """Return some features of each example as text."""
    files = sorted(map(str, (out / f"Split-{split}").iterdir()))
    rows_found = []
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        rows_found.append(str([(name, _value(features[name])) for name in sorted(names)]))
    return rows_found


def _value(feature: tf.train.Feature) -> Any:
    """Return integers as the floats that numeric features declare; for a missing value stock has a list of none, we no list."""
    kind = feature.WhichOneof("kind")
    return [float(value) if kind == "int64_list" else value for value in getattr(feature, kind).value] if kind else []
