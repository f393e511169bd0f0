"""A run root on which a version serves, the same for each test."""

import shutil
from pathlib import Path

import pytest

from tests.faults.processes import Place
from tests.faults.small import small_config


@pytest.fixture(scope="session")
def good_place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """Return a run root with one good run, and a copy of it."""
    folder: Path = tmp_path_factory.mktemp("faults")
    place = Place(small_config(folder / "data"), folder / "run")
    code, output = place.run()
    assert code == 0, output
    assert place.registry.read_champion() == 1
    shutil.copytree(place.folder, folder / "copy", symlinks=True)
    return place, folder / "copy"


@pytest.fixture
def place(good_place: tuple[Place, Path]) -> Place:
    """Return the run root after its good run, whatever the test before has done to it."""
    place, copy = good_place
    shutil.rmtree(place.folder)
    shutil.copytree(copy, place.folder, symlinks=True)
    return place
