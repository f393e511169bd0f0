"""Trouble 11: a real disk that is full, once of a rejected model, once of files that are not the run root's."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.drill.drill import Drill, assert_says, find_command
from tests.faults import injections
from tests.faults.processes import Place
from tests.faults.small_disk import mount_small_disk

pytestmark = [pytest.mark.slow, pytest.mark.proof]

_MEGABYTES = 64


@pytest.fixture
def disk_drill(two_versions: tuple[Place, Path]) -> Iterator[Drill]:
    """Yield the run root after its good runs, on a small disk of its own, at the same path."""
    place, copy = two_versions
    folder = place.folder.parent
    shutil.rmtree(folder)
    folder.mkdir()
    with mount_small_disk(folder, _MEGABYTES):
        shutil.copytree(copy, folder, symlinks=True, dirs_exist_ok=True)
        yield Drill(place)


def _fail_for_space(drill: Drill, folder: Path) -> str:
    """Run until the disk of a folder is full; return the answer of `why`."""
    fault = partial(injections.at_executor, "Trainer", partial(injections.fill, folder))
    code, output = drill.place.run("training.epochs=12", fault=fault)
    assert code == 6, output
    why = drill.ask("why", "latest")
    assert_says(why, ["state      FAILED, exit code 6", "node       Trainer", "no space left on the disk: "])
    drill.follow(find_command(why, "oncall doctor"), code=1)
    return why


def test_11_what_old_runs_hold_is_named_and_freed(disk_drill: Drill) -> None:
    assert disk_drill.run("training.epochs=11", "evaluation.thresholds=[{metric: auc, lower_bound: 0.999}]")[0] == 4
    rejected = max((disk_drill.root / "artifacts/Trainer/model").iterdir(), key=lambda path: int(path.name))
    _fail_for_space(disk_drill, rejected)
    doctor = disk_drill.ask("doctor", code=1)
    (disk,) = [line for line in doctor.splitlines() if line.startswith("disk ")]
    assert disk.partition("The run root has ")[2].startswith("artifacts/Trainer "), disk
    removal = disk_drill.follow(find_command(doctor, "oncall gc", "frees"), yes=True)
    assert_says(removal, ["removed ", str(rejected)])
    assert not rejected.exists()
    disk_drill.follow(find_command(disk_drill.ask("why", "latest"), "oncall resume"))
    assert disk_drill.place.registry.read_champion() == 3


def test_11_files_of_others_are_named_and_nothing_of_the_run_root_is_removed(disk_drill: Drill) -> None:
    filler = disk_drill.root.parent
    _fail_for_space(disk_drill, filler)
    doctor = disk_drill.ask("doctor", code=1)
    assert_says(doctor, [f"other files on {filler} have ", "are not this run root's"], ["oncall gc", "rm -"])
    # It prints folders of 100 MB, which a disk as small as this has none of.
    disk_drill.follow(find_command(doctor, "du -xh"))
    (filler / injections.FILLER).unlink()
    disk_drill.follow(find_command(disk_drill.ask("why", "latest"), "oncall resume"))
    assert disk_drill.place.registry.read_champion() == 3
