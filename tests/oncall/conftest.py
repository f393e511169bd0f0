"""Fixtures of the tests of oncall: an empty run root to make runs in, and the command, called in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from oncall.__main__ import main
from tests.oncall.run_roots import Runs

Oncall = Callable[..., Result]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs" / "census-income")


@pytest.fixture
def oncall(runs: Runs) -> Oncall:
    """Call a command on the run root."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [*map(str, arguments), "--run-root", str(runs.root.path)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return call


@pytest.fixture
def document(oncall: Oncall) -> Callable[..., Any]:
    """Call a command with --json."""

    def call(*arguments: object) -> Any:
        return json.loads(oncall(*arguments, "--json").stdout)

    return call
