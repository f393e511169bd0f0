"""SIGTERM and Ctrl-C at every stage of a real run: its record says so, nothing stays open, the next run succeeds."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.nodes import nodes
from pipeline.config.pipeline_config import load
from pipeline.run.records import RecordFile, RunState, create_record, newest_records
from pipeline.run.run_root import RunRoot
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.proof]

# Each interrupts ExampleGen of one run, in this process, so that TFX is loaded once: see _STAGES.
PROGRAM = """
import contextlib, json, os, pathlib, signal, sys
from unittest import mock
from pipeline.config import pipeline_config as config
from pipeline.run import dag_runner as runner, local
from pipeline.alerts import notifier
from pipeline.run.records import newest_records
from pipeline.run.run_root import RunRoot
from tfx.orchestration.portable.launcher import Launcher

def send(): os.kill(os.getpid(), signal.SIGTERM)

def before(place, name, act=send):
    original = getattr(place, name)
    def replaced(*arguments, **named):
        act()
        return original(*arguments, **named)
    return mock.patch.object(place, name, replaced)

def swallowed():
    try: send()
    except KeyboardInterrupt: pass

def became_another():
    try: send()
    except KeyboardInterrupt: raise RuntimeError("a bundle failed") from None

@contextlib.contextmanager
def twice():
    with before(Launcher, "_run_executor"), before(runner, "_settle"):
        yield

STAGES = {
    "before the first node": before(local, "_settle_unfinished"),
    "driver": before(Launcher, "_prepare_execution"),
    "executor": before(Launcher, "_run_executor"),
    "executor, another error": before(Launcher, "_run_executor", became_another),
    "executor, swallowed": before(Launcher, "_run_executor", swallowed),
    "publish": before(Launcher, "_publish_successful_execution"),
    "between": before(local.RunView, "node_finished"),
    "while it settles": twice(),
    "summary": before(local, "serving_text"),
    "alert": before(notifier, "post"),
}
loaded = config.load(sys.argv[1], ["alerts.webhook_env=HOOK", "alerts.events=[success]"])
root, found = pathlib.Path(sys.argv[2]), {}
for stage, patched in STAGES.items():
    until = "ExampleGen" if stage in ("summary", "alert") else None
    with patched:
        code = local.run(loaded, run_root=root, use_cache=False, output="quiet", until=until)
    record = next(newest_records(RunRoot(root)))
    nodes = {name: node.state for name, node in record.nodes.items()}
    found[stage] = [code, record.state(locked=False), record.reason, nodes, record.alert]
json.dump(found, sys.stdout)
"""


def _running(root: Path) -> int:
    with sqlite3.connect(root / "metadata.sqlite") as database:
        (count,) = database.execute("select count(*) from Execution where last_known_state in (1, 2)").fetchone()
    return int(count)


def test_sigterm_at_every_stage_is_on_record(
    small_census: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, root = small_census(), tmp_path / "run"
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/never")
    command = [sys.executable, "-c", PROGRAM, str(config), str(root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    begun = {"ExampleGen": "failed"}
    aborted = {
        "before the first node": {},
        **dict.fromkeys(("driver", "executor", "executor, another error", "publish"), begun),
        # The next run settles it.
        "while it settles": {"ExampleGen": "running"},
        "executor, swallowed": {"ExampleGen": "complete"},
        "between": {"ExampleGen": "complete"},
    }
    for stage, reached in aborted.items():
        assert results[stage] == [130, "ABORTED", "SIGTERM", reached, ""], stage
    # These had ended before; what comes after cannot change how.
    over = {"ExampleGen": "complete"}
    assert results["summary"][:4] == [0, "INCOMPLETE", "", over]
    assert results["alert"] == [0, "INCOMPLETE", "", over, "not posted: interrupted"]
    assert _running(root) == 0


def _killed_before(config: Path, root: Path) -> str:
    """Leaves the record of a run that was killed in Trainer; returns its id."""
    loaded = load(config)
    root.mkdir()
    file = RecordFile(RunRoot(root), create_record(loaded, "20200101", log=None, expected=nodes(loaded), resumes=None))
    file.record.process_started -= 100
    file.node_started("Trainer")
    return file.record.run_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_tfx_is_loaded_is_on_record_and_a_killed_run_is_told_before(
    number: signal.Signals, small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = small_census(), tmp_path / "run"
    killed = _killed_before(config, root)
    command = [sys.executable, str(ROOT / "local_runner.py"), "--config", str(config), "--run-root", str(root)]
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(list(root.glob("records/*.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    # Some way into the imports.
    while "tensorflow" not in Path(f"/proc/{process.pid}/maps").read_text() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    record = next(newest_records(RunRoot(root)))
    assert (process.returncode, out, record.state(locked=False)) == (130, "", RunState.ABORTED)
    assert (record.reason, record.nodes) == (number.name, {})
    lines = err.splitlines()
    assert lines[0].startswith(f"census-income: run {killed} CRASHED in Trainer, on ")
    (place,) = [
        number for number, line in enumerate(lines) if f"run {record.run_id} ABORTED with exit code 130" in line
    ]
    assert lines[place + 1] == f"why      interrupted by {number.name}"
    assert ", 2 times in a row" in lines[place + 2]
