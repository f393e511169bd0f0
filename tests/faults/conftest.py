"""A run root on which a version serves, for each file of tests."""

from pathlib import Path

import pytest

from tests.faults.processes import Place
from tests.faults.small import small_config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run root with one good run."""
    folder: Path = tmp_path_factory.mktemp("faults")
    place = Place(small_config(folder / "data"), folder / "run")
    code, said = place.run()
    assert code == 0, said
    assert place.registry.champion() == 1
    return place
