"""Run roots on which versions serve, the same for each trouble."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import write_small_census
from tests.drill.drill import Drill
from tests.faults.processes import Place
from tests.faults.small import small_config


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """Return a run root with two good runs of the smallest pipeline, and a copy of all of it."""
    folder: Path = tmp_path_factory.mktemp("drill")
    place = Place(small_config(folder / "now" / "data"), folder / "now" / "run", folder)
    for settings in ((), ("training.epochs=9",)):
        code, output = place.run(*settings)
        assert code == 0, output
    assert place.registry.read_champion() == 2
    shutil.copytree(folder / "now", folder / "copy", symlinks=True)
    return place, folder / "copy"


@pytest.fixture
def drill(two_versions: tuple[Place, Path]) -> Drill:
    """Return the run root after its good runs, whatever the trouble before has done to it."""
    return Drill(_restore(*two_versions))


@pytest.fixture(scope="session")
def census(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """Return a run root with a good run of all features of census, and a copy of all of it."""
    folder: Path = tmp_path_factory.mktemp("census")
    (folder / "now").mkdir()
    place = Place(write_small_census(folder / "now" / "data"), folder / "now" / "run", folder)
    code, output = place.run()
    assert code == 0, output
    shutil.copytree(folder / "now", folder / "copy", symlinks=True)
    return place, folder / "copy"


@pytest.fixture
def census_drill(census: tuple[Place, Path]) -> Drill:
    """Return the run root of census after its good run."""
    return Drill(_restore(*census))


def _restore(place: Place, copy: Path) -> Place:
    now = place.folder.parent
    shutil.rmtree(now)
    shutil.copytree(copy, now, symlinks=True)
    return place
