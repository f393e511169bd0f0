"""Decisions that need the whole table: test files of their own, dividers, missing values of a feature."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cli.errors import DataError
from pipeline.init.requests import Requests
from pipeline.init.source import find_source
from pipeline.init.starter import Starter, write_starter
from tests.pipeline.init.test_starter import write

RANDOM = np.random.default_rng(5)


def rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    """Return rows of a number and a label that it explains in part."""
    made = []
    for number in range(count):
        size = float(RANDOM.normal())
        label = "yes" if size + RANDOM.normal() > 0 else "no"
        more = {name: value(number) if callable(value) else value for name, value in columns.items()}
        made.append({"size": f"{size:.3f}", **more, "bought": label})
    return made


def start(
    folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None, **requests: Any
) -> Starter:
    write(folder / "train.csv", train)
    if test is not None:
        write(folder / "test.csv", test)
    source = find_source(
        str(folder / "train.csv"),
        test=None if test is None else str(folder / "test.csv"),
        delimiter=None,
        column_names=(),
        header=True,
    )
    requested = Requests(**{"label": "bought", **requests})
    return write_starter(source, requested, name="a", config_folder=folder, schema_path=folder / "a.pbtxt")


def document(starter: Starter) -> dict[str, Any]:
    return dict(yaml.safe_load(starter.config))


def test_a_column_without_values_in_train_or_test_is_left_out(tmp_path: Path) -> None:
    train = rows(300, score="", rank=lambda number: number % 7)
    test = rows(100, score=lambda number: number / 7, rank="")
    starter = start(tmp_path, train, test)
    assert dict(starter.decision.ignored) == {"score": "has no value in train", "rank": "has no value in test"}
    assert "'score' has no value in train: left out" in starter.decision.notes.texts


def test_missing_shares_are_judged_in_train_and_in_test(tmp_path: Path) -> None:
    train = rows(400, rank=lambda number: number % 7)
    test = rows(100, rank=lambda number: "" if number % 2 else number % 7)
    starter = start(tmp_path, train, test)
    (note,) = [note for note in starter.decision.notes.texts if "rank" in note]
    assert note.startswith("'rank' is missing in 0.0% of train and 50.0% of test")
    # Over both files, a tenth of the values is missing.
    assert "presence { min_fraction: 0.5 min_count: 1 } # 10.00% missing now" in starter.schema


def test_test_files_need_labels(tmp_path: Path) -> None:
    test = [{**row, "bought": ""} for row in rows(100)]
    with pytest.raises(DataError, match="label 'bought': no row of test has one of its values"):
        start(tmp_path, rows(300), test)


def test_a_class_without_rows_in_test_is_noted(tmp_path: Path) -> None:
    test = [{**row, "bought": "no"} for row in rows(100)]
    notes = start(tmp_path, rows(300), test).decision.notes.texts
    assert "test has no row of class 'yes' of 'bought'" in notes


def test_fewer_than_twenty_rows_of_test_are_noted(tmp_path: Path) -> None:
    notes = start(tmp_path, rows(60)).decision.notes.texts
    assert "test gets about 12 rows; no model is pushed on fewer than 20 (evaluation.min_rows): add rows" in notes


def test_a_class_too_rare_to_judge_is_noted(tmp_path: Path) -> None:
    train = [{**row, "bought": "yes" if number < 15 else "no"} for number, row in enumerate(rows(400))]
    (note,) = start(tmp_path, train).decision.notes.texts
    assert note.startswith("test gets about 3 rows of 'yes'; no model is pushed on fewer than 5 of each class")


def test_columns_that_divide_the_rows_are_features_only_if_kept(tmp_path: Path) -> None:
    train = rows(300, year=lambda number: 1990 + number // 10, shop=lambda number: f"s{number % 50}")
    by_time = document(start(tmp_path, train, time="year"))
    assert "year" not in by_time["features"] and "year" not in by_time["data"].get("ignored_columns", [])
    assert by_time["data"]["splits"]["test"]["column"] == "year"
    by_group = document(start(tmp_path, train, group="shop"))
    assert "shop" not in by_group["features"]
    assert by_group["data"]["group_column"] == "shop"
    assert "shop" in document(start(tmp_path, train, group="shop", keep=("shop",)))["features"]


def test_fill_values_are_missing_values_of_their_feature(tmp_path: Path) -> None:
    fill = "9.969209968386869e+36"
    starter = start(tmp_path, rows(300, spend=lambda number: fill if number % 100 == 0 else number * 7 % 89))
    spend = document(starter)["features"]["spend"]
    assert (spend["missing_values"], spend["missing"]) == (["", fill], "mean")
    assert f"{fill} stand for missing" in starter.config
