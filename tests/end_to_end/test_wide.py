"""Ctrl-C ends a run on a wide table within seconds, whichever component runs, and the next run goes on from there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.wide import LABEL, write_table
from pipeline.records import State, newest_records
from pipeline.run_root import RunRoot
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
_SECONDS_TO_END = 5
_COMPONENTS = ("ExampleGen", "StatisticsGen", "Transform", "Trainer", "Evaluator")
# Splits of 100 rows are not what is tested.
_LENIENT = [
    f"{{anomaly: {name}, severity: ignore}}"
    for name in ("FEATURE_TYPE_LOW_FRACTION_PRESENT", "ENUM_TYPE_UNEXPECTED_STRING_VALUES")
]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 300 columns, as `init` describes it."""
    folder = tmp_path_factory.mktemp("wide")
    write_table(folder / "wide.csv", columns=300, rows=1_000)
    command = [sys.executable, "-m", "pipeline", "init", str(folder / "wide.csv"), "--label", LABEL, "--name", "wide"]
    command += ["--output", str(folder / "wide.yaml"), "--schema", str(folder / "wide.pbtxt")]
    subprocess.run(command, cwd=ROOT, env=_ENVIRONMENT, check=True)
    return folder / "wide.yaml"


def test_an_interrupt_ends_the_process_within_seconds_in_any_component(config: Path, tmp_path: Path) -> None:
    # Each run takes from the cache what the one before has finished.
    for component in _COMPONENTS:
        command = [sys.executable, "local_runner.py", "--config", str(config), "--run-root", str(tmp_path)]
        command += ["--set", f"validation.severities=[{', '.join(_LENIENT)}]"]
        process = subprocess.Popen(command, cwd=ROOT, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if f"{component} started" in line:
                    break
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(_SECONDS_TO_END) == 130, component
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        record = next(newest_records(RunRoot(tmp_path)))
        assert (record.state(locked=False), record.reason) == (State.ABORTED, "SIGINT"), component
