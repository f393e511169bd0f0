"""Troubles of the data: each is made on a real run of census, and found by the commands that the answers propose."""

import csv
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drill.drill import Drill, assert_says

pytestmark = pytest.mark.slow

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
    assert census_drill.run("validation.drift.default=null")[0] in (0, 3, 4)
    diff = _diff(census_drill)
    moved = next(line for line in diff.splitlines() if line.startswith("moved"))
    assert_says(moved, ["relationship: L-infinity 0.4", sentence, "'Husband' 4", "-> 0.0%"])
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
    code, _ = census_drill.run("data.splits.eval={source: test, fraction: 0.2}")
    assert code in (0, 2, 3, 4)
    code, output = census_drill.run()
    assert code in (0, 4), output
    diff = _diff(census_drill)
    # `eval` is drawn from train by the rows' features, so that both have the labels of other rows.
    assert_says(diff, ["columns    train: "])
    assert "on other rows: shuffled" in diff or "income: other values; all other columns are as before" in diff


def test_2_and_2b_a_test_split_of_rows_of_train_is_a_warning_everywhere(census_drill: Drill) -> None:
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
