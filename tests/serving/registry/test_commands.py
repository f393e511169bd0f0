"""`python -m serving.registry`, as its users run it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.registry import DECISION_FILE, LEDGER_FILE, RELEASE_FILE, LocalRegistry, compute_content_hash
from serving.registry.__main__ import main
from tests.conftest import ROOT
from tests.serving.models import decided_at
from tests.serving.registry.local.registry_bench import model, push


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalRegistry:
    """runs/census/registry/income with three versions, below the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/census/registry")
    for number, name in enumerate("abc", 1):
        push(folder, model(tmp_path / name, name), run_id=f"run-{name}", metrics={"auc": 0.9 + number / 100})
    return LocalRegistry(folder, "income")


def run(*arguments: str) -> str:
    """Return what a command prints."""
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def run_rejected(*arguments: str, code: int) -> str:
    """Run a command that fails, and return its only line."""
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    as_json = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(as_json.stdout) == {"error": line.removeprefix("error: "), "exit_code": code}
    return line


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def cells(line: str) -> list[str]:
    """Return the cells of a table's row."""
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def test_the_list_shows_every_version_and_what_was_done(registry: LocalRegistry) -> None:
    registry.roll_back(reason="bad predictions")
    lines = run("list").splitlines()
    assert lines[0].strip() == "runs/census/registry/income"
    rows = [cells(line) for line in lines if "│" in line]
    hashes = [compute_content_hash(registry.find_folder(version))[:12] for version in (1, 2, 3)]
    assert [row[:5] for row in rows] == [
        ["1", "retired", "run-a", hashes[0], "auc 0.9100"],
        ["2", "champion", "run-b", hashes[1], "auc 0.9200"],
        ["3", "previous", "run-c", hashes[2], "auc 0.9300"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row[5]) and row[6] == "0.0 MB" for row in rows)
    by = registry.read_ledger().history[-1].by
    assert [line.partition("Z  ")[2] for line in lines[-4:]] == [
        f"push of version 1 by {by}",
        f"push of version 2 by {by}; version 1 served",
        f"push of version 3 by {by}; version 2 served",
        f"rollback to version 2 by {by}; version 3 served: bad predictions",
    ]


def test_the_list_as_json(registry: LocalRegistry) -> None:
    listed = run_json("list")
    assert (listed["model"], listed["serving"]) == ("runs/census/registry/income", 3)
    third = listed["versions"][2]
    assert third["bytes"] == sum(p.stat().st_size for p in registry.find_folder(3).rglob("*") if p.is_file())
    assert {key: third[key] for key in ("version", "state", "pipeline", "run_id", "model_id", "metrics")} == {
        "version": 3,
        "state": "champion",
        "pipeline": "census",
        "run_id": "run-c",
        "model_id": 7,
        "metrics": {"auc": 0.93},
    }
    assert [event["action"] for event in listed["history"]] == ["push"] * 3


def test_the_list_of_many_metrics_and_of_versions_that_are_not_ours(registry: LocalRegistry, tmp_path: Path) -> None:
    metrics = {"example_count": 3.0, "log_loss": 0.3, "auc": 0.94}
    push(tmp_path / "runs/census/registry", model(tmp_path / "d", "d"), metrics=metrics)
    (registry.find_folder(1) / RELEASE_FILE).unlink()
    # Copied by hand.
    shutil.copytree(registry.find_folder(2), registry.find_folder(9))
    shutil.copytree(registry.find_folder(1), registry.find_folder(10))
    rows = {row[0]: row for row in map(cells, run("list").splitlines()) if row}
    assert rows["1"][1:5] == ["retired", "", "", ""]
    assert rows["10"][1] == "of another tool"
    assert rows["4"][4] == "auc 0.9400, example_count 3.0000"
    assert rows["9"][1] == "unexplained"


def test_one_version_is_shown_with_whether_its_files_are_those_that_were_pushed(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    push(tmp_path / "runs/census/registry", model(tmp_path / "d", "d"), golden=b"{}", run_id="run-d")
    release = registry.read_release(4)
    assert release is not None
    assert run("show").splitlines() == [
        "version   4, champion",
        "path      runs/census/registry/income/4",
        "pipeline  census",
        "run       run-d",
        "model     7 in ML Metadata",
        f"pushed    {release.pushed_at}",
        f"content   {release.content_hash} fits the files",
        "size      0.0 MB",
        "beside    assets.extra/golden.json, assets.extra/release.json",
        f"{registry.read_ledger().history[3].at}  push of version 4 by {registry.read_ledger().history[3].by}; version 3 served",
    ]
    assert "metric    auc 0.9200" in run("show", "2").splitlines()
    assert run("show", "2") == run("show", "--version", "2")
    assert run_json("show", "2")["content_fits"] is True
    (registry.find_folder(2) / "saved_model.pb").write_text("tampered")
    assert "DOES NOT FIT THE FILES: they were changed since the push" in run("show", "2")
    assert run_json("show", "2")["content_fits"] is False
    (registry.find_folder(2) / RELEASE_FILE).unlink()
    assert run("show", "2").splitlines()[:3] == [
        "version   2, retired",
        "path      runs/census/registry/income/2",
        "content   unknown: no release.json records the push",
    ]


def test_a_version_is_shown_with_its_threshold(registry: LocalRegistry, tmp_path: Path) -> None:
    folder = model(tmp_path / "d", "d")
    (folder / DECISION_FILE).parent.mkdir()
    (folder / DECISION_FILE).write_text(decided_at(0.25).model_dump_json())
    push(tmp_path / "runs/census/registry", folder)
    text = (
        "threshold 0.25 (false positive 1, false negative 5; chosen on 3,269 rows of eval): mean cost 0.25 on eval, "
        "0.375 at 0.5"
    )
    assert f"decision  {text}" in run("show").splitlines()
    decision = run_json("show")["decision"]
    assert (decision["threshold"], decision["costs"]["cost_false_negative"], decision["text"]) == (0.25, 5, text)
    assert run_json("show", "1")["decision"] is None


def test_a_rollback_is_shown_first_then_done_and_recorded(registry: LocalRegistry) -> None:
    assert run("rollback") == (
        "would rollback: version 2 of income would serve, and now version 3 does; add --yes to do it\n"
    )
    assert registry.read_champion() == 3
    assert run("rollback", "--yes", "--reason", "bad predictions") == "version 2 of income serves; before: version 3\n"
    assert registry.read_ledger().history[-1].reason == "bad predictions"
    assert run("rollback", "--version", "2", "--yes") == "nothing to do: version 2 serves\n"
    assert run_json("rollback", "--yes") == {
        "action": "rollback",
        "version": 3,
        "champion_before": 2,
        "changed": True,
        "traffic_before": {"2": 100},
        "serving": 3,
        "traffic": {"3": 100},
    }


def test_a_candidate_is_promoted(registry: LocalRegistry, tmp_path: Path) -> None:
    push(tmp_path / "runs/census/registry", model(tmp_path / "d", "d"), promote=False)
    planned = {"action": "promote", "version": 4, "champion_before": 3, "traffic_before": {"3": 100}}
    assert run_json("promote") == {**planned, "changed": False, "serving": 3, "traffic": {"3": 100}}
    assert run_json("promote", "--yes") == {**planned, "changed": True, "serving": 4, "traffic": {"4": 100}}
    assert run("promote", "--version", "1") == (
        "would promote: version 1 of income would serve, and now version 4 does; add --yes to do it\n"
    )


def test_the_first_promotion_of_all_replaces_nothing(tmp_path: Path) -> None:
    push(tmp_path, model(tmp_path / "models" / "a"), promote=False)
    assert run("promote", "--registry", str(tmp_path), "--model", "income", "--yes") == (
        "version 1 of income serves; before: no version\n"
    )


def test_gc_says_what_it_would_delete_and_deletes_it(registry: LocalRegistry) -> None:
    assert run("gc") == "would delete no version\n"
    assert run("gc", "--keep-last", "1") == "would delete 1; add --yes to do it\n"
    assert registry.list_numbers() == [1, 2, 3]
    assert run_json("gc", "--keep-last", "1", "--yes") == {"action": "gc", "versions": [1], "changed": True}
    assert registry.list_numbers() == [2, 3]
    assert run("gc", "--keep-last", "1", "--yes") == "deleted no version\n"


def test_the_registry_may_be_named_by_a_flag_or_the_environment(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    folder = str(tmp_path / "runs/census/registry")
    assert run_json("list", "--registry", folder)["serving"] == 3
    monkeypatch.setenv("REGISTRY", folder)
    assert run_json("list", "--model", "income")["serving"] == 3


def test_if_several_models_could_be_meant_they_are_listed(registry: LocalRegistry, tmp_path: Path) -> None:
    shutil.copytree("runs/census", "runs/other")
    both = "--registry runs/census/registry --model income or --registry runs/other/registry --model income"
    assert run_rejected("list", code=2) == f"error: several models could be meant; choose one with {both}"
    assert run_rejected("list", "--model", "income", code=2).endswith(both)
    shutil.move("runs/other/registry/income", "runs/other/registry/churn")
    assert run_json("list", "--model", "churn")["model"] == "runs/other/registry/churn"


def test_what_cannot_be_found_is_named(
    registry: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "runs/census/registry"
    assert run_rejected("list", "--model", "churn", code=5) == f"error: {folder}: no model churn; there is income"
    assert run_rejected("list", "--registry", "nowhere", code=2) == (
        "error: --registry: nowhere is not a folder; expected the registry's, with a folder per model"
    )
    assert run_rejected("list", "--registry", f"{folder}/income", code=2) == (
        f"error: --registry: {folder}/income is a model's folder; expected the one above, and the name as --model"
    )
    monkeypatch.chdir("runs/census/registry/income")
    assert run_rejected("list", "--registry", ".", code=2).startswith("error: --registry: . is a model's folder")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert run_rejected("list", "--registry", ".", code=5) == "error: .: holds no model"
    assert run_rejected("list", code=2) == (
        f"error: {tmp_path}/empty: runs/*/registry holds no model; name the registry's folder with --registry"
    )


def test_what_is_refused_is_one_line_with_its_code(registry: LocalRegistry) -> None:
    folder = "runs/census/registry/income"
    assert run_rejected("promote", "--yes", code=5) == (
        f"error: {folder}: no version waits for its promotion; name one with --version"
    )
    assert run_rejected("show", "9", code=5) == f"error: {folder}: has no version 9; it has 1, 2, 3"
    assert run_rejected("show", "1", "--version", "2", code=2) == "error: --version: 2 is not 1; name one version"
    (registry.folder / LEDGER_FILE).write_text("{}")
    for command in ("list", "show", "promote", "rollback", "gc"):
        assert run_rejected(command, code=5).startswith(
            f"error: {folder}/{LEDGER_FILE}: is damaged (expected an object with"
        )


def test_wrong_flags_end_with_2(registry: LocalRegistry) -> None:
    for arguments in (["gc", "--keep-last", "0"], ["rollback", "--version", "x"], ["show", "-1"], ["nothing"]):
        assert CliRunner().invoke(main, arguments).exit_code == 2


def test_an_interrupted_command_ends_with_130(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalRegistry, "gc", interrupt)
    done = CliRunner().invoke(main, ["gc", "--yes"])
    assert (done.exit_code, done.stderr) == (130, "interrupted; run the command again to finish what was begun\n")


def test_what_may_not_be_read_is_one_line(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    def deny_ledger(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).endswith("registry.json"):
            deny(path)
        return open_file(path, *arguments, **named)

    open_file = os.open
    for place, name, replacement in ((os, "open", deny_ledger), (Path, "rglob", deny), (Path, "iterdir", deny)):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, replacement)
            assert re.fullmatch(
                r"error: runs/census/registry.*: (cannot be read: )?Permission denied", run_rejected("list", code=5)
            )


def test_the_command_starts_without_anything_heavy(registry: LocalRegistry) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "serving.registry", "list", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout)["serving"] == 3
    listing = "import sys, serving.registry.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, env=environment, check=True
    ).stdout.split()
    # What makes a command wait; the names of Google's packages alone are there from the start.
    heavy = {"tensorflow", "tfx", "apache_beam", "keras", "numpy", "pyarrow", "pydantic", "google.protobuf", "grpc"}
    assert heavy.isdisjoint(loaded)


def test_a_reader_that_leaves_ends_the_command_quietly(registry: LocalRegistry) -> None:
    command = f"{sys.executable} -m serving.registry show --registry {registry.folder.absolute().parent} | true"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_folder_and_a_project_are_not_both_named(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(registry.folder.parent)
    assert run_rejected("list", "--registry", folder, "--project", "my-project", code=2) == (
        "error: --registry and --project: a model is in a folder or on Vertex AI; name one of them"
    )
    monkeypatch.setenv("VERTEX_PROJECT", "my-project")
    assert run_json("list", "--registry", folder)["serving"] == 3
    assert run_rejected("list", code=2) == (
        "error: --region: is needed with --project; expected it as a flag or as VERTEX_REGION"
    )
    monkeypatch.setenv("REGISTRY", folder)
    assert run_rejected("list", code=2) == (
        "error: REGISTRY and VERTEX_PROJECT are both set; choose with --registry or --project"
    )
