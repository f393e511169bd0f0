"""Five broken run roots, to try docs/oncall.md on.

python -m tests.faults.planted FOLDER      # FOLDER/1 to FOLDER/5, each with a page.txt: the page that woke you
"""

import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.conftest import census_rows, write_rows
from tests.faults import injections
from tests.faults.processes import Place
from tests.faults.small import NAME, TRAIN_ROWS, small_config


@dataclass(frozen=True)
class Plant:
    """A failure.

    Attributes:
      page: the symptom, as in the runbook's first table.
      command: command of the runbook.
      exit_code: exit code of the command.
      cause: strings of the command's output that name the cause.
      make: function that breaks a good run root, by a real run if one can.
    """

    page: str
    command: tuple[str, ...]
    exit_code: int
    cause: tuple[str, ...]
    make: Callable[[Place], None]


def _add_bad_data(place: Place) -> None:
    rows = census_rows("train", TRAIN_ROWS)
    rows[1][rows[0].index("age")] = "430"
    write_rows(place.config.parent / "train.csv", rows)
    assert place.run()[0] == 3
    write_rows(place.config.parent / "train.csv", census_rows("train", TRAIN_ROWS))


def _kill_run(place: Place) -> None:
    assert place.run("seed=21", fault=partial(injections.in_executor, "Trainer", injections.die))[0] == -9


def _miss_threshold(place: Place) -> None:
    assert place.run("evaluation.thresholds=[{metric: auc, lower_bound: 0.999}]")[0] == 4


def _change_weights(place: Place) -> None:
    (weights,) = place.registry.find_folder(1).glob("variables/variables.data-*")
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 0xFF]))


def _truncate_database(place: Place) -> None:
    content = place.root.metadata.read_bytes()
    place.root.metadata.write_bytes(content[: len(content) // 2])


PLANTS = (
    Plant(
        "the nightly run failed",
        ("why", "latest"),
        0,
        ("Gate: ", ": age: Unexpectedly high value", "430>120"),
        _add_bad_data,
    ),
    Plant("the nightly run does not end", ("why", "latest"), 0, ("CRASHED", "killed in Trainer"), _kill_run),
    Plant(
        "the nightly run pushed no model", ("why", "latest"), 0, ("auc 0.", "at least 0.999 expected"), _miss_threshold
    ),
    Plant(
        "predictions are bad", ("check",), 1, ("version 1: its files are NOT those that were pushed",), _change_weights
    ),
    Plant("runs do not start", ("doctor",), 1, ("metadata.sqlite: is truncated (", "restore "), _truncate_database),
)


def plant(folder: Path) -> list[Path]:
    """Make all of them below a folder and return the run roots, in the order of PLANTS."""
    place = Place(small_config(folder / "data"), folder / "work")
    code, output = place.run()
    assert code == 0, output
    shutil.copytree(place.folder, folder / "good")
    made = []
    for number, fault in enumerate(PLANTS, 1):
        shutil.rmtree(place.folder)
        shutil.copytree(folder / "good", place.folder)
        fault.make(place)
        root = folder / str(number)
        _move(place.folder, root)
        (root / "page.txt").write_text(f"{fault.page}\n")
        made.append(root)
    for rest in (folder / "good", place.folder):
        shutil.rmtree(rest)
    for output in folder.glob("output-*"):
        output.unlink()
    return made


def _move(root: Path, target: Path) -> None:
    """Copy a run root and replace its path in the files that hold it."""
    shutil.copytree(root, target)
    for file in (*target.glob("records/*.json"), *target.glob("logs/*"), *target.glob(f"registry/{NAME}/*.config")):
        file.write_text(file.read_text().replace(str(root), str(target)))
    try:
        with closing(sqlite3.connect(target / "metadata.sqlite")) as database, database:
            database.execute("UPDATE Artifact SET uri = replace(uri, ?, ?)", (str(root), str(target)))
    except sqlite3.DatabaseError:
        # This one is damaged on purpose.
        return


if __name__ == "__main__":
    plant(Path(sys.argv[1]).absolute())
