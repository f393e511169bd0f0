"""The notebook docs/tour.ipynb runs on what a run left."""

import json
import os
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import ROOT
from tests.faults.small import small_config

pytestmark = pytest.mark.proof


def test_the_notebook_runs_after_a_run(tmp_path: Path) -> None:
    config, root = small_config(tmp_path / "data"), tmp_path / "run"
    done = forked.run("local_runner.py", "--config", str(config), "--run-root", str(root))
    assert done.returncode == 0, done.stderr
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text())["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
    script = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    output = tmp_path / "output"
    process = forked.context().Process(target=_run, args=(script, root, output))
    process.start()
    process.join()
    printed = output.read_text()
    assert process.exitcode == 0, printed[-2000:]
    assert "480 rows of train, 3 features" in printed
    assert "PushedModel" in printed
    assert "auc" in printed
    assert "inputs: ['age', 'relationship']" in printed


def _run(script: str, root: Path, output: Path) -> None:
    """Run a script in this process, with its output in a file."""
    os.environ["RUN_ROOT"] = str(root)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    exec(script, {"__name__": "__main__"})
