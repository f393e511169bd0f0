"""The tool on a run root of real runs: a good one, one below its threshold, one killed, one with a folder removed."""

import json
import shutil
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.faults import injections
from tests.faults.processes import Place
from tests.faults.small import small_config
from tests.pipeline.alerts.webhooks import SECRET, receiver

pytestmark = pytest.mark.proof

DATA_NODES = ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform")
MODEL_NODES = ("Trainer", "Evaluator", "InfraValidator")


class _Place:
    """A config, a run root, and what is done there."""

    def __init__(self, config: Path, root: Path) -> None:
        self.config, self.root = config, root

    def _arguments(self, *settings: str, until: str | None = None) -> list[str]:
        flags = [flag for setting in settings for flag in ("--set", setting)]
        flags += ["--until", until] if until else []
        return ["--config", str(self.config), "--run-root", str(self.root), "--quiet", *flags]

    def run(self, *settings: str, until: str | None = None) -> int:
        return forked.run("local_runner.py", *self._arguments(*settings, until=until)).returncode

    def killed_in(self, node: str, *settings: str) -> str:
        """Run the pipeline until it is killed in a node; return the run's id."""
        place = Place(self.config, self.root)
        code, output = place.run(*settings, fault=partial(injections.in_executor, node, injections.die))
        assert code == -signal.SIGKILL, output
        return max(self.root.glob("records/*.json")).stem

    def oncall(self, *arguments: str, code: int = 0) -> Any:
        done = forked.run("oncall", *arguments, "--run-root", str(self.root), "--json")
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def states(self) -> dict[str, str]:
        return {node["node"]: node["state"] for node in self.oncall("show", "latest")["nodes"]}


def _kinds(diagnosis: Any) -> list[str]:
    return [finding["kind"] for finding in diagnosis["findings"]]


def _of(states: dict[str, str], nodes: Sequence[str]) -> set[str]:
    return {states[node] for node in nodes}


def test_good_bad_killed_and_damaged_runs_are_told_apart_and_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path / "data")
    with config.open("a") as file:
        file.write("alerts: {webhook_env: HOOK}\n")
    place = _Place(config, tmp_path / "run")
    with receiver() as hook:
        monkeypatch.setenv("HOOK", hook.url)
        stopped = _a_run_stops_as_asked(place)
        good = _a_good_run_serves(place, stopped)
        _a_model_below_its_threshold_is_explained(place, good)
        _a_killed_run_is_seen_and_resumed(place)
        alerts = [(alert["event"], alert["state"], alert["node"], alert["count"]) for alert in hook.documents]
        assert alerts == [
            ("failure", "FAILED", "Evaluator", 1),
            ("failure", "CRASHED", "Trainer", 2),
            ("recovered", "SUCCEEDED", None, 2),
        ]
        assert {alert["since"] for alert in hook.documents} == {hook.documents[0]["since"]}
    for path in place.root.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    _a_removed_folder_is_made_anew(place)
    _what_gc_leaves_is_enough_for_the_next_run(place)


def _a_run_stops_as_asked(place: _Place) -> str:
    assert place.run(until="Gate") == 0
    run = place.oncall("show", "latest")
    assert (run["state"], run["cause"]) == ("INCOMPLETE", "stopped after Gate, as asked")
    states = place.states()
    assert (_of(states, DATA_NODES[:-1]), _of(states, ("Transform", *MODEL_NODES))) == ({"complete"}, {"not reached"})
    return str(run["run"])


def _a_good_run_serves(place: _Place, stopped: str) -> str:
    assert place.run() == 0
    nodes = {node["node"]: (node["state"], node["made_by"]) for node in place.oncall("show", "latest")["nodes"]}
    assert {nodes[name] for name in DATA_NODES[:-1]} == {("cached", stopped)}
    assert nodes["Transform"] == ("complete", "")
    assert place.oncall("check")["ok"] is True
    assert place.oncall("doctor")["findings"] == []
    (version,) = place.oncall("serving")["versions"]
    assert (sum(version["rows"].values()), version["fits"]) == (1000, True)
    assert version["blessings"] == {"ModelBlessing": True, "InfraBlessing": True}
    assert version["fingerprint"].startswith("split:train,num_files:1,")
    up = place.oncall("lineage", "v1")["made_from"]
    assert (up["node"], up["run"]) == ("Trainer", version["run"])
    return str(version["run"])


def _a_model_below_its_threshold_is_explained(place: _Place, good: str) -> None:
    assert place.run("evaluation.thresholds=[{metric: auc, lower_bound: 0.999}]") == 4
    cause = place.oncall("why", "latest")
    assert (cause["state"], cause["exit_code"]) == ("FAILED", 4)
    assert "Evaluator: the model is not blessed: auc 0." in cause["cause"]
    assert cause["missed"][0].endswith("; at least 0.999 expected")
    assert any("NotBlessedError" in line for line in cause["lines"])
    assert cause["try"][0].startswith(f"python -m oncall diff {good} {cause['run']} ")
    written = place.oncall("log", "latest")
    assert (written["node"], "NotBlessedError" in written["lines"][-1]) == ("InfraValidator", True)
    assert any("epoch 1 of 8" in line for line in place.oncall("log", good, "Trainer")["lines"])
    assert place.oncall("check", code=1)["checks"][0]["ok"] is False
    changes = place.oncall("diff", good, "latest")
    assert changes["config"] == {"evaluation.thresholds.0.lower_bound": [0.3, 0.999]}
    assert (changes["data"], changes["schema"], changes["statistics"]) == ({}, {}, {})


def _a_killed_run_is_seen_and_resumed(place: _Place) -> None:
    killed = place.killed_in("Trainer", "training.epochs=9")
    assert place.oncall("runs")["runs"][0]["state"] == "CRASHED"
    cause = place.oncall("why", "latest")
    assert (cause["run"], cause["state"], cause["node"]) == (killed, "CRASHED", "Trainer")
    assert f"python -m oncall resume {killed}" in cause["try"][0]
    alerted = place.oncall("check", "--alert", code=1)
    assert (alerted["checks"][0]["ok"], alerted["alert"]) == (False, "posted")
    assert place.oncall("check", "--alert", code=1)["alert"] == ""
    assert "run" in _kinds(place.oncall("doctor", code=1))

    resumed = place.oncall("resume", killed)
    assert resumed["exit_code"] == 0
    states = place.states()
    assert (_of(states, DATA_NODES), _of(states, MODEL_NODES)) == ({"cached"}, {"complete"})
    run = place.oncall("show", "latest")
    assert (run["resumes"], run["state"]) == (killed, "SUCCEEDED")
    assert place.oncall("doctor")["findings"] == []
    assert place.oncall("check")["ok"] is True
    assert place.oncall("resume", "latest")["resumed"] is False


def _a_removed_folder_is_made_anew(place: _Place) -> None:
    (graph, *_) = sorted((place.root / "artifacts" / "Transform" / "transform_graph").iterdir())
    shutil.rmtree(graph)
    assert _kinds(place.oncall("doctor", code=1)) == ["missing"]
    assert place.run("training.epochs=9") == 0
    states = place.states()
    assert (states["ExampleGen"], states["Transform"], states["Pusher"]) == ("cached", "complete", "complete")
    # The run has marked it: no resolver finds it either.
    assert place.oncall("doctor")["findings"] == []


def _what_gc_leaves_is_enough_for_the_next_run(place: _Place) -> None:
    planned = place.oncall("gc", "--keep-last", "1")
    assert planned["bytes"] > 0
    assert planned["gone"] == []
    done = place.oncall("gc", "--keep-last", "1", "--yes")
    assert done["folders"] == planned["folders"]
    assert not any(Path(folder).exists() for folder in done["folders"])
    assert place.oncall("doctor")["findings"] == []
    assert place.run("training.epochs=9") == 0
    assert _of(place.states(), (*DATA_NODES, *MODEL_NODES)) == {"cached"}
    assert place.oncall("check")["ok"] is True
