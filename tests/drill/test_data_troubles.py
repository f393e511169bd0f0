"""Troubles of the data: each is made on a real run of census, and found by the commands that the answers propose."""

import csv
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import census_rows
from tests.drill.drill import Drill, assert_says
from tests.drill.samples import assert_sample

pytestmark = [pytest.mark.slow, pytest.mark.proof]

Rows = list[dict[str, str]]


def _edit(drill: Drill, split: str, edit: Callable[[Rows], Rows]) -> None:
    """Write a file of the data again, with other rows."""
    file = drill.place.config.parent / f"{split}.csv"
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    edited = edit(rows)
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(edited)


def _diff(drill: Drill) -> str:
    first, last = drill.records()[0], drill.records()[-1]
    return drill.ask("diff", first.run_id, last.run_id)


def _rename(old: str, new: str) -> Callable[[Rows], Rows]:
    return lambda rows: [
        row | {"relationship": new if row["relationship"] == old else row["relationship"]} for row in rows
    ]


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ("Spouse", "'Husband' seems to be renamed to 'Spouse', a new value"),
        ("Wife", "'Husband' seems to be renamed to 'Wife', which it had before"),
    ],
)
def test_3_a_renamed_category_is_recognised(new: str, sentence: str, census_drill: Drill) -> None:
    for split in ("train", "test"):
        _edit(census_drill, split, _rename("Husband", new))
    assert census_drill.run("validation.drift.default=null", "training.epochs=4")[0] in (0, 3, 4)
    diff = _diff(census_drill)
    moved = next(line for line in diff.splitlines() if line.startswith("moved"))
    place = ("--config", str(census_drill.place.config), "--run-root", str(census_drill.root))
    review = forked.run("pipeline", "schema", "diff", *place).stdout.splitlines()
    assert re.fullmatch(
        r"moved train against that of the pushed model: relationship: L-infinity distance 0\.40\d\d, at most 0\.05; "
        rf"moved most: 'Husband' 40\.\d% to 0\.0%, '{new}' [05]\.\d% to \d\d\.\d%, 'Not-in-family' .*",
        review[1],
    ), review
    assert review[2] == "a schema cannot take a moved distribution over: correct the data, or set other thresholds"
    moved_json = json.loads(forked.run("pipeline", "schema", "diff", *place, "--json").stdout)["moved"]
    assert moved_json == [review[1].removeprefix("moved ")]
    assert_says(moved, ["relationship: L-infinity 0.4", sentence, "'Husband' 4", "-> 0.0%"])
    if new == "Spouse":
        assert_sample("diff 20261124T221652 20261124T221844", diff)
    assert_says(
        diff, ["columns    train and eval together: relationship: other values; all other columns are as before"]
    )


def test_4a_a_label_that_was_flipped_is_found(census_drill: Drill) -> None:
    generator = random.Random(1)

    def flip(rows: Rows) -> Rows:
        classes = sorted({row["income"] for row in rows})
        other = dict(zip(classes, classes[::-1], strict=True))
        return [row | ({"income": other[row["income"]]} if generator.random() < 0.3 else {}) for row in rows]

    _edit(census_drill, "train", flip)
    assert census_drill.run()[0] in (0, 3, 4)
    diff = _diff(census_drill)
    assert_says(
        diff, ["columns    train: income: other values; all other columns are as before", "moved      train income"]
    )


def test_4b_shuffled_labels_are_diagnosed(census_drill: Drill) -> None:
    generator = random.Random(1)

    def shuffle(rows: Rows) -> Rows:
        chosen = generator.sample(range(len(rows)), int(0.45 * len(rows)))
        labels = [rows[number]["income"] for number in chosen]
        generator.shuffle(labels)
        for number, label in zip(chosen, labels, strict=True):
            rows[number]["income"] = label
        return rows

    _edit(census_drill, "train", shuffle)
    code, output = census_drill.run()
    assert code in (0, 4), output
    lines = [line for line in _diff(census_drill).splitlines() if line.startswith("columns")]
    # `eval` is drawn from train by the rows' features, so that both have the labels of other rows.
    changed = "income: other values; all other columns are as before"
    assert lines == [f"columns    train: {changed}", f"columns    eval: {changed}"]


def test_2_an_evaluated_file_of_last_month_is_named(census_drill: Drill) -> None:
    # Other rows of the same kind: all of them are right, and no threshold of drift is reached.
    last_month = [dict(zip(rows[0], row, strict=True)) for rows in [census_rows("test", 3000)] for row in rows[1501:]]
    _edit(census_drill, "test", lambda rows: last_month)
    assert census_drill.run()[0] == 0
    diff = _diff(census_drill)
    lines = diff.splitlines()
    assert [line for line in lines if line.startswith("columns")] == [
        "columns    test: all columns have other values: other rows"
    ]
    assert {line.split()[1] for line in lines if line.startswith("moved")} == {"test"}
    assert_says(
        diff, ["data       content of test: ", "metrics    overall: auc: "], ["content of train", "content of eval"]
    )


def test_2b_a_test_split_of_rows_of_train_is_a_warning_everywhere(census_drill: Drill) -> None:
    folder = census_drill.place.config.parent
    shutil.copy(folder / "train.csv", folder / "all.csv")
    _edit(census_drill, "test", lambda rows: _read(folder / "train.csv")[: len(rows)])
    code, output = census_drill.run()
    assert code in (0, 3), output
    why = census_drill.ask("why", "latest")
    assert_says(why, ["have an equal row in train"], ["nothing went wrong"])
    if code == 0:
        assert_says(census_drill.ask("check"), ["warning: test: all: "])
    diff = _diff(census_drill)
    assert_says(diff, ["rows of test with an equal row in train: ", "content of test: "])


def _read(file: Path) -> Rows:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))
