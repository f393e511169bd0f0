"""`resume`: what it refuses, and what it runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run import local
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs

FIRST, SECOND = "20260101T000000.000000", "20260102T000000.000000"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PipelineConfig, dict[str, Any]]]:
    """Return the runs that were started, of which none is; each ends with 4."""
    calls: list[tuple[PipelineConfig, dict[str, Any]]] = []

    def run(config: PipelineConfig, **named: Any) -> int:
        calls.append((config, named))
        return 4

    monkeypatch.setattr(local, "run", run)
    return calls


@pytest.mark.parametrize("ends", ["fails", "crashes"])
def test_a_runs_own_config_is_run_again_with_the_cache(ends: str, runs: Runs, oncall: Oncall, started: Any) -> None:
    if ends == "fails":
        runs.run(FIRST, fails=("Trainer", "no", 1))
    else:
        runs.run(FIRST, crashes_in="Trainer")
    record = runs.root.locate_record(FIRST)
    record.write_text(record.read_text().replace('"epochs": 6', '"epochs": 7'))
    result = oncall("resume", "latest")
    assert result.exit_code == 4
    assert f"resuming run {FIRST}: 7 of 12 nodes were done" in result.stderr
    ((config, named),) = started
    assert config.training.epochs == 7
    assert named == {
        "run_root": runs.root.path,
        "use_cache": True,
        "output": "normal",
        "resumes": FIRST,
        "config_flags": [],
        "until": None,
    }
    oncall("resume", FIRST, "--json")
    assert started[1][1]["output"] == "json"


def test_a_run_that_stopped_as_asked_is_gone_on_with(runs: Runs, oncall: Oncall, started: Any) -> None:
    runs.run(FIRST, until="Gate")
    assert "6 of 12 nodes were done" in oncall("resume", FIRST).stderr
    assert started[0][1]["resumes"] == FIRST
    assert started[0][1]["until"] is None


def test_a_run_that_failed_on_its_way_to_a_node_goes_no_further(runs: Runs, oncall: Oncall, started: Any) -> None:
    runs.run(FIRST, fails=("Trainer", "no", 1), until="Evaluator")
    oncall("resume", FIRST)
    assert started[0][1]["until"] == "Evaluator"


def test_a_run_that_succeeded_is_not_run_again(runs: Runs, oncall: Oncall, started: Any) -> None:
    runs.run(FIRST)
    result = oncall("resume", FIRST)
    assert (result.exit_code, result.output) == (0, f"nothing to do: run {FIRST} SUCCEEDED\n")
    assert started == []


def test_a_run_whose_model_should_serve_and_was_changed_pushes_it_again(
    runs: Runs, oncall: Oncall, started: Any
) -> None:
    runs.run(FIRST)
    runs.run(SECOND, auc=0.95)
    (runs.registry.find_folder(1) / "saved_model.pb").write_text("mine")
    assert "nothing to do" in oncall("resume", FIRST).output
    (runs.registry.find_folder(2) / "saved_model.pb").write_text("mine")
    assert "nothing to do" in oncall("resume", FIRST).output
    assert started == []
    oncall("resume", SECOND)
    assert started[0][1]["resumes"] == SECOND


def test_nothing_is_resumed_while_a_run_goes_on(runs: Runs, oncall: Oncall, started: Any) -> None:
    runs.run(FIRST, crashes_in="Gate")
    with runs.root.lock():
        result = oncall("resume", FIRST)
    assert (result.exit_code, "a run is using it" in result.output) == (6, True)
    assert started == []


def test_a_run_without_a_record_or_with_another_checkouts_config_is_refused(
    runs: Runs, oncall: Oncall, started: Any
) -> None:
    runs.run(FIRST, crashes_in="Gate", on_record=False)
    result = oncall("resume", FIRST)
    assert (result.exit_code, "has no record; only ML Metadata has it" in result.output) == (2, True)
    runs.run(SECOND, crashes_in="Gate", overrides={"revision": "abc123"})
    record = runs.root.locate_record(SECOND)
    values = json.loads(record.read_text())
    values["config"]["novelty"] = 1
    record.write_text(json.dumps(values))
    result = oncall("resume", SECOND)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "its config is not one of this checkout's (unknown key 'novelty'" in result.output
    assert "check out abc123" in result.output
    assert started == []


def test_an_interrupt_has_its_own_exit_code(runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(config: PipelineConfig, **named: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run", interrupt)
    runs.run(FIRST, crashes_in="Gate")
    assert oncall("resume", FIRST).exit_code == 130


def test_the_run_root_is_absolute_wherever_one_stands(
    runs: Runs, started: Any, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from oncall.__main__ import main

    runs.run(FIRST, crashes_in="Gate")
    monkeypatch.chdir(runs.root.path.parent.parent)
    assert CliRunner().invoke(main, ["resume", "latest"]).exit_code == 4
    assert started[0][1]["run_root"] == Path.cwd() / "runs" / "census-income"
