"""The whole road on Vertex AI, by vertex_runner.py and the real client, against the emulator on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests import forked
from tests.conftest import ROOT
from tests.run_commands import run_json
from tests.vertex_fixtures import ACCOUNT, BUCKET, Bench

pytestmark = [pytest.mark.slow, pytest.mark.proof]

WORKERS = "europe-west4-docker.pkg.dev/my-project/pipelines/dataflow:v1"


@pytest.fixture
def config(small_census: Callable[..., Path], bench: Bench) -> Path:
    """Return a small census whose data lies in the emulator's storage too."""
    path = small_census()
    values = yaml.safe_load(path.read_text())
    values["vertex"] |= {
        "pipeline_root": f"gs://{BUCKET}/root",
        "input_base": f"gs://{BUCKET}/data",
        "api_endpoint": bench.server.endpoint,
        # The emulator checks roles: tasks run as this account.
        "service_account": ACCOUNT,
    }
    # Every job graph is built as Dataflow would get it, before it runs here.
    values["beam"] = {"runner": "dataflow", "sdk_image": WORKERS}
    # The smallest canary that is still answered in a few requests.
    values["push"]["vertex"]["traffic_steps"] = [30, 100]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    (bench.server.emulator.storage / BUCKET / "data").symlink_to(values["data"]["base"])
    return path


def vertex_runner(config: Path, command: str, *arguments: str) -> tuple[int, Any]:
    """Return the exit code and the JSON of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VERTEX_API_ENDPOINT")
        done = forked.run("vertex_runner.py", command, *arguments, "--config", str(config), "--json", timeout=900)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def states(job: dict[str, Any]) -> dict[str, str]:
    return {task["name"]: task["state"] for task in job["tasks"]}


@pytest.mark.timeout(1800)
def test_from_submit_to_a_canary_of_two_machines_to_a_rollback(config: Path, bench: Bench, tmp_path: Path) -> None:
    code, first = vertex_runner(config, "submit", "--wait", "--job-id", "run-1")
    assert (code, first["exit_code"], first["state"]) == (0, 0, "SUCCEEDED"), first
    assert set(states(first).values()) == {"SUCCEEDED"}
    assert bench.serving() == {1: 100}
    assert bench.aliases() == {1: ["champion", "default", "v1"]}
    graphs = [line for log in _task_logs(bench, "run-1") for line in log.splitlines() if "Dataflow's job graph" in line]
    # Transform takes two.
    assert len(graphs) >= 4, graphs
    _check_model_is_that_of_a_local_run(config, bench, tmp_path)

    assert vertex_runner(config, "submit", "--job-id", "run-1")[1]["submitted"] is False
    code, plan = vertex_runner(config, "submit", "--dry-run")
    assert (code, plan["push"]) == (
        0,
        "version 2 of census-income, 30 % canary on endpoint census-income, undeploy none",
    )

    several = (
        "training.distribution=multi_worker",
        "vertex.machines={Trainer: {replicas: 2, machine_type: n1-standard-4}}",
    )
    changes = [part for setting in (*several, "push.vertex.traffic_steps=[30]") for part in ("--set", setting)]
    code, second = vertex_runner(config, "submit", "--wait", "--job-id", "run-2", *changes)
    assert code == 0, second
    assert states(second)["Transform"] == "SKIPPED"  # Vertex's state of a reused task
    assert states(second)["Trainer"] == "SUCCEEDED"
    assert bench.serving() == {1: 70, 2: 30}
    logs = sorted(log.name for log in (bench.server.emulator.state / "custom-jobs").rglob("*.log"))
    assert logs == ["chief-0.log", "worker-0.log"]
    assert vertex_runner(config, "status", "run-2")[1]["state"] == "SUCCEEDED"

    where = ["--project", "my-project", "--region", "europe-west4", "--model", "census-income", "--yes"]
    assert forked.run("serving.registry", "promote", *where).returncode == 0
    assert bench.serving() == {2: 100}
    assert forked.run("serving.registry", "rollback", *where).returncode == 0
    assert bench.serving() == {1: 100}

    code, third = vertex_runner(config, "submit", "--wait", "--job-id", "run-3", *changes)
    assert (code, states(third)["Trainer"]) == (0, "SKIPPED")
    assert bench.serving() == {1: 100}

    # The local run, of another pipeline, has taken the name; all steps before Pusher are reused.
    taken = ("--set", "push.model_name=census-local")
    code, clash = vertex_runner(config, "submit", "--wait", "--job-id", "run-4", *taken)
    (failed,) = [task for task in clash["tasks"] if task["state"] == "FAILED"]
    assert (code, failed["name"]) == (5, "Pusher")
    assert "is taken: version 1 of" in failed["error"]
    assert "belongs to the pipeline 'another-pipeline'" in failed["error"]
    assert states(clash)["Trainer"] == "SKIPPED"
    assert bench.serving() == {1: 100}
    _check_what_is_on_call()


def test_a_rehearsal_that_is_ended_leaves_nothing_running(small_census: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "rehearsal"
    line = [sys.executable, str(ROOT / "vertex_runner.py"), "rehearse", "--folder", str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "VERTEX_API_ENDPOINT"}
    with subprocess.Popen(
        [*line, "--config", str(small_census())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as running:
        assert running.stdout is not None
        while not running.stdout.readline().rstrip().endswith("ExampleGen"):
            assert running.poll() is None
        until = time.monotonic() + 60
        while not any(log.stat().st_size for log in folder.glob("logs/*/ExampleGen.log")):
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        output = running.stdout.read()
    assert (running.returncode, output) == (130, "interrupted\n")
    why = on_call("why", "latest", "--run-root", str(folder))
    assert (why["state"], why["node"], why["exit_code"]) == ("ABORTED", "ExampleGen", 130)
    assert why["cause"] == "interrupted by SIGTERM in ExampleGen"
    assert why["log"] == str(folder / "logs" / why["run"] / "ExampleGen.log")
    assert f"vertex_runner.py rehearse --folder {folder}" in why["try"][0]
    left = [p.cmdline() for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]
    assert not left


def on_call(*arguments: str) -> Any:
    """Return the JSON of a command of `python -m oncall`, whatever its exit code."""
    done = forked.run("oncall", *arguments, "--json", timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def _check_what_is_on_call() -> None:
    """Check what the four jobs left, by the commands of the on-call engineer."""
    where = ("--project", "my-project", "--region", "europe-west4")
    runs = on_call("runs", *where)["runs"]
    assert {run["run"]: run["state"] for run in runs} == {
        "run-1": "SUCCEEDED",
        "run-2": "SUCCEEDED",
        # Its baseline is another than that of run-2: the Evaluator has looked again.
        "run-3": "SUCCEEDED",
        "run-4": "FAILED",
    }
    why = on_call("why", "latest", *where)
    assert (why["run"], why["node"], why["exit_code"]) == ("run-4", "Pusher", 5)
    assert "is taken: version 1 of" in why["cause"]
    made_by = {node["node"]: node["made_by"] for node in on_call("show", "run-3", *where)["nodes"]}
    assert (made_by["ExampleGen"], made_by["Transform"], made_by["Trainer"]) == ("run-1", "run-1", "run-2")

    first, second = on_call("serving", "--model", "census-income", *where)["versions"]
    assert [(v["run"], v["state"], v["traffic"], v["fits"]) for v in (first, second)] == [
        ("run-1", "champion", 100, True),
        ("run-2", "previous", 0, True),
    ]
    for version in (first, second):
        assert version["rows"]["test"] == 1500
        assert version["fingerprint"].startswith("split:train,num_files:1")
        assert (len(version["schema_hash"]), version["blessings"]) == (
            16,
            {"ModelBlessing": True, "InfraBlessing": True},
        )
        assert version["metrics"]["auc"] > 0.8
    made_from = on_call("lineage", "v2", "--model", "census-income", *where)["made_from"]
    assert (made_from["run"], made_from["node"]) == ("run-2", "Trainer")
    # What was shown above is not shown again.
    assert {branch["run"] for branch in made_from["branches"] if not branch.get("again")} == {"run-1"}
    changed = on_call("diff", "run-1", "run-2", *where)
    assert {"statistics", "schema", "data", "code", "packages"} == {
        name for name in ("statistics", "schema", "data", "code", "packages") if not changed[name]
    }
    assert any(name.startswith("Pusher.registry.deployment.traffic_steps") for name in changed["config"])
    anomalies = on_call("anomalies", "run-1", *where)
    assert anomalies["gate"] == "passed"
    bad = [check["name"] for check in on_call("check", "--model", "census-income", *where)["checks"] if not check["ok"]]
    assert bad == ["newest run"]
    assert [f["kind"] for f in on_call("doctor", "--model", "census-income", *where)["findings"]] == ["run"]


def _task_logs(bench: Bench, job_id: str) -> list[str]:
    return [log.read_text() for log in bench.server.emulator.state.rglob(f"{job_id}/*.log")]


def _check_model_is_that_of_a_local_run(config: Path, bench: Bench, tmp_path: Path) -> None:
    """Compare the evaluation in the registry with a local run's, pushed from here by another pipeline under another name.

    Two runs differ by the order of floating-point sums.
    """
    settings = ("beam={runner: direct}", "push.target=vertex", "name=another-pipeline", "push.model_name=census-local")
    local = run_json(config, tmp_path / "local", *(part for setting in settings for part in ("--set", setting)))
    assert (local["exit_code"], local["serving"]) == (
        0,
        "version 1 with 100 % of census-local on endpoint census-local",
    ), local
    assert replace(bench, name="census-local").serving() == {1: 100}
    client = bench.vertex().models
    (on_vertex,) = client.list_model_evaluations(parent=f"{bench.model().resource}@1")
    (from_here,) = client.list_model_evaluations(parent=f"{replace(bench, name='census-local').model().resource}@1")
    for metric, tolerance in {"auRoc": 0.003, "logLoss": 0.003}.items():
        assert on_vertex.metrics[metric] == pytest.approx(from_here.metrics[metric], abs=tolerance)
