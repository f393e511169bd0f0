"""Whole runs with ML Metadata on real servers, one of which is killed in the middle."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from oncall.local.metadata import LocalMetadata
from pipeline.run.run_root import RunRoot
from serving.registry import LocalRegistry
from tests import forked
from tests.conftest import ROOT
from tests.database_servers import DatabaseServer

pytestmark = [pytest.mark.slow, pytest.mark.proof]

# Of the password; nothing else has it.
SECRET = "s3cret"
KILLED_IN = "Transform"


def test_a_server_that_is_killed_in_the_middle_fails_the_run_and_a_resumed_one_serves(
    database_server: DatabaseServer, small_census: Callable[..., Path], tmp_path: Path
) -> None:
    config, root = _config(small_census, database_server), RunRoot(tmp_path / "run")
    output = _run_whose_server_is_killed(config, root, database_server)
    refused = f"{KILLED_IN}: {root.database.label}: the connection was refused; is the server running there, and is "
    headline, why, *_ = output.splitlines()
    assert f" FAILED in {KILLED_IN} with exit code 6" in headline
    assert why == f"why      {refused}the port right?"
    assert LocalRegistry(root.path / "registry", "census-income").list_numbers() == []
    why = _oncall(root, "why", "latest")
    assert (why["state"], why["node"], why["exit_code"]) == ("FAILED", KILLED_IN, 6)
    assert "the connection was refused" in _oncall(root, "lineage", "1", code=6)["error"]

    database_server.start()
    assert "RUNNING" in _execution_states(root)
    assert _oncall(root, "resume", "latest")["exit_code"] == 0
    states = {node["node"]: node["state"] for node in _oncall(root, "show", "latest")["nodes"]}
    assert [states[node] for node in ("ExampleGen", "ExampleValidator", KILLED_IN, "Pusher")] == [
        "cached",
        "cached",
        "complete",
        "complete",
    ]
    assert "RUNNING" not in _execution_states(root)
    assert _oncall(root, "check")["ok"] is True
    assert _oncall(root, "doctor")["findings"] == []
    (version,) = _oncall(root, "serving")["versions"]
    assert (sum(version["rows"].values()), version["fits"]) == (4500, True)
    assert _oncall(root, "lineage", "v1")["made_from"]["node"] == "Trainer"
    planned = _oncall(root, "gc", "--keep-last", "1", "--yes")
    assert _oncall(root, "gc", "--keep-last", "1", "--yes")["artifacts"] == []
    assert not any(Path(folder).exists() for folder in planned["folders"])
    assert [path for path in root.path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in _all_texts(root)


def _config(small_census: Callable[..., Path], server: DatabaseServer) -> Path:
    config = small_census()
    values = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**values, "metadata": server.new_database()}, sort_keys=False))
    return config


def _run_whose_server_is_killed(config: Path, root: RunRoot, server: DatabaseServer) -> str:
    """Return what the run printed."""
    command = [sys.executable, str(ROOT / "local_runner.py"), "--config", str(config), "--run-root", str(root.path)]
    process = subprocess.Popen([*command, "--quiet"], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    # TFX makes the folders of an execution that is in ML Metadata.
    while not any(root.artifacts.glob(f"{KILLED_IN}/*/*")):
        assert time.monotonic() < until, f"{KILLED_IN} was never seen"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert not any(SECRET in word for process in processes for word in process.cmdline())
    server.kill()
    _, output = process.communicate(timeout=300)
    assert process.returncode == 6
    return output


def _oncall(root: RunRoot, *arguments: str, code: int = 0) -> Any:
    done = forked.run("oncall", *arguments, "--run-root", str(root.path), "--json")
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    assert SECRET not in done.stdout + done.stderr
    return json.loads(done.stdout)


def _execution_states(root: RunRoot) -> set[str]:
    metadata = LocalMetadata(root.database)
    return {
        execution.state for run in metadata.get_run_contexts() for execution in metadata.get_run_executions(run.name)
    }


def _all_texts(root: RunRoot) -> str:
    store = root.database.open_store(writable=False)
    return "".join(map(str, [*store.get_contexts(), *store.get_executions(), *store.get_artifacts()]))
