"""The rehearsal of compiled jobs, on small jobs whose containers are plain Python; and jobs run by the emulator."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from click.testing import CliRunner

from cli.errors import ConfigError, PipelineError, PushError, RunRootError
from components.task_entry import use_bucket
from emulators.vertex.pipelines import end_interrupted
from oncall.__main__ import main as oncall
from pipeline.run.run_root import RunRoot
from pipeline.vertex import jobs
from pipeline.vertex.conditions import is_condition_met, is_query_met
from pipeline.vertex.rehearsal import Rehearsal, TaskResult, install_package
from pipeline.vertex.rehearsal_record import Recorded
from serving.registry.vertex.config import VertexRequestLog
from serving.registry.vertex.connection import VertexClient
from tests.conftest import ROOT
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, Bench
from vertex_runner import main

pytestmark = pytest.mark.integration

MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}
# Reads the request, writes what TFX's entry point writes; `CODE` may use `request` and `said`.
CONTAINER = """
import json, os, sys
request = json.loads(sys.argv[1])
said = {"artifacts": {}}
for key, given in request["outputs"]["artifacts"].items():
    artifact = given["artifacts"][0]
    open(os.path.join(artifact["uri"], "saved_model.pb"), "w").write("x")
    said["artifacts"][key] = {"artifacts": [{"name": artifact["name"], "uri": artifact["uri"], "metadata": {}}]}
CODE
file = request["outputs"]["outputFile"]
file = file.replace(os.environ["REHEARSED_GCS_MOUNT"], os.environ["REHEARSED_GCS_BUCKETS"])
json.dump(said, open(file, "w"))
"""


def task(
    name: str, code: str = "", *, after: tuple[str, ...] = (), inputs: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a task with an output `model`; `inputs` are keys with the tasks that make them."""
    return {"name": name, "code": code, "after": after, "inputs": inputs or {}, "more": more}


def job(*tasks: dict[str, Any], policy: str = "FAST") -> dict[str, Any]:
    components, executors, dag = {}, {}, {}
    for task_ in tasks:
        name = task_["name"]
        artifacts = {key: {"artifactType": MODEL} for key in task_["inputs"]}
        components[name] = {
            "executorLabel": f"{name}_executor",
            "inputDefinitions": {"artifacts": artifacts},
            "outputDefinitions": {"artifacts": {"model": {"artifactType": MODEL}}},
        }
        container = {
            "image": "i",
            "command": ["python", "-c", CONTAINER.replace("CODE", task_["code"])],
            "args": ["{{$}}"],
        }
        executors[f"{name}_executor"] = task_["more"].pop("executor", {"container": container})
        dag[name] = {
            "componentRef": {"name": name},
            "dependentTasks": [*task_["after"], *task_["inputs"].values()],
            "inputs": {
                "artifacts": {
                    key: {"taskOutputArtifact": {"producerTask": made, "outputArtifactKey": "model"}}
                    for key, made in task_["inputs"].items()
                },
                "parameters": {"run_id": {"runtimeValue": {"constant": "{{$.pipeline_job_name}}"}}},
            },
            **task_["more"],
        }
    return {
        "displayName": "small",
        "pipelineSpec": {
            "pipelineInfo": {"name": "small"},
            "components": components,
            "deploymentSpec": {"executors": executors},
            "root": {"dag": {"tasks": dag}},
        },
        "runtimeConfig": {
            "gcsOutputDirectory": f"gs://{BUCKET}/root",
            "failurePolicy": f"PIPELINE_FAILURE_POLICY_FAIL_{policy}",
        },
    }


@pytest.fixture
def rehearse(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*tasks: dict[str, Any], **options: Any) -> dict[str, Any]:
        return Rehearsal(job(*tasks, **options), tmp_path, job_id="small-1").run()

    return run


def states(results: dict[str, Any]) -> dict[str, str]:
    return {name: result.state for name, result in results.items()}


def test_tasks_run_in_order_with_the_outputs_of_those_before_them(rehearse: Callable[..., dict[str, Any]]) -> None:
    check = "assert os.path.exists(request['inputs']['artifacts']['model']['artifacts'][0]['uri'] + '/saved_model.pb')"
    results = rehearse(task("b", check, inputs={"model": "a"}), task("a"))
    assert states(results) == {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    assert list(results) == ["a", "b"]
    (made,) = results["a"].outputs["model"]
    assert made["schema_title"] == "tfx.Model"


def test_the_jobs_name_is_filled_in_and_the_environment_is_clean(
    rehearse: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "1")
    code = (
        "assert request['inputs']['parameterValues']['run_id'] == 'small-1'\n"
        "assert 'SECRET_OF_THE_SHELL' not in os.environ\n"
        "import components.config, pipeline.vertex.jobs\n"
        "assert 'tests' not in os.listdir(os.path.dirname(os.path.dirname(components.__file__)))"
    )
    result = rehearse(task("a", code))["a"]
    assert (result.state, result.error) == ("SUCCEEDED", "")


def test_a_task_that_writes_the_mount_fails(rehearse: Callable[..., dict[str, Any]]) -> None:
    """Run by root or not: the image does not run as root."""
    code = 'os.makedirs(os.path.dirname(request["outputs"]["outputFile"]))'
    (result,) = rehearse(task("a", code)).values()
    assert result.state == "FAILED"
    assert "wrote below /gcs, which only root may do" in result.error or "PermissionError" in result.error


def test_the_output_file_of_a_task_is_written_through_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"inputs": {"parameterValues": {"epochs": 3}}, "outputs": {"outputFile": "/gcs/b/root/task/out.json"}}
    arguments = ["task_entry", "--json_serialized_invocation_args", json.dumps(request), "--runner=DirectRunner"]
    changed = use_bucket(arguments)
    expected = {**request, "outputs": {"outputFile": "gs://b/root/task/out.json"}}
    assert (json.loads(changed[2]), changed[3:]) == (expected, ["--runner=DirectRunner"])
    assert use_bucket(changed) == changed


def test_a_module_that_is_not_packaged_is_missed(rehearse: Callable[..., dict[str, Any]]) -> None:
    result = rehearse(task("a", "import benchmarks.bench"))["a"]
    assert (result.state, result.error) == ("FAILED", "a: ModuleNotFoundError: No module named 'benchmarks'")


def test_what_is_packaged_has_its_templates(tmp_path: Path) -> None:
    package = install_package(tmp_path)
    assert (package / "pipeline" / "templates" / "stats.html.j2").is_file()
    assert (package / "vertex_runner.py").is_file()
    assert not (package / "tests").exists()


@pytest.mark.parametrize(("policy", "other"), [("FAST", "NOT_TRIGGERED"), ("SLOW", "SUCCEEDED")])
def test_the_failure_policy_is_kept(rehearse: Callable[..., dict[str, Any]], policy: str, other: str) -> None:
    bad = "raise ValueError('bad data')"
    results = rehearse(task("a", bad), task("b", after=("a",)), task("c"), task("d", after=("c",)), policy=policy)
    assert states(results)["a"] == "FAILED"
    assert results["a"].error == "a: ValueError: bad data"
    assert states(results)["b"] == "NOT_TRIGGERED"
    assert states(results)["d"] == other


def test_a_task_is_answered_from_the_cache_until_its_inputs_change_or_its_artifacts_are_gone(
    rehearse: Callable[..., dict[str, Any]],
) -> None:
    import shutil

    cached = {"cachingOptions": {"enableCache": True}}
    tasks = [task("a", **cached), task("b", inputs={"model": "a"}, **cached), task("c")]
    first = rehearse(*tasks)
    tasks = [task("a", **cached), task("b", inputs={"model": "a"}, **cached), task("c")]
    assert states(rehearse(*tasks)) == {"a": "CACHED", "c": "SUCCEEDED", "b": "CACHED"}
    shutil.rmtree(first["a"].outputs["model"][0]["uri"])
    tasks = [task("a", **cached), task("b", inputs={"model": "a"}, **cached), task("c")]
    assert states(rehearse(*tasks)) == {"a": "SUCCEEDED", "c": "SUCCEEDED", "b": "SUCCEEDED"}


def test_a_condition_decides_whether_a_task_runs(rehearse: Callable[..., dict[str, Any]]) -> None:
    blessed = "said['artifacts']['model']['artifacts'][0]['metadata'] = {'blessed': 1.0}"
    holds = {"condition": "(inputs.artifacts['model'].artifacts[0].metadata['blessed'] == 1.0)"}
    fails = {"condition": "!((inputs.artifacts['model'].artifacts[0].metadata['blessed'] == 1.0))"}
    results = rehearse(
        task("a", blessed),
        task("b", inputs={"model": "a"}, triggerPolicy=holds),
        task("c", inputs={"model": "a"}, triggerPolicy=fails),
    )
    assert states(results) == {"a": "SUCCEEDED", "b": "SUCCEEDED", "c": "SKIPPED"}


def test_a_resolver_finds_the_last_that_fits_and_nothing_at_first(rehearse: Callable[..., dict[str, Any]]) -> None:
    query = {"resolver": {"outputArtifactQueries": {"model": {"filter": 'schema_title="tfx.Model" AND state=LIVE'}}}}
    seen = "said['artifacts']['model']['artifacts'][0]['metadata'] = {'found': len(request['inputs']['artifacts']['old']['artifacts'])}"
    tasks = [task("find", executor=query), task("use", seen, inputs={"old": "find"})]
    assert rehearse(*tasks)["use"].outputs["model"][0]["metadata"] == {"found": 0}
    tasks = [task("find", executor=query), task("use", seen, inputs={"old": "find"})]
    results = rehearse(*tasks)
    assert results["use"].outputs["model"][0]["metadata"] == {"found": 1}


def test_conditions_that_tfx_does_not_write_are_refused() -> None:
    inputs = {"artifacts": {"x": {"artifacts": [{"uri": "u", "metadata": {"n": 2.0}}]}}}
    place = "inputs.artifacts['x'].artifacts[0]"
    assert is_condition_met(f"(({place}.metadata['n'] > 1.0) && ({place}.uri == 'u'))", inputs)
    assert is_condition_met(f"(({place}.metadata['n'] < 1.0) || !({place}.uri == 'v'))", inputs)
    with pytest.raises(ConfigError, match="cannot be evaluated: KeyError: 'gone'"):
        is_condition_met(f"{place}.metadata['gone'] == 1.0", inputs)
    with pytest.raises(ConfigError, match="Call is not known here"):
        is_condition_met("exec('x')", inputs)


def test_queries_compare_numbers_as_numbers_and_miss_what_is_not_there() -> None:
    artifact = {"schema_title": "tfx.Model", "state": "LIVE", "name": "m1", "metadata": {"blessed": 1.0}}
    assert is_query_met('schema_title="tfx.Model" AND state=LIVE AND metadata.blessed.number_value=1', artifact, {})
    assert not is_query_met("metadata.blessed.number_value=0", artifact, {})
    named = "name=\"{{$.inputs.artifacts['input'].metadata['current_model_id']}}\""
    inputs = {"artifacts": {"input": {"artifacts": [{"metadata": {"current_model_id": "m1"}}]}}}
    assert is_query_met(named, artifact, inputs)
    assert not is_query_met(named, artifact, {"artifacts": {"input": {"artifacts": []}}})


def test_tasks_that_wait_for_each_other_are_refused(rehearse: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(PipelineError, match="wait for each other: a, b"):
        rehearse(task("a", after=("b",)), task("b", after=("a",)))


@pytest.fixture
def vertex(bench: Bench) -> VertexClient:
    return bench.vertex()


def follow(vertex: VertexClient, job_id: str) -> jobs.Status:
    return jobs.follow(vertex, job_id, lambda task: None, seconds=0.1)


def test_a_job_is_submitted_once_however_often_it_is_asked_for(bench: Bench, vertex: VertexClient) -> None:
    bench.fault(method="CreatePipelineJob", code="UNAVAILABLE", when="after")
    name, created = jobs.submit(vertex, job(task("a")), "small-1")
    assert (name.rpartition("/")[2], created) == ("small-1", True)
    assert jobs.submit(vertex, job(task("a")), "small-1") == (name, False)
    done = follow(vertex, "small-1")
    assert (done.state, done.exit_code, [t.state for t in done.tasks]) == ("SUCCEEDED", 0, ["SUCCEEDED"])
    assert "console.cloud.google.com" in done.link
    assert [status.name for status in jobs.list_latest(vertex, 5)] == ["small-1"]


@pytest.mark.parametrize(
    ("error", "code"), [("cli.errors.DataError", 3), ("cli.errors.NotBlessedError", 4), ("ValueError", 1)]
)
def test_a_failed_job_ends_with_the_code_of_its_error(vertex: VertexClient, error: str, code: int) -> None:
    kind = error.rpartition(".")[2]
    raised = f"import cli.errors\nraise {error}('it is so')"
    jobs.submit(vertex, job(task("a", raised), task("b", after=("a",))), "small-1")
    done = follow(vertex, "small-1")
    assert (done.state, done.exit_code) == ("FAILED", code)
    assert [(t.name, t.state, t.error) for t in done.tasks] == [
        ("a", "FAILED", f"a: {kind}: it is so"),
        ("b", "NOT_TRIGGERED", ""),
    ]


def test_a_job_is_cancelled_in_its_task(vertex: VertexClient) -> None:
    jobs.submit(vertex, job(task("a", "import time; time.sleep(60)"), task("b", after=("a",))), "small-1")
    deadline = time.monotonic() + 30
    while not any(t.state == "RUNNING" for t in jobs.read_status(vertex, "small-1").tasks):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    jobs.cancel(vertex, "small-1")
    done = follow(vertex, "small-1")
    assert (done.state, done.exit_code) == ("CANCELLED", 130)
    assert jobs.cancel(vertex, "small-1").state == "CANCELLED"


@pytest.mark.parametrize(
    ("cancelled", "state", "tasks"),
    [(False, "FAILED", ["FAILED", "NOT_TRIGGERED"]), (True, "CANCELLED", ["CANCELLED", "NOT_TRIGGERED"])],
)
def test_a_job_ends_with_the_emulator_that_ran_it(
    bench: Bench, vertex: VertexClient, monkeypatch: pytest.MonkeyPatch, cancelled: bool, state: str, tasks: list[str]
) -> None:
    # As if it was killed: it gives no sign to its task any more.
    monkeypatch.setattr(Rehearsal, "cancel", lambda self: None)
    jobs.submit(vertex, job(task("a", "import time; time.sleep(60)"), task("b", after=("a",))), "small-1")
    deadline = time.monotonic() + 30
    while not any(t.state == "RUNNING" for t in jobs.read_status(vertex, "small-1").tasks):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if cancelled:
        assert jobs.cancel(vertex, "small-1").state == "CANCELLING"
    end_interrupted(bench.server.emulator)
    done = jobs.read_status(vertex, "small-1")
    assert (done.state, [status.state for status in done.tasks]) == (state, tasks)
    assert done.tasks[0].error == "The emulator was stopped."
    # The next job would wait for it.
    for process in psutil.Process().children(recursive=True):
        if "REHEARSED_GCS_MOUNT" in "".join(process.cmdline()):
            process.kill()


def test_a_job_ends_though_its_container_cannot_be_started(vertex: VertexClient) -> None:
    container = {"image": "i", "command": ["no-such-program"], "args": []}
    jobs.submit(vertex, job(task("a", executor={"container": container})), "small-1")
    assert follow(vertex, "small-1").error.startswith("the emulator failed: FileNotFoundError")


def test_a_job_that_is_not_there_is_named_with_those_that_are(vertex: VertexClient) -> None:
    jobs.submit(vertex, job(task("a")), "small-1")
    with pytest.raises(PipelineError, match="there is no such job; the latest are: small-1"):
        jobs.read_status(vertex, "other")


def test_a_schedule_is_changed_not_doubled(vertex: VertexClient) -> None:
    name, created = jobs.submit_schedule(vertex, job(task("a")), cron="0 3 * * *", name="small")
    assert created
    assert jobs.submit_schedule(vertex, job(task("a")), cron="TZ=Europe/Berlin 0 4 * * *", name="small") == (
        name,
        False,
    )


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 3 * * *", None),
        ("TZ=Europe/Berlin */15 8-18 1,15 JAN MON-FRI", None),
        ("daily", "--cron: expected five fields such as '0 3 * * *', found 'daily'"),
        ("99 3 * * *", "--cron: the minute, '99': expected *, or numbers from 0 to 59"),
        ("0 18-8 * * *", "--cron: the hour, '18-8': expected *, or numbers from 0 to 23"),
        ("0 3 0 * *", "--cron: the day, '0': expected *, or numbers from 1 to 31"),
        ("0 3 * * x", "--cron: the day of the week, 'x': expected *, or numbers from 0 to 7"),
        ("TZ=Mars 0 3 * * *", "--cron: 'TZ=Mars' is not a time zone; expected such as TZ=Europe/Berlin"),
    ],
)
def test_a_schedule_that_is_none_is_refused(cron: str, message: str | None) -> None:
    if message is None:
        jobs.check_cron(cron)
        return
    with pytest.raises(ConfigError) as refused:
        jobs.check_cron(cron)
    assert str(refused.value) == message


def test_a_wrong_job_id_is_refused_before_it_is_sent(vertex: VertexClient) -> None:
    with pytest.raises(ConfigError, match="--job-id: 'Small_1' does not match"):
        jobs.submit(vertex, job(task("a")), "Small_1")


def test_two_replicas_train_with_a_cluster_each(bench: Bench, vertex: VertexClient) -> None:
    """The emulator runs a custom job's replicas as Vertex does."""
    from google.cloud import aiplatform_v1 as v1

    code = "import json, os; c = json.loads(os.environ['TF_CONFIG']); assert len(c['cluster']['worker']) == 1; print(c['task'])"
    container = {"image_uri": "i", "command": [sys.executable, "-c", code]}
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1, "container_spec": container}
    spec = v1.CustomJobSpec(worker_pool_specs=[pool, pool])
    made = vertex.jobs.create_custom_job(
        parent=bench.place.parent, custom_job=v1.CustomJob(display_name="t", job_spec=spec)
    )
    deadline = time.monotonic() + 60
    while vertex.jobs.get_custom_job(name=made.name).state not in (
        v1.JobState.JOB_STATE_SUCCEEDED,
        v1.JobState.JOB_STATE_FAILED,
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert vertex.jobs.get_custom_job(name=made.name).state == v1.JobState.JOB_STATE_SUCCEEDED
    logs = sorted((bench.server.emulator.state / "custom-jobs").rglob("*.log"))
    assert [json.loads(log.read_text().replace("'", '"'))["type"] for log in logs] == ["chief", "worker"]


class _Config:
    """The part of a pipeline's config that a record keeps."""

    name = "small"

    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"name": self.name, "vertex": {}}


def create_rehearsal(folder: Path, *tasks: dict[str, Any]) -> Recorded:
    return Recorded(
        _Config(),  # type: ignore[arg-type]
        job(*tasks),
        folder,
        storage=folder / "storage",
        environment={},
        started=lambda task: None,
        finished=lambda task: None,
    )


def test_a_rehearsal_keeps_a_record_that_oncall_reads(tmp_path: Path) -> None:
    rehearsal = create_rehearsal(
        tmp_path, task("a", "print('hello')"), task("b", "raise ValueError('bad data')", inputs={"model": "a"})
    )
    with RunRoot(tmp_path).hold("--folder"):
        rehearsal.run()
    result = CliRunner().invoke(oncall, ["why", "latest", "--run-root", str(tmp_path), "--json"])
    document = json.loads(result.stdout)
    assert (document["run"], document["state"], document["node"], document["exit_code"]) == (
        rehearsal.job_id,
        "FAILED",
        "b",
        1,
    )
    assert document["cause"] == "b: ValueError: bad data"
    assert document["log"] == str(tmp_path / "logs" / rehearsal.job_id / "b.log")
    assert document["lines"][-1] == "ValueError: bad data"
    assert document["try"][0] == f"less +G {document['log']}    # the whole story"
    show = CliRunner().invoke(oncall, ["show", "latest", "--run-root", str(tmp_path), "--json"])
    assert show.exit_code == 0
    run_document = json.loads(show.stdout)
    assert [(node["node"], node["state"]) for node in run_document["nodes"]] == [("a", "complete"), ("b", "failed")]
    assert run_document["config"] == {"name": "small", "vertex": {}}


def test_what_a_rehearsal_has_not_is_said(tmp_path: Path) -> None:
    create_rehearsal(tmp_path, task("a")).run()
    for command, message in {
        ("lineage", "1"): "holds rehearsals, which leave nothing in ML Metadata",
        ("serving",): "holds rehearsals, which push to an emulator; nothing serves there",
        ("resume", "latest"): "is a rehearsal; start it again: python",
    }.items():
        result = CliRunner().invoke(oncall, [*command, "--run-root", str(tmp_path)])
        assert result.exit_code in (2, 6), result.output
        assert (result.stderr.count("\n"), message in result.stderr) == (1, True), result.stderr
    doctor = CliRunner().invoke(oncall, ["doctor", "--run-root", str(tmp_path)])
    assert "not here   database, artifacts, registry: a rehearsal has none" in doctor.output


def test_a_second_rehearsal_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        RunRoot(tmp_path).hold("--folder"),
        pytest.raises(RunRootError, match="another run is using it: .* give --folder another folder"),
        RunRoot(tmp_path).hold("--folder"),
    ):
        pass


def test_a_job_leaves_its_lineage_in_ml_metadata(bench: Bench, vertex: VertexClient) -> None:
    """Record a run as Vertex Pipelines does: contexts, an execution for each task, artifacts with TFX's types, events."""
    from google.cloud import aiplatform_v1 as v1

    resolver = {"resolver": {"outputArtifactQueries": {"model": {"filter": 'schema_title="tfx.Model"'}}}}
    jobs.submit(
        vertex, job(task("a"), task("b", inputs={"model": "a"}), task("r", after=("b",), executor=resolver)), "small-1"
    )
    assert follow(vertex, "small-1").state == "SUCCEEDED"
    client, parent = vertex.metadata, f"{ANSWERED_PARENT}/metadataStores/default"
    run = client.get_context(name=f"{parent}/contexts/small-1")
    assert (run.schema_title, list(run.parent_contexts)) == ("system.PipelineRun", [f"{parent}/contexts/small"])
    assert client.get_context(name=run.parent_contexts[0]).schema_title == "system.Pipeline"
    inside = f'in_context("{run.name}")'
    executions = {e.display_name: e for e in client.list_executions({"parent": parent, "filter": inside})}
    assert {name: (e.schema_title, e.state.name) for name, e in executions.items()} == {
        "small-1": ("system.Run", "COMPLETE"),
        "a": ("system.ContainerExecution", "COMPLETE"),
        "b": ("system.ContainerExecution", "COMPLETE"),
        "r": ("system.ResolverExecution", "COMPLETE"),
    }
    artifacts = list(client.list_artifacts({"parent": parent, "filter": f'{inside} AND schema_title="tfx.Model"'}))
    assert [artifact.display_name for artifact in artifacts] == ["model", "model"]
    assert all(artifact.uri.startswith(f"gs://{BUCKET}/root/") for artifact in artifacts)
    around = client.query_execution_inputs_and_outputs(execution=executions["b"].name)
    kinds = {event.artifact: event.type_ for event in around.events}
    made = client.query_artifact_lineage_subgraph({"artifact": artifacts[0].name, "max_hops": 1})
    assert {execution.display_name for execution in made.executions} == {"a", "b"}
    assert kinds[artifacts[0].name] == v1.Event.Type.INPUT
    whole = client.query_context_lineage_subgraph(context=run.name)
    assert (len(whole.executions), len(whole.artifacts), len(whole.events)) == (4, 2, 4)
    # The list does not tell of the tasks; the job itself does.
    (listed,) = vertex.pipelines.list_pipeline_jobs(parent=bench.place.parent)
    assert not listed.job_detail.task_details
    details = vertex.pipelines.get_pipeline_job(name=listed.name).job_detail
    assert (details.pipeline_run_context.name, details.task_details[0].task_name) == (run.name, "small-1")
    (of_b,) = [detail for detail in details.task_details if detail.task_name == "b"]
    assert of_b.inputs["model"].artifacts[0].name == artifacts[0].name


def test_a_rehearsal_shows_the_decision_of_its_evaluation(tmp_path: Path) -> None:
    summary = {"decision": {"text": "threshold 0.31, expected cost 1.2 a row"}, "weight_column": "weight"}
    code = f"json.dump({summary!r}, open(artifact['uri'] + '/summary.json', 'w'))"
    rehearsed = job(task("Evaluator", code))
    (component,) = rehearsed["pipelineSpec"]["components"].values()
    component["outputDefinitions"]["artifacts"] = {"evaluation": {"artifactType": MODEL}}
    Recorded(
        _Config(),  # type: ignore[arg-type]
        rehearsed,
        tmp_path,
        storage=tmp_path / "storage",
        environment={},
        started=lambda task: None,
        finished=lambda task: None,
    ).run()
    result = CliRunner().invoke(oncall, ["show", "latest", "--run-root", str(tmp_path)])
    assert "decision   threshold 0.31, expected cost 1.2 a row" in result.output
    assert "weighted   by weight" in result.output
    assert f"evaluation {tmp_path}" in result.output


def test_all_sections_that_a_rehearsal_needs_are_named_at_once(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "configs" / "flights.yaml").read_text())
    assert "vertex" not in config
    arguments = ["rehearse", "--config", str(ROOT / "configs" / "flights.yaml"), "--folder", str(tmp_path / "r")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
    assert "error: vertex (project, region, pipeline_root, input_base, image) and push.vertex" in result.output
    assert not (tmp_path / "r").exists()


def test_a_rehearsal_checks_the_request_log_that_its_push_left(tmp_path: Path) -> None:
    config = VertexRequestLog(table="my-project.logs.requests")
    metadata = {"vertex": json.dumps({"request_log": "10 % of the requests to my-project.logs.requests"})}
    results = {"Pusher": TaskResult("Pusher", "SUCCEEDED", outputs={"pushed_model": [{"metadata": metadata}]})}
    run = create_rehearsal(tmp_path, task("a"))
    assert run.describe_request_log(results, config) == [
        "request log of the endpoint: 10 % of the requests to my-project.logs.requests"
    ]
    assert run.describe_request_log(results, None) == run.describe_request_log({}, config) == []
    with pytest.raises(
        PushError, match=r"^push\.vertex\.request_log: expected off, found 10 % of the requests to my-p"
    ):
        run.describe_request_log(results, config.model_copy(update={"sampling_rate": 0.0}))
