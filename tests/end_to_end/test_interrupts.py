"""SIGTERM and Ctrl-C at every stage of a real run: its record says so, nothing stays open, the next run succeeds."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tfx.orchestration.portable.launcher import Launcher

from pipeline.alerts import notifier
from pipeline.config.nodes import list_nodes
from pipeline.config.pipeline_config import load
from pipeline.run import dag_runner, local
from pipeline.run.records import RecordFile, RunState, create_record, read_newest_records
from pipeline.run.run_root import RunRoot
from tests import forked
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.proof]


def _send() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _before(place: Any, name: str, act: Callable[[], None] = _send) -> AbstractContextManager[Any]:
    """Do something before each call of a function."""
    original = getattr(place, name)

    def call(*arguments: Any, **named: Any) -> Any:
        act()
        return original(*arguments, **named)

    return mock.patch.object(place, name, call)


def _swallow() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        _send()


def _raise_another_error() -> None:
    _swallow()
    raise RuntimeError("a bundle failed")


@contextlib.contextmanager
def _interrupt_twice() -> Iterator[None]:
    with _before(Launcher, "_run_executor"), _before(dag_runner, "_settle"):
        yield


def _interrupt_at_every_stage(config: Path, root: Path, results_file: Path) -> None:
    """Interrupt ExampleGen of one run after the other in this process, and write how each ended."""
    os.environ["HOOK"] = "http://127.0.0.1:9/never"
    stages = {
        "before the first node": _before(local, "_settle_unfinished"),
        "driver": _before(Launcher, "_prepare_execution"),
        "executor": _before(Launcher, "_run_executor"),
        "executor, another error": _before(Launcher, "_run_executor", _raise_another_error),
        "executor, swallowed": _before(Launcher, "_run_executor", _swallow),
        "publish": _before(Launcher, "_publish_successful_execution"),
        "between": _before(local.RunView, "on_node_end"),
        "while it settles": _interrupt_twice(),
        "summary": _before(local, "describe_serving"),
        "alert": _before(notifier, "post"),
    }
    loaded, results = load(config, ["alerts.webhook_env=HOOK", "alerts.events=[success]"]), {}
    for stage, patched in stages.items():
        until = "ExampleGen" if stage in ("summary", "alert") else None
        with patched:
            code = local.run(loaded, run_root=root, use_cache=False, output="quiet", until=until)
        record = next(read_newest_records(RunRoot(root)))
        nodes = {name: node.state for name, node in record.nodes.items()}
        results[stage] = [code, record.get_state(locked=False), record.reason, nodes, record.alert]
    results_file.write_text(json.dumps(results))


def _running(root: Path) -> int:
    with sqlite3.connect(root / "metadata.sqlite") as database:
        (count,) = database.execute("select count(*) from Execution where last_known_state in (1, 2)").fetchone()
    return int(count)


def test_sigterm_at_every_stage_is_on_record(small_census: Callable[..., Path], tmp_path: Path) -> None:
    root, results_file = tmp_path / "run", tmp_path / "results.json"
    process = forked.context().Process(target=_interrupt_at_every_stage, args=(small_census(), root, results_file))
    process.start()
    process.join(600)
    assert process.exitcode == 0
    results = json.loads(results_file.read_text())
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
    """Leave the record of a run that was killed in Trainer; return its ID."""
    loaded = load(config)
    root.mkdir()
    file = RecordFile(
        RunRoot(root), create_record(loaded, "20200101", log=None, expected=list_nodes(loaded), resumes=None)
    )
    file.record.process_started -= 100
    file.on_node_start("Trainer")
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
    record = next(read_newest_records(RunRoot(root)))
    assert (process.returncode, out, record.get_state(locked=False)) == (130, "", RunState.ABORTED)
    assert (record.reason, record.nodes) == (number.name, {})
    lines = err.splitlines()
    assert lines[0].startswith(f"census-income: run {killed} CRASHED in Trainer, on ")
    (place,) = [
        number for number, line in enumerate(lines) if f"run {record.run_id} ABORTED with exit code 130" in line
    ]
    assert lines[place + 1] == f"why      interrupted by {number.name}"
    assert ", 2 times in a row" in lines[place + 2]
