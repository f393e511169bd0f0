"""`gc`: what goes, and above all what stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ml_metadata.proto import metadata_store_pb2 as mlmd

from oncall.__main__ import main
from oncall.local import garbage_collection
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Artifacts, Runs

IDS = [f"2026010{number}T000000.000000" for number in range(1, 7)]
Document = Callable[..., Any]


def places(made: Artifacts) -> set[str]:
    return {str(_folder(a)) for outputs in made.values() for a in outputs.values()}


def _folder(artifact: mlmd.Artifact) -> Path:
    uri = Path(artifact.uri)
    return uri.parent if uri.name == "value" else uri


def list_folders(plan: dict[str, Any]) -> set[str]:
    return set(plan["folders"])


def test_a_dry_run_changes_nothing_and_counts_bytes(runs: Runs, document: Document, oncall: Oncall) -> None:
    first = runs.run(IDS[0])
    for run_id in IDS[1:4]:
        runs.run(run_id)
    plan = document("gc", "--drop-pushed", "--keep-last", 1)
    assert plan["changed"] is False
    examples = first["ExampleGen"]["examples"].uri
    assert plan["folders"][examples] == 1000
    assert plan["bytes"] == sum(plan["folders"].values())
    assert all(Path(place).exists() for place in places(first))
    assert "add --yes to do it" in oncall("gc", "--drop-pushed", "--keep-last", 1).output


def test_what_is_removed_is_deleted_in_ml_metadata_too(runs: Runs, document: Document) -> None:
    made = [runs.run(run_id) for run_id in IDS[:4]]
    plan = document("gc", "--drop-pushed", "--keep-last", 1, "--yes")
    assert (plan["changed"], plan["not_removed"]) == (True, [])
    assert not any(Path(place).exists() for place in places(made[0]))
    assert all(Path(place).exists() for place in places(made[3]))
    states = {a.id: a.state for a in runs.store.get_artifacts()}
    assert {states[a.id] for kept in made[0].values() for a in kept.values()} == {mlmd.Artifact.DELETED}
    assert {states[a.id] for kept in made[3].values() for a in kept.values()} == {mlmd.Artifact.LIVE}
    assert document("doctor")["findings"] == []
    assert document("gc", "--drop-pushed", "--keep-last", 1, "--yes")["artifacts"] == []


def test_what_a_kept_run_took_from_the_cache_stays(runs: Runs, document: Document) -> None:
    first = runs.run(IDS[0])
    runs.run(IDS[1])
    runs.run(IDS[2])
    runs.run(IDS[3], cached=first, pushes=False)
    gone = list_folders(document("gc", "--drop-pushed", "--keep-last", 1, "--yes"))
    cached = {node: outputs for node, outputs in first.items() if node not in ("Gate", "Pusher")}
    assert places(cached) & gone == set()
    assert places({"Gate": first["Gate"]}) <= gone


def test_the_next_runs_baseline_and_history_stay(runs: Runs, document: Document) -> None:
    made = [runs.run(run_id) for run_id in IDS[:3]]
    for run_id in IDS[3:5]:
        runs.run(run_id, fails=("Trainer", "no", 1), pushes=False)
    gone = list_folders(document("gc", "--drop-pushed", "--keep-last", 1))
    # The last that succeeded is kept whole; of the one before, the model and its blessing.
    assert places(made[2]) & gone == set()
    assert made[1]["Trainer"]["model"].uri not in gone
    assert made[1]["Evaluator"]["blessing"].uri not in gone
    assert made[1]["StatisticsGen"]["statistics"].uri in gone
    assert made[0]["Trainer"]["model"].uri in gone


def test_the_statistics_that_drift_is_counted_from_stay(runs: Runs, document: Document) -> None:
    pushed = runs.run(IDS[0])
    for run_id in IDS[1:5]:
        runs.run(run_id, pushes=False)
    gone = list_folders(document("gc", "--drop-pushed", "--keep-last", 1))
    assert pushed["StatisticsGen"]["statistics"].uri not in gone
    assert pushed["Pusher"]["pushed_model"].uri not in gone
    assert pushed["ExampleGen"]["examples"].uri in gone


def test_what_a_registered_version_was_made_from_stays_if_asked(runs: Runs, document: Document) -> None:
    first = runs.run(IDS[0])
    for run_id in IDS[1:5]:
        runs.run(run_id)
    gone = list_folders(document("gc", "--keep-last", 1))
    for node, output in (("ExampleGen", "examples"), ("SchemaGen", "schema"), ("Trainer", "model")):
        assert first[node][output].uri not in gone
    assert first["Evaluator"]["evaluation"].uri not in gone
    assert first["StatisticsGen"]["statistics"].uri in gone
    assert first["ExampleGen"]["examples"].uri in list_folders(document("gc", "--drop-pushed", "--keep-last", 1))


def test_a_folder_that_a_kept_artifact_shares_stays(runs: Runs, document: Document) -> None:
    model = runs.run(IDS[0])["Trainer"]["model"]
    beside = mlmd.Artifact(type_id=model.type_id, uri=f"{model.uri}/Format-Serving", state=mlmd.Artifact.LIVE)
    runs.store.put_artifacts([beside])
    plan = document("gc", "--drop-pushed", "--keep-last", 1, "--yes")
    assert (plan["artifacts"], Path(beside.uri).is_dir()) == ([], True)


def test_nothing_outside_the_artifacts_folder_is_touched(runs: Runs, document: Document, tmp_path: Path) -> None:
    made = runs.run(IDS[0])
    runs.run(IDS[1])
    runs.run(IDS[2])
    runs.run(IDS[3])
    outside, beside = tmp_path / "precious" / "1", runs.root.path / "precious" / "1"
    for folder in (outside, beside):
        folder.mkdir(parents=True)
    examples, statistics = made["ExampleGen"]["examples"], made["StatisticsGen"]["statistics"]
    examples.uri, statistics.uri = str(outside), f"{runs.root.artifacts}/../precious/1"
    runs.store.put_artifacts([examples, statistics])
    plan = document("gc", "--drop-pushed", "--keep-last", 1, "--yes")
    assert outside.exists()
    assert beside.exists()
    assert not {examples.id, statistics.id} & set(plan["artifacts"])


def test_an_artifact_whose_files_are_gone_is_marked_whoever_used_it(runs: Runs, document: Document) -> None:
    made = runs.run(IDS[0])
    shutil.rmtree(made["Trainer"]["model"].uri)
    assert [finding["kind"] for finding in document("doctor")["findings"]] == ["missing"]
    assert document("gc", "--keep-last", 9)["gone"] == [made["Trainer"]["model"].id]
    plan = document("gc", "--keep-last", 9, "--yes")
    assert (plan["changed"], plan["artifacts"]) == (True, [])
    assert document("doctor")["findings"] == []


def test_it_is_refused_while_a_run_holds_the_run_root(runs: Runs, oncall: Oncall) -> None:
    runs.run(IDS[0])
    with runs.root.lock():
        for flags in ((), ("--yes",)):
            result = oncall("gc", "--keep-last", 1, *flags)
            assert (result.exit_code, "a run is using it" in result.output) == (6, True)


def test_a_folder_that_cannot_be_removed_is_named(runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch) -> None:
    for run_id in IDS[:4]:
        runs.run(run_id)

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(garbage_collection.shutil, "rmtree", refuse)
    result = oncall("gc", "--drop-pushed", "--keep-last", 1, "--yes")
    assert result.exit_code == 1
    assert "could not be removed, and is an orphan now: " in result.output


def test_how_many_runs_are_kept_must_be_said(runs: Runs, oncall: Oncall) -> None:
    assert oncall("gc").exit_code == 2
    assert oncall("gc", "--keep-last", 0).exit_code == 2


@pytest.mark.parametrize("copied", [True, False])
def test_of_a_run_root_that_was_moved_nothing_is_called_missing_or_removed(
    copied: bool, runs: Runs, tmp_path: Path
) -> None:
    runs.run(IDS[0])
    runs.run(IDS[1])
    elsewhere = tmp_path / "elsewhere"
    (shutil.copytree if copied else shutil.move)(runs.root.path, elsewhere)
    files = sorted(elsewhere.rglob("*"))
    result = CliRunner().invoke(main, ["doctor", "--run-root", str(elsewhere), "--json"])
    findings = {finding["kind"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert not {"missing", "orphan"} & set(findings)
    assert str(runs.root.path) in findings["moved"]["message"]
    back = f"mv -nT {elsewhere} {runs.root.path}    # back to where it was"
    original = f"python -m oncall doctor --run-root {runs.root.path}    # a copy of {runs.root.path}: use that one; move nothing"
    assert findings["moved"]["todo"] == (original if copied else back)
    refused = CliRunner().invoke(main, ["gc", "--keep-last", "1", "--yes", "--run-root", str(elsewhere)])
    assert (refused.exit_code, "was moved or copied" in refused.stderr) == (6, True), refused.output
    assert [path for path in files if not path.exists()] == []


def test_a_run_root_behind_a_link_is_named_by_the_path_of_its_runs(runs: Runs, oncall: Oncall, tmp_path: Path) -> None:
    runs.run(IDS[0])
    link = tmp_path / "link"
    link.symlink_to(runs.root.path)
    result = CliRunner().invoke(main, ["doctor", "--run-root", str(link), "--json"])
    (finding,) = json.loads(result.stdout)["findings"]
    assert (
        finding["message"] == f"{link}: is another path of {runs.root.path}, by which ML Metadata names the artifacts"
    )
    assert (
        finding["todo"] == f"python -m oncall doctor --run-root {runs.root.path}    # the path that the runs were given"
    )
    link.unlink()
    made, other = tmp_path / "made", tmp_path / "other"
    made.mkdir()
    link.symlink_to(made)
    Runs(link).run(IDS[0])
    shutil.copytree(made, other)
    link.unlink()
    link.symlink_to(other)
    result = CliRunner().invoke(main, ["doctor", "--run-root", str(made), "--json"])
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["message"] == f"{made}: was moved or copied: to ML Metadata its artifacts are below {link}"
    assert finding["todo"] == f"ls -ld {link}    # the runs here were given this link, which leads elsewhere now"


def test_artifacts_that_are_not_mounted_are_no_garbage(runs: Runs, oncall: Oncall, document: Any) -> None:
    runs.run(IDS[0])
    runs.run(IDS[1])
    shutil.rmtree(runs.root.artifacts / "Gate")
    findings = [finding for finding in document("doctor")["findings"] if finding["kind"] == "missing"]
    gc = f"python -m oncall gc --keep-last 2 --run-root {runs.root.path}"
    assert [finding["todo"].split("    ")[0] for finding in findings] == [gc, gc]
    disk = runs.root.path / "disk"
    runs.root.artifacts.rename(disk)
    runs.root.artifacts.symlink_to(disk)
    assert [finding for finding in document("doctor")["findings"] if finding["kind"] == "missing"] == findings
    disk.rename(runs.root.path / "not-mounted")
    (finding,) = document("doctor")["findings"]
    assert finding["message"] == (
        f"{runs.root.artifacts}: there is no such folder, and ML Metadata has artifacts in it; mount it, or restore it "
        "from a backup"
    )
    refused = oncall("gc", "--keep-last", 1, "--yes")
    assert (refused.exit_code, "nothing was removed" in refused.stderr) == (6, True), refused.output


@pytest.mark.parametrize("command", [("gc", "--keep-last", 1, "--yes"), ("quarantine", "--yes"), ("doctor",)])
def test_a_registry_that_is_not_mounted_is_an_error_and_nothing_is_removed(
    command: tuple[object, ...], runs: Runs, oncall: Oncall
) -> None:
    registry = runs.root.path.parent / "elsewhere"
    config = {"push": {"target": "local", "model_name": "census-income", "registry": str(registry)}}
    made = [runs.run(run_id, overrides={"config": config}) for run_id in IDS[:4]]
    result = oncall(*command)
    assert result.exit_code == (1 if command == ("doctor",) else 5)
    assert f"{registry} is not a folder" in result.output
    assert "is it mounted? A run has pushed to a registry" in result.output
    assert command != ("doctor",) or f"namei -l {registry}" in result.output
    assert all(Path(place).exists() for of_run in made for place in places(of_run))


def test_before_the_first_push_there_is_no_registry_to_keep(runs: Runs, document: Document) -> None:
    registry = runs.root.path.parent / "elsewhere"
    config = {"push": {"target": "local", "model_name": "census-income", "registry": str(registry)}}
    for run_id in IDS[:2]:
        runs.run(run_id, overrides={"config": config}, until="Trainer")
    assert document("doctor")["findings"] == []
    assert document("gc", "--keep-last", 1, "--yes")["changed"] is True
