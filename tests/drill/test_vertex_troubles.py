"""Six troubles on Vertex AI, in the emulator: each is asked about with the runbook's commands."""

import shlex
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.cloud import aiplatform_v1 as v1

import vertex_runner
from oncall.__main__ import main
from serving.registry.vertex.config import VertexRequestLog
from serving.registry.vertex.lease import build_lease_name
from serving.registry.vertex.request_log import FIELD, build_message
from tests.drill.drill import assert_says, find_command, proposed_commands
from tests.drill.samples import assert_sample
from tests.oncall.run_roots import NAME
from tests.oncall.vertex_jobs import PARENT, VertexJobs
from tests.vertex_fixtures import PROJECT, REGION, Bench, EmulatorServer

pytestmark = [pytest.mark.integration, pytest.mark.proof]


@pytest.fixture
def jobs(server: EmulatorServer) -> VertexJobs:
    return VertexJobs(server.emulator)


def ask(*arguments: str) -> str:
    """Return what a command prints about the emulator's project."""
    result = CliRunner().invoke(main, [*arguments, "--project", PROJECT, "--region", REGION])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    for line in proposed_commands(result.output):
        if line.startswith("python -m"):
            assert f"--project {PROJECT} --region {REGION}" in line, line
    return result.output


def test_a_task_that_failed(jobs: VertexJobs, bench: Bench) -> None:
    jobs.run("good")
    jobs.run("bad", fails=("Trainer", "Trainer: ValueError: the loss is NaN"))
    why = ask("why", "latest")
    assert_says(why, ["node       Trainer", "cause      Trainer: ValueError: the loss is NaN", "gcloud logging read"])
    bench.push(0.1, "good")
    assert_says(ask("check", "--model", NAME), ["bad FAILED: Trainer: ValueError"])
    assert find_command(why, "vertex_runner.py submit --wait")
    jobs.run("again")
    assert_says(ask("check", "--model", NAME), ["again SUCCEEDED"], ["NOT ok"])


def test_a_name_that_is_taken(jobs: VertexJobs, bench: Bench) -> None:
    for number, run in enumerate(("monday", "tuesday"), 1):
        jobs.run(run)
        bench.push(number / 10, run)
    error = f"Pusher: PushError: push.model_name: '{NAME}' is taken: version 1 of {PARENT}/models/{NAME} belongs to the"
    owner = f"pipeline '{NAME}', not to 'another-team'. Choose another name"
    jobs.run("wednesday", fails=("Pusher", f"{error} {owner}"))
    place = f"--project {PROJECT} --region {REGION}"
    assert_sample(f"runs {place}", ask("runs"))
    assert_sample(f"why latest {place}", ask("why", "latest"))
    assert_sample(f"serving {place}", ask("serving", "--model", NAME))


def test_an_image_that_cannot_be_pulled(jobs: VertexJobs) -> None:
    image = "europe-west4-docker.pkg.dev/my-project/images/pipeline:v7"
    jobs.run("good")
    jobs.run("bad", fails=("Trainer", f"INVALID_ARGUMENT: Error pulling image {image}: manifest unknown."))
    why = ask("why", "latest")
    assert_says(why, ["Error pulling image"])
    assert find_command(why, "gcloud artifacts docker images describe", image)
    assert find_command(why, "vertex_runner.py submit --wait")
    jobs.run("again")
    assert_says(ask("why", "latest"), ["run        again", "state      SUCCEEDED"])


def test_a_lease_that_a_dead_push_left(jobs: VertexJobs, bench: Bench) -> None:
    jobs.run("run-1")
    bench.push(0.1, "run-1")
    vertex = bench.vertex()
    lease = vertex.metadata.get_context(v1.GetContextRequest(name=build_lease_name(vertex, NAME)))
    lease.metadata = {**dict(lease.metadata), "run_id": "run-2", "host": "gone", "expires": time.time() + 300}
    vertex.metadata.update_context(v1.UpdateContextRequest(context=lease))
    doctor = ask("doctor")
    assert_says(
        doctor, ["held by run run-2, on gone", "a push that died leaves it for ", "the next push takes it over"]
    )
    lease = vertex.metadata.get_context(v1.GetContextRequest(name=lease.name))
    lease.metadata = {**dict(lease.metadata), "expires": time.time() - 1}
    vertex.metadata.update_context(v1.UpdateContextRequest(context=lease))
    jobs.run("run-3")
    bench.push(0.2, "run-3")
    assert_says(ask("doctor"), ["nothing is wrong"])


def test_traffic_that_was_changed_by_hand(jobs: VertexJobs, bench: Bench) -> None:
    for number in (1, 2):
        jobs.run(f"run-{number}")
        bench.push(number / 10, f"run-{number}")
    vertex, endpoint = bench.vertex(), bench.endpoint()
    split = {deployed.id: 50 for deployed in endpoint.deployed}
    changed = v1.Endpoint(name=endpoint.resource, traffic_split=split)
    vertex.endpoints.update_endpoint(
        v1.UpdateEndpointRequest(endpoint=changed, update_mask={"paths": ["traffic_split"]})
    )
    check = ask("check", "--model", NAME)
    assert_says(check, ["version 1 should get nothing: the traffic was changed by hand"])
    command = find_command(check, "serving.registry promote", "--version 2")
    assert "--yes to do it" in command
    bench.registry().promote(2)
    assert_says(ask("check", "--model", NAME), ["serves version 2 with 100 %"], ["by hand"])


def test_a_request_log_that_was_turned_off_by_hand(jobs: VertexJobs, bench: Bench) -> None:
    (bench.server.emulator.bigquery / PROJECT / "logs").mkdir(parents=True)
    table = f"{PROJECT}.logs.requests"
    jobs.run("run-1")
    bench.push(0.1, "run-1")
    # The key is set when the model is pushed already.
    bench.deployment = bench.deployment.model_copy(update={"request_log": VertexRequestLog(table=table)})
    bench.push(0.1, "run-1")
    assert_says(ask("doctor", "--model", NAME), [], ["request log"])
    changed = v1.Endpoint(name=bench.endpoint().resource, **{FIELD: build_message(None)})
    bench.vertex().endpoints.update_endpoint(v1.UpdateEndpointRequest(endpoint=changed, update_mask={"paths": [FIELD]}))
    assert_says(
        ask("doctor", "--model", NAME),
        [f"its request log was changed by hand: 10 % of the requests to {table} -> off", "submit the config"],
    )
    bench.push(0.1, "run-1")
    assert_says(ask("doctor", "--model", NAME), [], ["request log"])


def test_a_schedule_that_does_not_fire(jobs: VertexJobs, bench: Bench) -> None:
    jobs.run("run-1")
    vertex = bench.vertex()
    job = vertex.pipelines.get_pipeline_job(v1.GetPipelineJobRequest(name=f"{PARENT}/pipelineJobs/run-1"))
    plain = v1.PipelineJob(
        display_name=NAME, pipeline_spec=job.pipeline_spec, runtime_config={"gcs_output_directory": "gs://bucket/root"}
    )
    schedule = vertex.schedules.create_schedule(
        v1.CreateScheduleRequest(
            parent=PARENT,
            schedule=v1.Schedule(
                display_name=NAME,
                cron="0 3 * * *",
                max_concurrent_run_count=1,
                create_pipeline_job_request={"parent": PARENT, "pipeline_job": plain},
            ),
        )
    )
    assert_says(ask("doctor"), [], ["schedule "])
    vertex.schedules.pause_schedule(v1.PauseScheduleRequest(name=schedule.name))
    doctor = ask("doctor")
    assert_says(doctor, [f"of {NAME} (0 3 * * *): is paused since 20"])
    program, *arguments = shlex.split(find_command(doctor, "schedules resume"), comments=True)[1:]
    assert Path(program).name == "vertex_runner.py"
    result = CliRunner().invoke(vertex_runner.main, arguments)
    assert result.exit_code == 0, result.output
    assert_says(ask("doctor"), [], ["schedule "])
