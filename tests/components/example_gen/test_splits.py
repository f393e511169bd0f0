"""Splits that can be judged: independent of labels, none empty, no copies of train, every class in each."""

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

from cli.errors import DataError
from components.config import Validation
from components.example_gen.component import (
    EQUAL_ROWS_PROPERTY,
    FINDINGS_PROPERTY,
    LABELS_PROPERTY,
    ROWS_PROPERTY,
    UNLABELLED_BY_SPLIT_PROPERTY,
)
from components.example_gen.split_findings import (
    compute_train_shares,
    describe_copies,
    describe_labels,
    find_contradictory_labels,
    find_copied_splits,
    find_empty_classes,
    find_shared_rows,
    reject_empty_classes,
)
from components.policy import Anomaly, judge
from pipeline.config.pipeline_config import load
from schemas.features import FeatureSet
from schemas.tables import pieces, readers
from tests.components.example_gen.test_component import run_example_gen
from tests.conftest import CENSUS_CONFIG, ROOT

pytestmark = pytest.mark.integration

# The Titanic's passengers: class, age, sex, how many died and how many survived.
TITANIC = [
    ("1st", "adult", "man", 118, 57),
    ("1st", "adult", "woman", 4, 140),
    ("1st", "child", "man", 0, 5),
    ("1st", "child", "woman", 0, 1),
    ("2nd", "adult", "man", 154, 14),
    ("2nd", "adult", "woman", 13, 80),
    ("2nd", "child", "man", 0, 11),
    ("2nd", "child", "woman", 0, 13),
    ("3rd", "adult", "man", 387, 75),
    ("3rd", "adult", "woman", 89, 76),
    ("3rd", "child", "man", 35, 13),
    ("3rd", "child", "woman", 17, 14),
]
NAMES = ("class", "age", "sex")
LABEL = {"column": "survived", "positive": "yes", "negative": "no"}
CATEGORIES = FeatureSet.model_validate(
    {"features": {name: {"kind": "vocabulary", "max_size": 9, "missing": "none"} for name in NAMES}, "label": LABEL}
)
SHARES: dict[str, Any] = {
    "train": {"files": "*.csv"},
    "eval": {"source": "train", "fraction": 0.1},
    "test": {"source": "train", "fraction": 0.1},
}


def titanic() -> list[str]:
    """Sorted by label within equal rows, as tables often come."""
    return [
        ",".join([*row[:3], label])
        for row in TITANIC
        for label, n in (("no", row[3]), ("yes", row[4]))
        for _ in range(n)
    ]


def write(path: Path, rows: list[str], header: str = "class,age,sex,survived") -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


def read_property(artifact: Any, name: str) -> Any:
    return json.loads(artifact.get_string_custom_property(name))


def rows_of(out: Path, split: str) -> list[tuple[str, ...]]:
    files = sorted(map(str, (out / f"Split-{split}").glob("*.gz")))
    results = []
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        values = tf.train.Example.FromString(record).features.feature
        results.append(tuple(b"".join(values[name].bytes_list.value).decode() for name in (*NAMES, "survived")))
    return results


def auc(train: list[tuple[str, ...]], judged: list[tuple[str, ...]]) -> float:
    """Return the share of survivors among the equal rows of train."""
    rows, survived = Counter(row[:3] for row in train), Counter(row[:3] for row in train if row[3] == "yes")
    scores = [(survived[row[:3]] / max(rows[row[:3]], 1), row[3]) for row in judged]
    pairs = [(p > q) + (p == q) / 2 for p, a in scores if a == "yes" for q, b in scores if b == "no"]
    return float(np.mean(pairs))


def test_few_distinct_rows_are_spread_whatever_their_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", titanic())
    artifact, out = run_example_gen(tmp_path, SHARES, features=CATEGORIES)
    assert read_property(artifact, ROWS_PROPERTY) == {"train": 1052, "eval": 132, "test": 132}
    rows_by_split = {split: rows_of(out, split) for split in SHARES}
    assert sorted(row for rows in rows_by_split.values() for row in rows) == sorted(
        tuple(row.split(",")) for row in titanic()
    )
    # 0.81 is that of a random split; the standard error on 132 rows is 0.04.
    assert auc(rows_by_split["train"], rows_by_split["test"]) == pytest.approx(0.81, abs=0.08)
    for split in ("eval", "test"):
        survived = np.mean([row[3] == "yes" for row in rows_by_split[split]])
        assert survived == pytest.approx(499 / 1316, abs=0.1)
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    assert equal_rows["spread"] == ["train"] and equal_rows["distinct_rows"] == {"train": 12}
    assert describe_copies(equal_rows)[0] == "are spread: 12 distinct rows, fewer than 1,000"
    assert not list(find_shared_rows(equal_rows, Validation()))
    # All that is judged is in train too, which is a warning.
    assert {(anomaly.where, anomaly.kind) for anomaly in find_copied_splits(equal_rows)} == {
        (split, "MOSTLY_ROWS_OF_TRAIN") for split in ("eval", "test")
    }
    assert not list(out.glob("rows-*"))


def test_spread_rows_are_the_same_in_whatever_pieces_files_and_with_how_many_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_BLOCK_BYTES", 512)
    monkeypatch.setattr("schemas.tables.readers.BLOCK_BYTES", 2048)
    rows = titanic()
    for folder, files, size, workers in (
        ("whole", [rows], 1 << 30, 1),
        ("pieces", [rows], 4096, 3),
        ("files", [rows[:500], rows[500:501], rows[501:]], 4096, 2),
    ):
        monkeypatch.setattr(readers, "PIECE_BYTES", size)
        (tmp_path / folder).mkdir()
        for number, part in enumerate(files):
            write(tmp_path / folder / f"{number}.csv", part)
        _, out = run_example_gen(tmp_path / folder, SHARES, workers=workers, features=CATEGORIES)
        assert len(list((out / "Split-train").iterdir())) >= {"whole": 1, "pieces": 6, "files": 5}[folder]
        rows_by_split = {split: rows_of(out, split) for split in SHARES}
        if folder == "whole":
            expected = rows_by_split
        assert rows_by_split == expected


def test_a_tiny_table_gives_every_split_a_row(tmp_path: Path) -> None:
    for rows, sizes in ((12, [10, 1, 1]), (40, [32, 4, 4]), (3, [1, 1, 1])):
        write(tmp_path / "a.csv", [f"{i},a,b,{'yes' if i % 2 else 'no'}" for i in range(rows)])
        try:
            artifact, _ = run_example_gen(tmp_path, SHARES, features=CATEGORIES)
        except DataError as error:
            assert rows == 3 and "Every class is needed" in str(error)
        else:
            assert list(read_property(artifact, ROWS_PROPERTY).values()) == sizes
    write(tmp_path / "a.csv", ["1,a,b,yes", "2,a,b,no"])
    with pytest.raises(DataError, match="would have no rows"):
        run_example_gen(tmp_path, SHARES, features=CATEGORIES)


def test_the_rows_of_parts_are_not_counted_among_those_that_are_shared_out(tmp_path: Path) -> None:
    # 1,500 distinct rows, of which 12 are left to be shared out.
    write(
        tmp_path / "a.csv", [f"{i},a,{'kept' if i < 12 else 'taken'},{'yes' if i % 2 else 'no'}" for i in range(1500)]
    )
    splits = {**SHARES, "late": {"source": "train", "column": "sex", "values": ["taken"]}}
    artifact, _ = run_example_gen(tmp_path, splits, features=CATEGORIES)
    assert read_property(artifact, ROWS_PROPERTY) == {"train": 10, "eval": 1, "test": 1, "late": 1488}
    assert read_property(artifact, EQUAL_ROWS_PROPERTY)["distinct_rows"] == {"train": 12}


def test_many_distinct_rows_stay_together_whatever_their_labels_order_and_format(tmp_path: Path) -> None:
    columns = {"class": [f"c{i % 1500}" for i in range(3000)], "age": ["a"] * 3000, "sex": ["b"] * 3000}
    results = []
    for folder, format in (("csv", "csv"), ("parquet", "parquet")):
        (tmp_path / folder).mkdir()
        labels = ["yes" if (i // 7 + (format == "csv")) % 2 else "no" for i in range(3000)]
        if format == "csv":
            rows = zip(*columns.values(), labels, strict=True)
            write(tmp_path / folder / "a.csv", [",".join(row) for row in rows])
        else:
            table = pa.table({"survived": labels, **dict(reversed(columns.items()))})
            pyarrow.parquet.write_table(table, tmp_path / folder / "a.csv")
        artifact, out = run_example_gen(tmp_path / folder, SHARES, features=CATEGORIES, format=format)
        equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
        assert equal_rows["spread"] == [] and equal_rows["distinct_rows"] == {"train": 1500}
        assert describe_copies(equal_rows)[0] == "stay together (1,500 distinct rows)"
        assert equal_rows["in_train"]["eval"]["in_train"] == equal_rows["in_train"]["test"]["in_train"] == 0
        assert equal_rows["in_train"]["train"]["in_train"] == equal_rows["in_train"]["train"]["rows"]
        results.append({split: {row[0] for row in rows_of(out, split)} for split in SHARES})
        for split in ("eval", "test"):
            assert len(results[-1][split]) == pytest.approx(150, abs=40)
    assert results[0] == results[1]


def test_exactly_a_thousand_distinct_rows_stay_together(tmp_path: Path) -> None:
    for distinct, spread in ((1000, []), (999, ["train"])):
        write(tmp_path / "a.csv", [f"{i % distinct},a,b,{'yes' if i % 2 else 'no'}" for i in range(1500)])
        artifact, _ = run_example_gen(tmp_path, SHARES, features=CATEGORIES)
        equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
        assert (equal_rows["spread"], equal_rows["distinct_rows"]) == (spread, {"train": distinct})


def test_with_groups_neither_is_done(tmp_path: Path) -> None:
    write(
        tmp_path / "a.csv",
        [f"a,b,c,{'yes' if i % 3 else 'no'},g{i % 100}" for i in range(300)],
        "class,age,sex,survived,id",
    )
    artifact, _ = run_example_gen(tmp_path, SHARES, features=CATEGORIES, group_column="id")
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    assert equal_rows["grouped"] and not equal_rows["spread"]
    assert not [text for text in describe_copies(equal_rows) if text.startswith(("stay", "are"))]


FILES: dict[str, Any] = {split: {"files": f"{split}.csv"} for split in ("train", "eval", "test")}


def test_rows_in_train_too_are_counted_and_a_split_made_of_them_stops_the_run(tmp_path: Path) -> None:
    def row(number: int) -> str:
        return f"{number},a,,{'yes' if number % 2 else 'no'}"

    # In train 200 of 1,000 rows have another equal row, in eval 50 of 200 have one in train, in test all.
    write(tmp_path / "train.csv", [row(i % 900) for i in range(1000)])
    write(tmp_path / "eval.csv", [row(850 + i) for i in range(200)])
    write(tmp_path / "test.csv", [row(i).replace("yes", "no") for i in range(300)])
    artifact, _ = run_example_gen(tmp_path, FILES, features=CATEGORIES)
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    assert equal_rows["in_train"] == {
        "train": {"rows": 1000, "in_train": 200},
        "eval": {"rows": 200, "in_train": 50},
        "test": {"rows": 300, "in_train": 300},
    }
    # In train none; in all the 150 odd rows that test labels otherwise: in train 150 and 50 copies, in test 150.
    assert equal_rows["contradictory"] == {
        "train": {"rows": 1000, "contradictory": 0},
        "all": {"rows": 1500, "contradictory": 350},
    }
    assert describe_copies(equal_rows) == ["rows in train too: eval 25.0%, test 100.0%; within train 20.0%"]
    (anomaly,) = find_shared_rows(equal_rows, Validation())
    assert judge([anomaly], Validation(), today=None).stops == [  # type: ignore[arg-type]
        "test: all: 300 of 300 rows (100.0%) have an equal row in train (in all features); 20.0% of train's rows have "
        "another, and at most 20.0% more may. Remove the copies from one of the two, or raise "
        "validation.train_overlap_margin [ROWS_SHARED_WITH_TRAIN]"
    ]
    assert not list(find_shared_rows(equal_rows, Validation(train_overlap_margin=0.8)))
    assert [anomaly.where for anomaly in find_shared_rows(equal_rows, Validation(train_overlap_margin=0.04))] == [
        "eval",
        "test",
    ]


def test_census_shares_the_rows_that_it_is_known_to_share(tmp_path: Path) -> None:
    for name in ("train", "test"):
        shutil.copy(ROOT / "data" / "census" / f"{name}.csv.gz", tmp_path)
    head = gzip.decompress((tmp_path / "test.csv.gz").read_bytes()).decode().splitlines()[:50]
    (tmp_path / "eval.csv").write_text("\n".join(head) + "\n")
    config = load(CENSUS_CONFIG)
    splits = {"train": {"files": "train.csv.gz"}, "eval": {"files": "eval.csv"}, "test": {"files": "test.csv.gz"}}
    read = {"ignored_columns": config.data.ignored_columns, "missing_values": config.data.missing_values}
    artifact, _ = run_example_gen(tmp_path, splits, features=config.feature_set, **read)
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    shares = compute_train_shares(equal_rows)
    assert (round(shares["test"], 3), round(shares["train"], 3)) == (0.183, 0.195)
    assert equal_rows["contradictory"]["train"] == {"rows": 32561, "contradictory": 2123}
    assert read_property(artifact, FINDINGS_PROPERTY) == []
    assert not list(find_shared_rows(equal_rows, Validation()))


def test_huge_inputs_are_sampled_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train.csv", [f"{i % 5000},a,b,{'yes' if i % 2 else 'no'}" for i in range(10_000)])
    write(tmp_path / "eval.csv", [f"{i},a,b,{'yes' if i % 2 else 'no'}" for i in range(2500, 7500)])
    write(tmp_path / "test.csv", [f"{i},a,b,{'yes' if i % 2 else 'no'}" for i in range(5000, 9000)])
    monkeypatch.setattr("components.example_gen.equal_rows._INPUT_BYTES", 1 << 17)
    monkeypatch.setattr("components.example_gen.equal_rows._MAX_RECORDS", 4000)
    artifact, _ = run_example_gen(tmp_path, FILES, features=CATEGORIES)
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    assert equal_rows["one_in"] == 8
    assert equal_rows["in_train"]["train"]["rows"] == pytest.approx(1250, abs=150)
    shares = {split: counts["in_train"] / counts["rows"] for split, counts in equal_rows["in_train"].items()}
    assert shares == {"train": 1.0, "eval": pytest.approx(0.5, abs=0.08), "test": 0.0}
    assert describe_copies(equal_rows)[0].endswith("within train 100.0%, of one in 8 rows")


def test_contradictory_labels_are_counted_and_warned_of_above_a_tenth(tmp_path: Path) -> None:
    # Two of each number; of the first 120 the labels differ.
    rows = [f"{i},a,b,{'yes' if i % 2 or (copy and i < 60) else 'no'}" for copy in (0, 1) for i in range(500)]
    for split in FILES:
        write(tmp_path / f"{split}.csv", rows if split == "train" else ["x,y,z,no", "z,y,x,yes"])
    artifact, _ = run_example_gen(tmp_path, FILES, features=CATEGORIES)
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    assert equal_rows["contradictory"] == {
        "train": {"rows": 1000, "contradictory": 60},
        "all": {"rows": 1004, "contradictory": 60},
    }
    assert "60 rows of train (6.0%) equal one with another label" in describe_copies(equal_rows)
    assert read_property(artifact, FINDINGS_PROPERTY) == []
    equal_rows["contradictory"]["train"]["contradictory"] = 101
    (anomaly,) = find_contradictory_labels(equal_rows, "survived")
    verdict = judge([anomaly], Validation(), today=None)  # type: ignore[arg-type]
    assert not verdict.stops
    assert verdict.warnings[0].startswith("train: survived: 101 of 1,000 rows (10.1%) have a row that is equal in all")


def test_contradictory_numbers_are_counted(tmp_path: Path) -> None:
    numbers = FeatureSet.model_validate(
        {"features": {"x": {"kind": "numeric", "missing": 0}}, "label": {"column": "y", "kind": "regression"}}
    )
    for split in FILES:
        write(tmp_path / f"{split}.csv", ["1,0.0", "1.0,-0.0", "-0,2", "0.0,3", ",5", ",5", "7,1"], "x,y")
    artifact, _ = run_example_gen(tmp_path, FILES, features=numbers)
    equal_rows = read_property(artifact, EQUAL_ROWS_PROPERTY)
    assert equal_rows["contradictory"]["train"] == {"rows": 7, "contradictory": 2}
    assert equal_rows["in_train"]["train"] == {"rows": 7, "in_train": 6}
    assert describe_labels(read_property(artifact, LABELS_PROPERTY))[0].startswith("mean of train 2.286 (std 1.979), ")


def test_a_class_without_rows_is_named_by_split_and_stops_the_run_in_train(tmp_path: Path) -> None:
    mixed = [f"{i},a,b,{'yes' if i % 3 == 0 else 'no'}" for i in range(30)]
    for split in FILES:
        write(tmp_path / f"{split}.csv", [row.replace("yes", "no") for row in mixed] if split == "test" else mixed)
    artifact, _ = run_example_gen(tmp_path, FILES, features=CATEGORIES)
    (anomaly,) = [Anomaly(**finding) for finding in read_property(artifact, FINDINGS_PROPERTY)]
    verdict = judge([anomaly], Validation(), today=None)  # type: ignore[arg-type]
    assert verdict.warnings == [
        "test: survived: no row has the label 'yes'; found 30 of 'no': metrics that need every class are undefined there. "
        "Give 'test' more rows, or rows of other files [CLASS_WITHOUT_ROWS]"
    ]
    assert describe_labels(read_property(artifact, LABELS_PROPERTY)) == ["yes: train 33.3%, eval 33.3%, test 0.0%"]
    (tmp_path / "test.csv").rename(tmp_path / "train.csv")
    write(tmp_path / "test.csv", mixed)
    with pytest.raises(DataError, match="split 'train': no row has the label 'yes'; found 30 of 'no'. Every class"):
        run_example_gen(tmp_path, FILES, features=CATEGORIES)


def test_several_classes_and_numbers_are_judged_too() -> None:
    labels = {"train": {"a": 5, "b": 3, "c": 9}, "eval": {"a": 1, "b": 0, "c": 0}}
    reject_empty_classes(labels)
    (anomaly,) = find_empty_classes(labels, "y")
    assert anomaly.text.startswith("no row has the label 'b' or 'c'; found 1 of 'a': ")
    assert describe_labels(labels) == ["c, a, b: train 52.9% 29.4% 17.6%, eval 0.0% 100.0% 0.0%"]
    numbers = {"train": {"rows": 9, "mean": 4.0, "std": 0.0}, "eval": {"rows": 2, "mean": 4.0, "std": 0.0}}
    assert not list(find_empty_classes(numbers, "y"))
    with pytest.raises(DataError, match="split 'train': all labels of its 9 rows are 4; there is nothing to learn"):
        reject_empty_classes(numbers)


def test_rows_without_a_label_are_counted_by_split(tmp_path: Path) -> None:
    optional = FeatureSet.model_validate({**CATEGORIES.model_dump(), "label": {**LABEL, "drop_missing": True}})
    write(tmp_path / "train.csv", ["1,a,b,yes", "2,a,b,", "3,a,b,no", "4,a,b,"])
    write(tmp_path / "eval.csv", ["1,a,c,yes", "3,a,c,no"])
    write(tmp_path / "test.csv", ["1,a,d,yes", "2,a,d,", "3,a,d,no"])
    artifact, _ = run_example_gen(tmp_path, FILES, features=optional)
    assert read_property(artifact, UNLABELLED_BY_SPLIT_PROPERTY) == {"train": 2, "eval": 0, "test": 1}
