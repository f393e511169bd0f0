"""With the commands of docs/oncall.md the cause of each planted failure is found."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from oncall.__main__ import main
from tests.conftest import ROOT
from tests.faults.planted import PLANTS, plant

pytestmark = pytest.mark.proof
RUNBOOK = (ROOT / "docs" / "oncall.md").read_text()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    yield plant(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("number", range(len(PLANTS)))
def test_the_runbooks_command_names_the_cause(number: int, planted: list[Path]) -> None:
    expected, root = PLANTS[number], planted[number]
    assert f"`{' '.join(expected.command)}`" in RUNBOOK
    asked = CliRunner().invoke(main, [*expected.command, "--run-root", str(root)], env={"COLUMNS": "200"})
    assert asked.exit_code == expected.exit_code, asked.output
    for words in expected.cause:
        assert words in asked.output
    # The serving version is named all the same, with its run, unless it is that which was changed.
    serving = CliRunner().invoke(main, ["check", "--run-root", str(root)], env={"COLUMNS": "200"})
    assert "version 1 of census-income" in serving.output
    changed = "its files are NOT those that were pushed"
    assert (changed in serving.output) == (changed in "".join(expected.cause))
