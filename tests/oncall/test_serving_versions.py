"""`serving`, `lineage` and `rollback`: the serving version, what it is made of, how to go back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.curated.schema_file import hash_schema, load_schema
from serving.registry import Candidate, LocalRegistry
from tests.conftest import ROOT
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import FINGERPRINT, NAME, Runs

FIRST, SECOND, THIRD = "20260101T000000.000000", "20260102T000000.000000", "20260103T000000.000000"
Document = Callable[..., Any]


def test_each_version_is_shown_with_its_run_data_schema_and_verdict(
    runs: Runs, document: Document, oncall: Oncall
) -> None:
    runs.run(FIRST, auc=0.91)
    runs.run(SECOND, auc=0.93, rows=4000)
    serving = document("serving")
    assert (serving["registry"], serving["serving"]) == (str(runs.registry.folder), 2)
    old, new = serving["versions"]
    assert (old["state"], new["state"]) == ("previous", "champion")
    assert (new["run"], new["rows"], new["metrics"]) == (SECOND, {"train": 4000, "test": 1500}, {"auc": 0.93})
    assert old["rows"]["train"] == 3000
    assert new["fingerprint"] == FINGERPRINT
    assert (new["input"], new["content"]["train"]) == ("train: 1 file, 398,782 bytes", "000000000fa0")
    assert "input      v2 train: 1 file, 398,782 bytes\ncontent    v2 train 000000000fa0, " in oncall("serving").output
    assert new["schema_hash"] == hash_schema(load_schema(str(ROOT / "schemas" / "census.pbtxt")))
    assert new["blessings"] == {"ModelBlessing": True, "InfraBlessing": True}
    assert new["fits"] is True


def test_data_is_found_through_the_cache(runs: Runs, document: Document) -> None:
    first = runs.run(FIRST)
    data = {node: first[node] for node in ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform")}
    runs.run(SECOND, cached=data, rows=5000)
    version = document("serving")["versions"][-1]
    # It trained on what the first run had read.
    assert (version["run"], version["rows"]["train"]) == (SECOND, 3000)


def test_the_verdict_is_that_of_the_run_that_pushed(runs: Runs, document: Document) -> None:
    first = runs.run(FIRST)
    # With another threshold, say: the model is the same.
    up_to_trainer = {node: first[node] for node in ("ExampleGen", "StatisticsGen", "SchemaGen", "Transform", "Trainer")}
    runs.run(SECOND, cached=up_to_trainer, blessed=False, pushes=False)
    assert document("serving")["versions"][0]["blessings"] == {"ModelBlessing": True, "InfraBlessing": True}


def test_files_that_were_changed_are_told(runs: Runs, oncall: Oncall, document: Document) -> None:
    runs.run(FIRST)
    (runs.registry.find_folder(1) / "saved_model.pb").write_text("mine")
    assert document("serving")["versions"][0]["fits"] is False
    output = oncall("serving").output
    assert "CHANGED" in output
    assert "version 1 serves; its files are NOT those that were pushed" in output


def test_a_version_of_another_run_root_or_tool_has_no_data_here(
    runs: Runs, oncall: Oncall, document: Document, tmp_path: Path
) -> None:
    first = runs.run(FIRST)
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_text("elsewhere")
    # The number is another model's here.
    number = first["Trainer"]["model"].id
    runs.registry.push(Candidate(NAME, run_id="elsewhere", model_id=number, folder=model))
    (runs.registry.folder / "9").mkdir()
    serving = document("serving")["versions"]
    assert (serving[1]["run"], serving[1]["rows"], serving[1]["blessings"]) == ("elsewhere", {}, {})
    assert serving[2]["state"] == "of another tool"
    (line,) = [line for line in oncall("serving").output.splitlines() if "elsewhere" in line]
    assert ("unknown" in line, "gone" in line) == (True, False)
    assert "gone" not in oncall("serving").output


def test_another_registry_can_be_named(runs: Runs, oncall: Oncall, document: Document, tmp_path: Path) -> None:
    runs.run(FIRST, pushes=False)
    assert oncall("serving").output == f"{runs.registry.folder}: NO version serves\n"
    assert oncall("check").exit_code == 1
    assert oncall("serving", "--registry", tmp_path / "none").exit_code == 2
    other = LocalRegistry(tmp_path / "other", "mine")
    model = tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_text("x")
    other.push(Candidate("mine", run_id="r", model_id=1, folder=model))
    assert document("serving", "--registry", other.folder.parent, "--model", "mine")["serving"] == 1


def test_lineage_goes_up_to_the_data_and_down_to_the_push(runs: Runs, document: Document, oncall: Oncall) -> None:
    first = runs.run(FIRST)
    runs.run(SECOND, cached=first, pushes=False)
    model = first["Trainer"]["model"].id
    lineage = document("lineage", "v1")
    assert lineage == document("lineage", model)
    up = lineage["made_from"]
    # The run that made it, not the one that took it from the cache.
    assert (up["type"], up["run"], up["node"]) == ("Model", FIRST, "Trainer")
    schema, graph, examples = up["branches"]
    assert [(b["as"], b["type"]) for b in (schema, graph, examples)] == [
        ("schema", "Schema"),
        ("transform_graph", "TransformGraph"),
        ("examples", "Examples"),
    ]
    assert graph["branches"][0]["run"] == FIRST
    assert [(b["type"], b["node"]) for b in lineage["used_by"]["branches"]] == [
        ("ModelEvaluation", "Evaluator"),
        ("ModelBlessing", "Evaluator"),
        ("InfraBlessing", "InfraValidator"),
        ("PushedModel", "Pusher"),
        ("PushedModel", "Pusher"),
    ]
    first_line, second_line, *_ = oncall("lineage", "v1").output.splitlines()
    assert first_line == f"Model {model}  made by Trainer of {FIRST}"
    assert second_line == f"├─ schema: Schema {first['SchemaGen']['schema'].id}  made by SchemaGen of {FIRST}"


def test_lineage_of_nothing_is_refused(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    for artifact, expected in (
        ("v7", "has no version 7 of a run; it has v1"),
        ("999", "has no artifact 999"),
        ("x", "is neither an artifact's number nor a version such as v2"),
    ):
        result = oncall("lineage", artifact)
        assert (result.exit_code, expected in result.output) == (2, True), result.output


def test_a_rollback_is_a_dry_run_unless_told_otherwise(runs: Runs, oncall: Oncall, document: Document) -> None:
    runs.run(FIRST)
    refused = oncall("rollback")
    assert (refused.exit_code, "no earlier version served" in refused.output) == (5, True)
    runs.run(SECOND)
    planned = oncall("rollback")
    assert planned.output == "would roll back: version 1 would serve, and now version 2 does; add --yes to do it\n"
    assert runs.registry.read_champion() == 2
    done = document("rollback", "--yes", "--reason", "bad since noon")
    assert (done["version"], done["changed"], done["serving"]) == (1, True, 1)
    assert runs.registry.read_ledger().history[-1].reason == "bad since noon"
    assert oncall("rollback", "--version", "1", "--yes").output == "nothing to do: version 1 serves\n"


def test_a_version_that_is_not_there_is_told_by_every_command(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    for flags in ((), ("--yes",)):
        result = oncall("rollback", "--version", "7", *flags)
        assert (result.exit_code, f"{runs.registry.folder} has no version 7; it has 1" in result.output) == (2, True)
    assert runs.registry.read_champion() == 1


def test_a_model_that_is_not_there_is_told_with_those_that_are(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    message = f"error: --model nope: {runs.registry.folder.parent} has no such model; it has {NAME}\n"
    for command in (
        ("serving",),
        ("check",),
        ("lineage", "v1"),
        ("rollback",),
        ("gc", "--keep-last", "1"),
    ):
        result = oncall(*command, "--model", "nope")
        assert (result.exit_code, result.output) == (2, message), command
    assert (oncall("doctor", "--model", "nope").exit_code, oncall("serving", "--model", NAME).exit_code) == (2, 0)


def test_the_registry_that_was_named_is_named_in_the_commands_that_are_proposed(runs: Runs, document: Document) -> None:
    runs.run(FIRST)
    runs.run(SECOND, auc=0.95)
    (runs.registry.find_folder(2) / "saved_model.pb").write_text("mine")
    named = ("--registry", runs.registry.folder.parent, "--model", NAME)
    flags = f"--run-root {runs.root.path} --registry {runs.registry.folder.parent} --model {NAME}"
    todo = {check["name"]: check["todo"] for check in document("check", *named)["checks"]}
    assert todo["content"] == f"python -m oncall rollback --reason ... {flags}    # add --yes to do it"
    assert todo["pushed by"] == f"python -m oncall lineage v2 {flags}"
    (finding,) = document("doctor", *named)["findings"]
    assert finding["todo"].endswith(f"; or python -m oncall rollback --reason ... {flags}    # add --yes to do it")
