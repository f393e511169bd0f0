"""A run root on which a version serves; tests leave it so, and start with what the one before has left."""

from pathlib import Path

import pytest

from tests.faults.processes import Place
from tests.faults.small import small_config


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a run root with one good run."""
    folder: Path = tmp_path_factory.mktemp("faults")
    place = Place(small_config(folder / "data"), folder / "run")
    code, said = place.run()
    assert code == 0, said
    assert place.registry.champion() == 1
    return place
