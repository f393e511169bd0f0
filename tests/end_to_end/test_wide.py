"""Ctrl-C ends a run on a wide table within seconds, whichever component runs, and the next run continues from there."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.wide import LABEL, write_table
from pipeline.run.records import RunState, read_newest_records
from pipeline.run.run_root import RunRoot
from tests import forked
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.proof]
# CPU time, which others that are at work on the machine do not prolong.
_CPU_SECONDS_TO_END = 5
_LIMIT_SECONDS = 120
_COMPONENTS = ("ExampleGen", "StatisticsGen", "Transform", "Trainer", "Evaluator")
# Splits of 100 rows are not what is tested.
_LENIENT = [
    f"{{anomaly: {name}, severity: ignore}}"
    for name in ("FEATURE_TYPE_LOW_FRACTION_PRESENT", "ENUM_TYPE_UNEXPECTED_STRING_VALUES")
]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of 300 columns, as `init` describes it."""
    folder = tmp_path_factory.mktemp("wide")
    write_table(folder / "wide.csv", columns=300, rows=1_000)
    outputs = ("--output", str(folder / "wide.yaml"), "--schema", str(folder / "wide.pbtxt"))
    done = forked.run("pipeline", "init", str(folder / "wide.csv"), "--label", LABEL, "--name", "wide", *outputs)
    assert done.returncode == 0, done.stderr
    return folder / "wide.yaml"


def _children_cpu_seconds() -> float:
    """Return the CPU time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_an_interrupt_ends_the_process_within_seconds_in_any_component(config: Path, tmp_path: Path) -> None:
    # Each run takes from the cache what the one before has finished.
    for component in _COMPONENTS:
        command = [sys.executable, "local_runner.py", "--config", str(config), "--run-root", str(tmp_path)]
        command += ["--set", f"validation.severities=[{', '.join(_LENIENT)}]"]
        before = _children_cpu_seconds()
        process = subprocess.Popen(command, cwd=ROOT, env=_ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if f"{component} started" in line:
                    break
            time.sleep(1)
            used = psutil.Process(process.pid).cpu_times()
            process.send_signal(signal.SIGINT)
            assert process.wait(_LIMIT_SECONDS) == 130, component
            assert _children_cpu_seconds() - before - used.user - used.system < _CPU_SECONDS_TO_END, component
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        record = next(read_newest_records(RunRoot(tmp_path)))
        assert (record.get_state(locked=False), record.reason) == (RunState.ABORTED, "SIGINT"), component
