"""The commands against Vertex AI: the real client, the emulator, jobs as Vertex Pipelines leaves them."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from emulators.vertex import metadata
from emulators.vertex.server import EmulatorServer
from oncall.__main__ import main
from schemas.curated.schema_file import hash_schema, load_schema
from tests.commands import parse_command
from tests.conftest import ROOT
from tests.oncall.run_roots import FINGERPRINT, NAME
from tests.oncall.vertex_jobs import PARENT, Made, VertexJobs
from tests.vertex_fixtures import BUCKET, PROJECT, REGION, Bench

WHERE = ("--project", PROJECT, "--region", REGION)
Oncall = Callable[..., Result]
Document = Callable[..., Any]


@pytest.fixture
def jobs(server: EmulatorServer) -> VertexJobs:
    return VertexJobs(server.emulator)


@pytest.fixture
def oncall(server: EmulatorServer) -> Oncall:
    """Call a command on the emulator's project."""

    def call(*arguments: object, where: tuple[str, ...] = WHERE) -> Result:
        result = CliRunner().invoke(main, [*map(str, arguments), *where])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return call


@pytest.fixture
def document(oncall: Oncall) -> Document:
    """Call a command with --json."""
    return lambda *arguments, **more: json.loads(oncall(*arguments, "--json", **more).stdout)


def all_but(made: Made, *tasks: str) -> Made:
    return {task: outputs for task, outputs in made.items() if task not in tasks}


def test_states_are_told_as_they_are(jobs: VertexJobs, document: Document) -> None:
    first = jobs.run("all-new")
    jobs.run("all-cached", cached=first)
    jobs.run("trained", cached=all_but(first, "Trainer", "Evaluator", "InfraValidator"))
    jobs.run("failed", fails=("Trainer", "Trainer: ValueError: no such loss"))
    jobs.run("ended", stops_in=("Transform", "CANCELLED"))
    jobs.run("partial", skips=("InfraValidator", "Pusher"))
    jobs.run("goes-on", stops_in=("Trainer", "RUNNING"))
    listing = document("runs")
    assert listing["run_root"] == PARENT
    assert listing["total"] == 7
    assert {run["run"]: (run["state"], run["cause"]) for run in listing["runs"]} == {
        "all-new": ("SUCCEEDED", ""),
        "all-cached": ("CACHED", ""),
        "trained": ("SUCCEEDED", ""),
        "failed": ("FAILED", "Trainer: ValueError: no such loss"),
        "ended": ("ABORTED", "interrupted by a request to cancel it in Transform"),
        "partial": ("INCOMPLETE", "not reached: InfraValidator, Pusher"),
        "goes-on": ("RUNNING", "in Trainer"),
    }
    assert listing["runs"][0]["run"] == "goes-on"
    assert next(run for run in listing["runs"] if run["run"] == "all-new")["pushed"] == (
        f"version 1 to {PARENT}/models/{NAME}@1"
    )


def test_only_as_many_jobs_are_read_as_are_asked_for(jobs: VertexJobs, oncall: Oncall, document: Document) -> None:
    for number in range(3):
        jobs.run(f"run-{number}")
    jobs.emulator.faults.calls.clear()
    listing = document("runs", "--limit", "2")
    assert ([run["run"] for run in listing["runs"]], listing["total"]) == (["run-2", "run-1"], None)
    assert jobs.emulator.faults.calls.count("GetPipelineJob") == 2
    assert "older runs are not shown" in oncall("runs", "--limit", "2").output


def test_pages_are_read_on(jobs: VertexJobs, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oncall.vertex.jobs._PAGE_SIZE", 2)
    for number in range(5):
        jobs.run(f"run-{number}", stops_in=("ExampleGen", "RUNNING"))
    jobs.emulator.faults.calls.clear()
    assert len(document("runs")["runs"]) == 5
    assert jobs.emulator.faults.calls.count("ListPipelineJobs") == 3


def test_one_pipeline_is_asked_about(jobs: VertexJobs, document: Document, oncall: Oncall) -> None:
    jobs.run("ours")
    jobs.run("theirs", pipeline="other")
    assert [run["run"] for run in document("runs", "--pipeline", NAME)["runs"]] == ["ours"]
    assert document("why", "latest", "--pipeline", NAME)["run"] == "ours"
    assert document("why", "latest")["run"] == "theirs"


def test_a_run_is_found_by_its_first_characters(jobs: VertexJobs, document: Document, oncall: Oncall) -> None:
    jobs.run("census-monday", stops_in=("ExampleGen", "RUNNING"))
    jobs.run("census-tuesday", stops_in=("ExampleGen", "RUNNING"))
    assert document("why", "census-m")["run"] == "census-monday"
    several = oncall("why", "census")
    assert (several.exit_code, "is ambiguous: it matches census-tuesday, census-monday" in several.stderr) == (2, True)
    none = oncall("why", "sunday")
    assert none.exit_code == 2
    assert none.stderr == f"error: {PARENT}: has no run 'sunday'; the newest are: census-tuesday, census-monday\n"


def test_a_job_that_was_deleted_is_known_to_ml_metadata(jobs: VertexJobs, document: Document, oncall: Oncall) -> None:
    jobs.run("deleted", fails=("Trainer", "boom"))
    jobs.gone("deleted")
    run = document("show", "deleted")
    assert run["state"] == "UNKNOWN"
    assert "COMPLETE" in run["cause"]
    assert {node["node"]: node["state"] for node in run["nodes"]}["Trainer"] == "failed"
    assert oncall("diff", "deleted", "deleted").exit_code == 2


def test_show_names_the_run_that_made_what_the_cache_answered(jobs: VertexJobs, document: Document) -> None:
    first = jobs.run("first")
    second = jobs.run("second", cached=all_but(first, "Trainer", "Evaluator", "InfraValidator"))
    jobs.run("third", cached=second, labels={"revision": "abc", "dirty": "true", "config-hash": "0123"})
    run = document("show", "third")
    made_by = {node["node"]: node["made_by"] for node in run["nodes"]}
    assert (made_by["Transform"], made_by["Trainer"], made_by["Gate"]) == ("first", "second", "")
    assert (run["revision"], run["dirty"], run["config_hash"]) == ("abc", True, "0123")
    assert run["config"]["Trainer"] == {"custom_config": {"settings": {"epochs": 3}}}


def test_why_names_the_task_its_error_and_the_command_that_reads_its_log(
    jobs: VertexJobs, document: Document, oncall: Oncall
) -> None:
    jobs.run("good")
    jobs.run("elsewhere", pipeline="other")
    jobs.run("bad", fails=("Gate", "Gate: DataError: the data does not fit its schema"))
    cause = document("why", "bad")
    assert (cause["state"], cause["node"], cause["exit_code"]) == ("FAILED", "Gate", 3)
    assert cause["cause"] == "Gate: DataError: the data does not fit its schema"
    assert "the log has no more lines about it" not in oncall("why", "bad").output
    command = shlex.split(cause["log"])
    assert command[:3] == ["gcloud", "logging", "read"]
    assert command[3].startswith('resource.type="ml_job" AND resource.labels.job_id="4')
    assert cause["try"][0].startswith(f"python -m oncall anomalies bad --project {PROJECT} --region {REGION}")
    assert any("oncall diff good bad" in line for line in cause["try"])


def test_lineage_leads_to_the_original_producer_and_down_to_what_was_pushed(
    jobs: VertexJobs, document: Document, oncall: Oncall
) -> None:
    first = jobs.run("first")
    second = jobs.run("second", cached=all_but(first, "Trainer", "Evaluator", "InfraValidator"))
    model = second["Trainer"]["model"]["name"].rpartition("/")[2]
    lineage = document("lineage", model)
    assert (lineage["made_from"]["run"], lineage["made_from"]["node"]) == ("second", "Trainer")
    inputs = {
        branch["as"]: (branch["type"], branch["run"], branch["node"]) for branch in lineage["made_from"]["branches"]
    }
    assert inputs == {
        "examples": ("Examples", "first", "Transform"),
        "transform_graph": ("TransformGraph", "first", "Transform"),
        "schema": ("Schema", "first", "SchemaGen"),
    }
    used = {(branch["type"], branch["run"]) for branch in lineage["used_by"]["branches"]}
    assert ("PushedModel", "second") in used
    assert "made by Trainer of second" in oncall("lineage", model).output
    assert oncall("lineage", "12345").exit_code == 2


def test_an_artifact_of_too_large_a_lineage_is_one_line(
    jobs: VertexJobs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jobs.run("first")
    monkeypatch.setattr(metadata, "MAX_GRAPH", 1)
    refused = oncall("lineage", made["SchemaGen"]["schema"]["name"].rpartition("/")[2])
    assert refused.exit_code == 5
    assert "its lineage cannot be read: Vertex AI rejected the call" in refused.stderr


def test_what_changed_is_read_from_the_job_and_the_bucket(jobs: VertexJobs, document: Document) -> None:
    jobs.run("one")
    jobs.run("two", epochs=5, auc=0.8, mean=50.0, rows=4000)
    diff = document("diff", "one", "two")
    assert diff["config"] == {"Trainer.custom_config.settings.epochs": [3.0, 5.0]}
    assert diff["data"]["rows of train"] == [3000, 4000]
    assert diff["statistics"]["train age mean"] == [38.0, 50.0]
    assert diff["metrics"]["overall: auc"] == [0.92, 0.8]
    assert (diff["schema"], diff["code"]) == ({}, {})


def test_anomalies_are_read_from_the_bucket(jobs: VertexJobs, document: Document) -> None:
    jobs.run("one")
    anomalies = document("anomalies", "latest")
    assert anomalies["gate"] == "passed"
    assert "Gig" in anomalies["validator"][0]
    assert anomalies["warnings"] == ["train: age: a little old"]


def test_a_bucket_that_may_not_be_read_is_told_with_the_rest(
    jobs: VertexJobs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.run("one")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr("oncall.vertex.bucket._TIMEOUT_SECONDS", 0.1)
    result = oncall("anomalies", "latest", "--json")
    assert (result.exit_code, json.loads(result.stdout)["run"]) == (5, "one")
    assert f"gs://{BUCKET}/root" in json.loads(result.stdout)["error"]


def test_what_serves_is_shown_with_its_traffic_run_data_and_verdict(
    jobs: VertexJobs, bench: Bench, oncall: Oncall, document: Document
) -> None:
    first = jobs.run("run-1")
    bench.push(0.1, "run-1")
    assert document("check")["ok"] is True
    jobs.run("run-2", cached=all_but(first, "Trainer", "Evaluator", "InfraValidator"), auc=0.8)
    bench.deployment = bench.deployment.model_copy(update={"traffic_steps": (30,)})
    bench.push(0.2, "run-2")
    serving = document("serving")
    assert (serving["registry"], serving["serving"]) == (f"{PARENT}/models/{NAME}", 1)
    champion, candidate = serving["versions"]
    assert (champion["traffic"], candidate["traffic"]) == (70, 30)
    assert (champion["state"], candidate["state"]) == ("champion", "candidate")
    assert (champion["run"], candidate["run"]) == ("run-1", "run-2")
    assert (candidate["rows"], candidate["fingerprint"]) == ({"train": 3000, "test": 1500}, FINGERPRINT)
    assert candidate["schema_hash"] == hash_schema(load_schema(str(ROOT / "schemas" / "census.pbtxt")))
    assert (champion["metrics"], candidate["metrics"]) == ({"auc": 0.92}, {"auc": 0.8})
    assert candidate["blessings"] == {"ModelBlessing": True, "InfraBlessing": True}
    assert (champion["fits"], candidate["fits"]) == (True, True)
    assert "70 %" in oncall("serving").output
    assert document("lineage", "v2")["made_from"]["run"] == "run-2"
    checks = {check["name"]: check for check in document("check")["checks"]}
    assert checks["endpoint"]["message"] == "serves version 1 with 70 %, version 2 with 30 %"
    # Somebody writes into the bucket.
    uri = bench.model().versions[0].artifact_uri
    (bench.server.emulator.find_path(uri) / "saved_model.pb").write_text("mine")
    changed = oncall("check", "--json")
    bad = [check for check in json.loads(changed.stdout)["checks"] if not check["ok"]]
    assert (changed.exit_code, [check["name"] for check in bad]) == (1, ["content"])
    assert bad[0]["todo"] == f"python -m serving.registry rollback --project {PROJECT} --region {REGION} --model {NAME}"


def test_a_version_that_a_run_of_another_place_pushed_has_no_data_here(bench: Bench, document: Document) -> None:
    bench.push(0.1, "20260101T000000.000000")
    assert document("serving", "--model", "nope")["exit_code"] == 2
    (version,) = document("serving", "--model", NAME)["versions"]
    assert (version["run"], version["rows"], version["model"]) == ("20260101t000000-000000", {}, None)
    assert version["fits"] is True


def test_doctor_finds_what_is_wrong_and_says_what_does_not_apply(
    jobs: VertexJobs, bench: Bench, document: Document, oncall: Oncall
) -> None:
    made = jobs.run("run-1")
    bench.push(0.1, "run-1")
    fine = document("doctor")
    assert (fine["ok"], fine["findings"], fine["lock"]) == (True, [], "")
    assert fine["not_here"].startswith("database, records, disk")
    (Path(made["Trainer"]["model"]["uri"]) / "Format-Serving" / "saved_model.pb").unlink()
    jobs.run("run-2", fails=("Trainer", "boom"))
    bench.fault(method="DeployModel", code="INVALID_ARGUMENT")
    with pytest.raises(Exception, match="injected"):
        bench.push(0.2, "run-2")
    result = oncall("doctor", "--json")
    assert result.exit_code == 1
    findings = {
        (finding["kind"], finding["message"].split(":")[0]) for finding in json.loads(result.stdout)["findings"]
    }
    model = made["Trainer"]["model"]["name"].rpartition("/")[2]
    assert findings == {
        ("run", "run-2 FAILED"),
        ("missing", f"Model {model} of run-1"),
        ("registry", f"{PARENT}/models/{NAME}, version 2"),
    }


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (("resume", "latest"), "python vertex_runner.py submit --wait"),
        (("rollback",), "python -m serving.registry rollback --project my-project --region europe-west4 --yes"),
        (("gc", "--keep-last", "1"), "python -m serving.registry gc"),
    ],
)
def test_what_there_is_not_on_vertex_names_what_there_is(
    oncall: Oncall, command: tuple[str, ...], instead: str
) -> None:
    refused = oncall(*command)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert instead in refused.stderr


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("--project", PROJECT), "--region: is missing; expected one such as europe-west4"),
        (("--project", PROJECT, "--region", "mars"), "--region: expected a region such as europe-west4, found 'mars'"),
        ((*WHERE, "--run-root", "."), "--run-root and --project: give one of them"),
        (("--pipeline", "x"), "--pipeline: is for Vertex AI"),
        ((*WHERE, "--api-endpoint", "https://x"), "expected HOST:PORT without https://"),
    ],
)
def test_flags_that_cannot_be_are_one_line(
    oncall: Oncall, where: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = oncall("runs", where=where)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert message in refused.stderr


def test_the_environment_names_the_project_unless_a_run_root_is_named(
    jobs: VertexJobs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs.run("one")
    monkeypatch.setenv("VERTEX_PROJECT", PROJECT)
    monkeypatch.setenv("VERTEX_REGION", REGION)
    assert "one" in oncall("runs", where=()).output
    (tmp_path / "records").mkdir()
    assert oncall("runs", where=("--run-root", str(tmp_path))).output == "no runs yet\n"


def test_a_refusal_or_an_outage_is_one_line(
    jobs: VertexJobs, bench: Bench, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.run("one")
    monkeypatch.setattr("oncall.vertex.jobs._TIMEOUT_SECONDS", 0.0)
    for code, message in {
        "PERMISSION_DENIED": "permission denied: injected; grant roles/aiplatform.user",
        "UNAUTHENTICATED": "Vertex AI does not accept the credentials",
        "NOT_FOUND": f"{PARENT}: does not exist; check --project and --region",
        "UNAVAILABLE": "Vertex AI did not answer within 0 s",
    }.items():
        bench.fault(method="ListPipelineJobs", code=code)
        refused = oncall("runs")
        assert (refused.exit_code, refused.stderr.count("\n")) == (5, 1), refused.stderr
        assert message in refused.stderr
    nobody = oncall("runs", "--api-endpoint", "localhost:1")
    assert (nobody.exit_code, "no emulator answers at localhost:1" in nobody.stderr) == (5, True)


def test_a_call_that_failed_once_is_repeated(jobs: VertexJobs, bench: Bench, oncall: Oncall) -> None:
    jobs.run("one")
    bench.fault(method="ListPipelineJobs", code="UNAVAILABLE")
    bench.fault(method="GetPipelineJob", code="UNAVAILABLE")
    result = oncall("runs", "--json")
    assert (result.exit_code, [run["run"] for run in json.loads(result.stdout)["runs"]]) == (0, ["one"])


def test_an_endpoint_that_was_typed_is_in_the_proposed_commands(
    jobs: VertexJobs, document: Document, server: EmulatorServer
) -> None:
    jobs.run("good")
    jobs.run("bad", fails=("Gate", "Gate: DataError: no"))
    for typed in ((), ("--api-endpoint", server.endpoint)):
        lines = document("why", "bad", *typed)["try"]
        assert lines
        for line in lines:
            assert ("--api-endpoint" in line) == bool(typed)
            arguments = parse_command(line)
            assert (arguments["project"], arguments["region"]) == (PROJECT, REGION)
            assert arguments["api_endpoint"] == server.endpoint
