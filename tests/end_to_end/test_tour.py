"""The notebook docs/tour.ipynb runs on what a run left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import ROOT
from tests.faults.small import small_config

pytestmark = pytest.mark.slow


def test_the_notebook_runs_after_a_run(tmp_path: Path) -> None:
    config, root = small_config(tmp_path / "data"), tmp_path / "run"
    done = forked.run("local_runner.py", "--config", str(config), "--run-root", str(root))
    assert done.returncode == 0, done.stderr
    cells = json.loads((ROOT / "docs" / "tour.ipynb").read_text())["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
    script = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "RUN_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr[-2000:]
    assert "480 rows of train, 3 features" in printed.stdout
    assert "PushedModel" in printed.stdout
    assert "auc" in printed.stdout
    assert "inputs: ['age', 'relationship']" in printed.stdout
