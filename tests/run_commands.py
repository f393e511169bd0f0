"""Runs of this repository's programs for tests, with the summaries that they print."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests import forked
from tests.conftest import ROOT


def start_local_runner(config: Path, run_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the pipeline in a Python process of its own, as a user does."""
    command = [sys.executable, str(ROOT / "local_runner.py"), "--config", str(config), "--run-root", str(run_root)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=600)


def run_json(config: Path, run_root: Path, *arguments: str) -> dict[str, Any]:
    """Run the pipeline in a process that forks from one with TFX loaded, and return the summary of the run."""
    flags = ("--config", str(config), "--run-root", str(run_root), "--json")
    return read_summary(forked.run("local_runner.py", *flags, *arguments))


def run_written(folder: Path, *settings: str) -> dict[str, Any]:
    """Run the config that `init` has written for the name `mine`, with a latency limit for busy machines."""
    changes = ("infra_validation.max_latency_ms=10000", *settings)
    flags = [flag for change in changes for flag in ("--set", change)]
    return run_json(folder / "configs" / "mine.yaml", folder / "run", *flags)


def read_summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the summary that a run prints with --json."""
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["exit_code"] == done.returncode
    return summary


def run_pipeline_command(*arguments: str, folder: Path | None = None) -> str:
    """Run a command of `python -m pipeline` and return its output."""
    done = forked.run("pipeline", *arguments, timeout=300, **({} if folder is None else {"folder": folder}))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def get_states(summary: dict[str, Any]) -> dict[str, str]:
    """Return the state of each node of a run."""
    return {node["id"]: node["state"] for node in summary["nodes"]}


def wait_until_busy(pid: int, seconds: float = 0.5) -> None:
    """Wait until a process has used so much more of a core: it is in the middle of its work then."""
    process = psutil.Process(pid)
    before, until = sum(process.cpu_times()[:2]), time.monotonic() + 60
    while sum(process.cpu_times()[:2]) - before < seconds:
        assert time.monotonic() < until, f"process {pid} does nothing"
        time.sleep(0.01)
