"""The commands of docs/how-to/monitoring-walk.md, once around the loop, print the output of the page.

They run for fewer epochs than a reader's: numbers are not compared.
"""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.database_servers import free_port
from tests.end_to_end.test_tutorial import normalise, read_steps, run_steps

pytestmark = [pytest.mark.slow, pytest.mark.proof]


def test_a_shift_is_seen_learnt_and_served(tmp_path: Path) -> None:
    steps = read_steps((ROOT / "docs" / "how-to" / "monitoring-walk.md").read_text())
    # The server's own port is replaced by `run_steps`.
    ports = {port: str(free_port()) for port in ("8502", "8503")}
    commands = [(re.sub("850[23]", lambda port: ports[port[0]], command), lines) for command, lines in steps]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "walk.py").symlink_to(ROOT / "data" / "walk.py")
    outputs = run_steps(commands, tmp_path)
    assert len(outputs) == len(steps) == 26
    for (command, lines), output in zip(steps, outputs, strict=True):
        printed = {normalise(line) for line in output.splitlines()}
        assert [line for line in lines if normalise(line) not in printed] == [], f"{command}\n{output}"
    # The replay prints its result alone: nothing of TensorFlow.
    (replay,) = [output for (command, _), output in zip(steps, outputs, strict=True) if "serving.replay" in command]
    assert re.fullmatch(r"replay: .*(\n +[\d.]+% of +\d+ rows  sex=\w+){2}\n*", replay), replay
