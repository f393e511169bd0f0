"""Every command that is proposed is one that a shell and the program take, and it names the same run root and config."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.errors import ConfigError, DataError, PushError, RunRootError
from components.pusher.summary import PusherSummary
from oncall.__main__ import main
from pipeline.alerts.alert import create_rejection_alert, create_run_alert
from pipeline.config.pipeline_config import load
from pipeline.run import local, summary
from pipeline.run.advice import suggest_commands
from pipeline.run.records import Kind, RunState, find_config_flags, format_command_line
from pipeline.run.rejections import RejectionFile
from pipeline.run.run_root import RunRoot
from serving.registry import Candidate, LocalRegistry
from serving.registry.local.lookup import find_registry
from tests.commands import parse_command
from tests.conftest import CENSUS_CONFIG, ROOT
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import NAME, Runs

ODD = "a [b] c#d%20é?*'x"
FIRST, SECOND, THIRD = (f"2026010{day}T000000.000000" for day in (1, 2, 3))
CONFIG_FLAGS = ["--config", f"/configs/{ODD}.yaml", "--set", "data.base=a b"]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / ODD / "runs")


@pytest.mark.parametrize("code", [1, 3, 4, 5, 6])
def test_after_a_run_that_failed(code: int, runs: Runs, document: Callable[..., Any]) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Gate", "no", code), overrides={"config_flags": CONFIG_FLAGS})
    tries = document("why", "latest")["try"]
    record = next(iter_records(runs.root))
    alert = [*create_run_alert(runs.root, record).next]
    assert tries
    for line in [*tries, *alert]:
        arguments = parse_command(line)
        assert arguments["run_root"] == runs.root.path, line
        if arguments["program"] == "pipeline":
            assert (arguments["command"], arguments["run"]) == ("schema diff", SECOND)
            assert (arguments["config_file"], arguments["settings"]) == (CONFIG_FLAGS[1], ("data.base=a b",))
    assert any("schema diff" in line for line in tries) == (code == 3)


def iter_records(root: RunRoot) -> Any:
    from pipeline.run.records import read_newest_records

    return read_newest_records(root)


@pytest.mark.parametrize("error", ["No space left on device", "database is locked"])
def test_by_the_text_of_an_error(error: str, runs: Runs, document: Callable[..., Any]) -> None:
    runs.run(FIRST)
    runs.run(SECOND, fails=("Trainer", error, 1))
    for line in document("why", "latest")["try"]:
        assert parse_command(line)["run_root"] == runs.root.path


def test_checks_and_the_doctor(runs: Runs, document: Callable[..., Any], oncall: Oncall) -> None:
    runs.run(FIRST)
    (runs.registry.folder / "1" / "saved_model.pb").write_bytes(b"changed")
    runs.run(SECOND, crashes_in="Trainer")
    runs.root.locate_record(THIRD).write_text("{")
    (runs.root.artifacts / "Trainer" / "model" / "3").mkdir(parents=True)
    (runs.root.artifacts / "Trainer" / "model" / "3" / "x").write_text("x")
    lines = [check["todo"] for check in document("check")["checks"] if check["todo"]]
    lines += [finding["todo"] for finding in document("doctor")["findings"]]
    programs = {"python": 0, "mv": 0}
    for line in lines:
        command = line.partition("; or ")[2] or line
        program = shlex.split(command, comments=True)[0]
        if program not in programs:
            continue
        programs[program] += 1
        if program == "python":
            assert parse_command(command)["run_root"] == runs.root.path, line
        else:
            path = Path(shlex.split(command, comments=True)[2])
            assert path.exists(), line
    assert all(programs.values()), programs


@pytest.mark.parametrize("kind", [DataError, PushError, RunRootError])
def test_after_a_refusal(
    kind: Any, runs: Runs, document: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs.run(FIRST)
    typed = ["local_runner.py", "--config", f"{ODD}.yaml", "--run-root", str(runs.root.path), "--quiet"]
    local.record_rejection(runs.root, NAME, kind("no"), typed)
    refusal = RejectionFile(runs.root).read()
    assert refusal is not None
    here = os.getcwd()
    monkeypatch.chdir(tmp_path)
    for line in [*document("why", "latest")["try"], *create_rejection_alert(runs.root, refusal, serving="").next]:
        arguments = parse_command(line)
        assert arguments["run_root"] in (runs.root.path, str(runs.root.path))
        if arguments["program"] == "local_runner.py":
            assert (arguments["config_file"], arguments["dry_run"]) == (f"{ODD}.yaml", True)
            assert line.startswith(f"cd {shlex.quote(here)} && ")


def test_rehearsals_name_their_config(runs: Runs) -> None:
    overrides = {"kind": Kind.REHEARSAL, "config_flags": CONFIG_FLAGS, "command": ["vertex_runner.py", "rehearse"]}
    runs.run(FIRST, overrides=overrides)
    record = next(iter_records(runs.root))
    (line,) = suggest_commands(record, RunState.SUCCEEDED, "", "", None, runs.root.path)
    arguments = parse_command(line)
    assert (arguments["command"], arguments["config_file"], arguments["dry_run"]) == ("submit", CONFIG_FLAGS[1], True)


def test_the_summary_of_a_run(tmp_path: Path) -> None:
    config = load(CENSUS_CONFIG)
    root = RunRoot(tmp_path / ODD)
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "saved_model.pb").write_text("m")
    registry = LocalRegistry(root.locate_registry(config), config.push.model_name, promotes=False)
    registry.push(Candidate("p", run_id="r", model_id=1, folder=saved))
    pusher = PusherSummary(pushed=True, version=1, path=str(registry.find_folder(1)), content_hash="")
    board, serve, promote = summary.list_next_steps(config, root, "r", pusher, None)
    assert shlex.split(board)[1:] == ["--logdir", str(root.artifacts / "Trainer" / "model_run")]
    assert Path(str(parse_command(serve)["model_dir"])) == registry.folder
    assert (parse_command(promote)["registry"], parse_command(promote)["model"]) == (
        registry.folder.parent,
        registry.name,
    )
    (resume,) = summary.list_next_steps(config, root, "r", None, None)
    why, _ = summary.list_next_steps(config, root, "r", None, DataError("no"))
    for line in (resume, why):
        assert (parse_command(line)["run"], parse_command(line)["run_root"]) == ("r", root.path)


def test_an_ambiguous_place_is_answered_with_the_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (ODD, "b"):
        Runs(tmp_path / "runs" / name)
        (tmp_path / "runs" / name / "database.json").write_text("{}")
        (tmp_path / "runs" / name / "registry" / "m" / "1").mkdir(parents=True)
        (tmp_path / "runs" / name / "registry" / "m" / "1" / "saved_model.pb").write_text("m")
    message = CliRunner().invoke(main, ["runs"]).stderr
    flags = [shlex.split(part)[:2] for part in re.split(" or |choose one: ?", message)[1:]]
    assert sorted(flags) == sorted([["--run-root", f"runs/{name}"] for name in (ODD, "b")])
    with pytest.raises(ConfigError) as caught:
        find_registry(None, None)
    flags = [shlex.split(part) for part in re.split(" or | with ", str(caught.value))[1:]]
    assert sorted(flags) == sorted([["--registry", f"runs/{name}/registry", "--model", "m"] for name in (ODD, "b")])


def test_a_command_is_shown_for_the_folder_of_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["/x/oncall/__main__.py", "resume", "latest", "--run-root", "a b"]
    assert format_command_line(typed, os.getcwd()) == "python -m oncall resume latest --run-root 'a b'"
    assert format_command_line(typed, "/a b").startswith("cd '/a b' && python -m oncall resume")
    assert find_config_flags(["local_runner.py", "--set=a=b c", "--config=x/../y.yaml", "--set", "d=1"]) == [
        *("--config", os.path.abspath("y.yaml")),
        *("--set", "a=b c", "--set", "d=1"),
    ]
    assert find_config_flags(["vertex_runner.py", "rehearse"]) == ["--config", str(ROOT / "configs" / "census.yaml")]
    assert find_config_flags(["pytest", "--config", "x"]) == []
