"""Behaviour of pipeline jobs and schedules that google-cloud-aiplatform's system tests assert, by the real client."""

import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform import pipeline_jobs
from google.cloud.aiplatform.utils import gcs_utils
from google.protobuf import json_format

from emulators.vertex.cron import Cron
from emulators.vertex.pipelines import JOB_LOCK
from emulators.vertex.server import EmulatorServer
from tests.emulators.conftest import STORE, client
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, PROJECT, PROJECT_NUMBER, REGION

pytestmark = pytest.mark.integration


def _job(name: str = "conformance-pipeline") -> v1.PipelineJob:
    spec = {
        "pipelineInfo": {"name": name},
        "components": {"none": {"executorLabel": "none"}},
        "deploymentSpec": {"executors": {"none": {"resolver": {"outputArtifactQueries": {}}}}},
        "root": {
            "dag": {"tasks": {"none": {"componentRef": {"name": "none"}}}},
            "inputDefinitions": {"parameters": {"epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3}}},
        },
    }
    runtime = {"gcs_output_directory": f"gs://{BUCKET}/root", "parameter_values": {"rate": 0.5}}
    return v1.PipelineJob(display_name="conformance", pipeline_spec=spec, runtime_config=runtime, labels={"a": "b"})


def test_a_schedule_is_made_paused_resumed_changed_and_deleted(service: EmulatorServer) -> None:
    schedules = client(service, v1.ScheduleServiceClient)
    request = v1.CreatePipelineJobRequest(parent=ANSWERED_PARENT, pipeline_job=_job())
    schedule = v1.Schedule(
        display_name="daily",
        cron="TZ=Europe/Berlin 0 3 * * *",
        max_concurrent_run_count=1,
        create_pipeline_job_request=request,
    )
    made = schedules.create_schedule(parent=ANSWERED_PARENT, schedule=schedule)
    read = aiplatform.PipelineJobSchedule.get(made.name)
    assert (read.state.name, read.cron) == ("ACTIVE", "TZ=Europe/Berlin 0 3 * * *")
    read.pause()
    assert aiplatform.PipelineJobSchedule.get(made.name).state.name == "PAUSED"
    read.resume(catch_up=False)
    assert aiplatform.PipelineJobSchedule.get(made.name).state.name == "ACTIVE"
    changed = v1.Schedule(name=made.name, cron="CRON_TZ=Europe/Berlin 0 4 * * *")
    schedules.update_schedule(schedule=changed, update_mask={"paths": ["cron"]})
    assert aiplatform.PipelineJobSchedule.list(filter='display_name="daily"')[0].cron.endswith("0 4 * * *")
    schedules.delete_schedule(name=made.name).result()
    with pytest.raises(exceptions.NotFound):
        schedules.get_schedule(name=made.name)


def test_a_pipeline_job_is_run_listed_and_deleted(service: EmulatorServer) -> None:
    pipelines = client(service, v1.PipelineServiceClient)
    made = pipelines.create_pipeline_job(
        parent=f"projects/{PROJECT}/locations/{REGION}", pipeline_job=_job(), pipeline_job_id="conformance-1"
    )
    assert made.name == f"{ANSWERED_PARENT}/pipelineJobs/conformance-1"
    deadline = time.monotonic() + 60
    while pipelines.get_pipeline_job(name=made.name).state != v1.PipelineState.PIPELINE_STATE_SUCCEEDED:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    job = aiplatform.PipelineJob.get(made.name)
    assert (job.display_name, job.has_failed, job.labels) == ("conformance", False, {"a": "b"})
    assert {detail.task_name for detail in job.task_details} == {"none", "conformance-1"}

    by_name = aiplatform.PipelineJob.list(filter='pipeline_name="conformance-pipeline"')
    assert [listed.name for listed in by_name] == ["conformance-1"]
    assert aiplatform.PipelineJob.list(filter='pipeline_name="other"') == []
    mask = {"paths": ["name", "runtime_config.gcs_output_directory", "pipeline_spec.pipelineInfo"]}
    (masked,) = pipelines.list_pipeline_jobs({"parent": ANSWERED_PARENT, "read_mask": mask})
    assert masked.runtime_config.gcs_output_directory == f"gs://{BUCKET}/root"
    assert (masked.display_name, dict(masked.runtime_config.parameter_values)) == ("", {})
    assert set(masked.pipeline_spec) == {"pipelineInfo"}

    with pytest.raises(exceptions.AlreadyExists):
        pipelines.create_pipeline_job(parent=ANSWERED_PARENT, pipeline_job=_job(), pipeline_job_id="conformance-1")
    job.delete()
    with pytest.raises(exceptions.NotFound):
        pipelines.get_pipeline_job(name=made.name)


@pytest.mark.parametrize("job_id", ["1a", "A", "a_b", "a" * 128])
def test_a_job_id_that_is_not_allowed_is_rejected(service: EmulatorServer, job_id: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        client(service, v1.PipelineServiceClient).create_pipeline_job(
            parent=ANSWERED_PARENT, pipeline_job=_job(), pipeline_job_id=job_id
        )


# A pipeline of Kubeflow Pipelines: defaults, placeholders, an experiment.

_METRICS = """
import json, sys
request = json.loads(sys.argv[1])
(metrics,) = request["outputs"]["artifacts"]["metrics"]["artifacts"]
metrics["metadata"] = {"accuracy": 0.8, "epochs": int(sys.argv[2])}
with open(request["outputs"]["outputFile"], "w") as file:
    json.dump({"artifacts": {"metrics": {"artifacts": [metrics]}}}, file)
"""
_CHECK = "import sys; assert sys.argv[1:] == ['2', '--rate', '0.5'], sys.argv"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    from kfp import compiler, dsl

    @dsl.container_component
    def train(epochs: int, rate: float = 0.5) -> dsl.ContainerSpec:
        rate_flag = dsl.IfPresentPlaceholder("rate", ["--rate", rate])
        return dsl.ContainerSpec(image="python:3.11", command=["python", "-c"], args=[_CHECK, epochs, rate_flag])

    @dsl.container_component
    def measure(metrics: dsl.Output[dsl.Metrics], epochs: int) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(image="python:3.11", command=["python", "-c"], args=[_METRICS, "{{$}}", epochs])

    @dsl.pipeline(name="kubeflow-pipeline")
    def pipeline(epochs: int = 2, unused: str = "x") -> None:
        measure(epochs=epochs).after(train(epochs=epochs))

    file = str(tmp_path_factory.mktemp("kfp") / "pipeline.json")
    compiler.Compiler().compile(pipeline, file)
    return file


@pytest.fixture
def kubeflow_job(
    service: EmulatorServer, template: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], aiplatform.PipelineJob]:
    # It asks Google's Resource Manager who owns the bucket.
    monkeypatch.setattr(gcs_utils, "create_gcs_bucket_for_pipeline_artifacts_if_it_does_not_exist", lambda **_: None)
    monkeypatch.setattr(pipeline_jobs, "_JOB_WAIT_TIME", 0.2)
    return lambda job_id: aiplatform.PipelineJob(
        display_name="kubeflow", template_path=template, job_id=job_id, enable_caching=False
    )


def test_a_kubeflow_pipeline_runs_with_its_defaults_and_is_part_of_an_experiment(
    service: EmulatorServer, kubeflow_job: Callable[[str], aiplatform.PipelineJob]
) -> None:
    aiplatform.Experiment.create("pipeline-experiment")
    job = kubeflow_job("kubeflow-1")
    job.submit(experiment="pipeline-experiment")
    job.wait()
    assert job.state == v1.PipelineState.PIPELINE_STATE_SUCCEEDED
    associated = job.get_associated_experiment()
    assert associated is not None and associated.name == "pipeline-experiment"
    (row,) = aiplatform.get_experiment_df("pipeline-experiment").to_dict("records")
    assert row == {
        "experiment_name": "pipeline-experiment",
        "run_name": "kubeflow-1",
        "run_type": "system.PipelineRun",
        "state": "COMPLETE",
        "param.epochs": 2,
        "param.unused": "x",
        "metric.accuracy": 0.8,
        "metric.epochs": 2,
    }


def test_the_simple_view_of_jobs_has_the_fields_of_its_mask(
    service: EmulatorServer, kubeflow_job: Callable[[str], aiplatform.PipelineJob]
) -> None:
    job = kubeflow_job("kubeflow-2")
    job.submit()
    job.wait()
    query = 'pipeline_name="kubeflow-pipeline"'
    simple = aiplatform.PipelineJob.list(filter=query, enable_simple_view=True)[0].gca_resource
    full = aiplatform.PipelineJob.list(filter=query)[0].gca_resource
    # "If not specified, the Compute Engine default service account in the project will be used" (PipelineJob).
    assert full.service_account == f"{PROJECT_NUMBER}-compute@developer.gserviceaccount.com"
    assert (simple.service_account, dict(simple.runtime_config.parameter_values)) == ("", {})
    assert (simple.display_name, simple.state.name) == ("kubeflow", "PIPELINE_STATE_SUCCEEDED")
    assert json_format.MessageToDict(type(simple).pb(simple))["pipelineSpec"] == {
        "pipelineInfo": {"name": "kubeflow-pipeline"}
    }
    assert simple.job_detail.pipeline_run_context.name == f"{STORE}/contexts/kubeflow-2"
    assert not simple.job_detail.task_details and not full.job_detail.task_details


def test_jobs_are_listed_latest_first_and_ordered_by_several_fields(
    service: EmulatorServer, kubeflow_job: Callable[[str], aiplatform.PipelineJob]
) -> None:
    pipelines = client(service, v1.PipelineServiceClient)
    for job_id in ("order-1", "order-2"):
        pipelines.create_pipeline_job(parent=ANSWERED_PARENT, pipeline_job=_job(), pipeline_job_id=job_id)

    def list_ids(order: str) -> list[str]:
        request = {"parent": ANSWERED_PARENT, "filter": 'pipeline_job_user_id:"order-*"', "order_by": order}
        return [job.name.rpartition("/")[2] for job in pipelines.list_pipeline_jobs(request)]

    assert list_ids("") == ["order-2", "order-1"]
    assert list_ids("create_time") == list_ids("display_name desc, createTime") == ["order-1", "order-2"]
    with pytest.raises(exceptions.InvalidArgument):
        list_ids("nothing")


# Schedules, by a clock that the test moves.


@pytest.fixture
def clock(service: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the emulator's clock."""

    def set_clock(time_: str) -> None:
        moment = datetime.datetime.fromisoformat(f"2027-03-27T{time_}+00:00").timestamp()
        monkeypatch.setattr(service.emulator, "clock", lambda: moment)

    return set_clock


def _list_runs(schedule: aiplatform.PipelineJobSchedule) -> int:
    return len(schedule.list_jobs())


def test_a_schedule_runs_until_its_last_run_and_catches_up_what_it_missed(
    service: EmulatorServer,
    clock: Callable[[str], None],
    kubeflow_job: Callable[[str], aiplatform.PipelineJob],
) -> None:
    clock("02:58:30")
    schedule = aiplatform.PipelineJobSchedule(pipeline_job=kubeflow_job("unused"), display_name="by the clock")
    schedule.create(cron="*/5 * * * *", max_run_count=3, max_concurrent_run_count=2)
    assert (schedule.state.name, schedule.cron, _list_runs(schedule)) == ("ACTIVE", "*/5 * * * *", 0)
    assert schedule.gca_resource.next_run_time.isoformat() == "2027-03-27T03:00:00+00:00"
    clock("03:00:00")
    assert _list_runs(schedule) == 1
    schedule.pause()
    assert schedule.state == v1.Schedule.State.PAUSED
    schedule.update(cron="* * * * *")
    assert schedule.cron == "* * * * *"
    clock("03:01:59")
    assert _list_runs(schedule) == 1
    # The SDK's own method does not send catch_up.
    client(service, v1.ScheduleServiceClient).resume_schedule(name=schedule.resource_name, catch_up=True)
    assert (_list_runs(schedule), schedule.state.name) == (2, "ACTIVE")
    clock("03:10:00")
    assert _list_runs(schedule) == 3
    schedule.wait()
    assert schedule.state == v1.Schedule.State.COMPLETED
    resource = schedule.gca_resource
    assert (resource.started_run_count, resource.catch_up) == (3, True)
    assert resource.last_scheduled_run_response.run_response.startswith(f"{ANSWERED_PARENT}/pipelineJobs/kubeflow-")
    assert schedule.list_jobs(enable_simple_view=False)[0].gca_resource.service_account
    for call in (schedule.pause, schedule.resume):
        with pytest.raises(exceptions.FailedPrecondition):
            call()


def _create(service: EmulatorServer, **fields: Any) -> Any:
    request = v1.CreatePipelineJobRequest(parent=ANSWERED_PARENT, pipeline_job=_job())
    values = {"display_name": "s", "cron": "* * * * *", "max_concurrent_run_count": 1, **fields}
    return client(service, v1.ScheduleServiceClient).create_schedule(
        parent=ANSWERED_PARENT, schedule=v1.Schedule(create_pipeline_job_request=request, **values)
    )


def test_a_resumed_schedule_skips_what_it_missed(service: EmulatorServer, clock: Callable[[str], None]) -> None:
    schedules = client(service, v1.ScheduleServiceClient)
    clock("04:00:30")
    made = _create(service)
    schedules.pause_schedule(name=made.name)
    clock("04:07:30")
    schedules.resume_schedule(name=made.name)
    read = schedules.get_schedule(name=made.name)
    assert (read.started_run_count, read.next_run_time.minute, read.catch_up) == (0, 8, False)
    assert read.last_resume_time > read.last_pause_time
    schedules.delete_schedule(name=made.name).result()


def test_a_schedule_starts_and_ends_by_its_times(service: EmulatorServer, clock: Callable[[str], None]) -> None:
    schedules = client(service, v1.ScheduleServiceClient)
    clock("05:00:00")
    at = datetime.datetime.fromisoformat
    made = _create(
        service, start_time=at("2027-03-27T05:10:00+00:00"), end_time=at("2027-03-27T05:12:00+00:00"), cron="* * * * *"
    )
    assert made.next_run_time.minute == 11
    clock("05:30:00")
    read = schedules.get_schedule(name=made.name)
    assert (read.started_run_count, read.state.name) == (2, "COMPLETED")


@pytest.mark.parametrize(("queued", "started"), [(False, 1), (True, 1)])
def test_a_schedule_keeps_its_limit_of_active_runs(
    service: EmulatorServer, clock: Callable[[str], None], queued: bool, started: int
) -> None:
    schedules = client(service, v1.ScheduleServiceClient)
    clock("06:00:00")
    # No job of the emulator starts while another one runs.
    with JOB_LOCK:
        made = _create(service, max_concurrent_active_run_count=1, allow_queueing=queued, max_run_count=2)
        clock("06:02:00")
        read = schedules.get_schedule(name=made.name)
        # A queued run is started behind schedule, a skipped one is not.
        assert (read.started_run_count, read.next_run_time.minute) == (started, 2 if queued else 3)
    schedules.delete_schedule(name=made.name).result()


@pytest.mark.parametrize("cron", ["61 * * * *", "* * * *", "* * 31 2 *", "TZ=Nowhere/Land * * * * *", "x * * * *"])
def test_a_cron_that_is_not_one_is_rejected(service: EmulatorServer, cron: str) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        _create(service, cron=cron)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("TZ=Europe/Berlin 0 3 * * *", "2026-11-30T00:00", "2026-11-30T02:00"),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", "2026-07-01T00:00", "2026-07-01T01:00"),
        # 2:30 does not come on the last Sunday in March.
        ("CRON_TZ=Europe/Berlin 30 2 * * *", "2027-03-27T12:00", "2027-03-29T00:30"),
        ("0 0 13 * FRI", "2026-11-07T00:00", "2026-11-13T00:00"),
        ("0 0 13 * 5", "2026-11-01T00:00", "2026-11-06T00:00"),
        ("*/20 9-17/4 * * *", "2026-11-30T09:40", "2026-11-30T13:00"),
        ("0 0 29 FEB *", "2026-11-30T00:00", "2028-02-29T00:00"),
        ("0 0 * * 7", "2026-11-30T00:00", "2026-12-06T00:00"),
    ],
)
def test_the_next_run_of_a_cron(cron: str, after: str, expected: str) -> None:
    moment = datetime.datetime.fromisoformat(f"{after}+00:00")
    assert Cron(cron).find_next(moment) == datetime.datetime.fromisoformat(f"{expected}+00:00")


def test_a_job_without_tasks_is_rejected(service: EmulatorServer) -> None:
    job = _job()
    del job.pipeline_spec["root"]
    with pytest.raises(exceptions.InvalidArgument, match="root.dag.tasks is required"):
        client(service, v1.PipelineServiceClient).create_pipeline_job(parent=ANSWERED_PARENT, pipeline_job=job)


def test_runs_that_were_due_while_no_emulator_ran_are_skipped(tls: Path, tmp_path: Path) -> None:
    def run_at(time_: str) -> Any:
        moment = datetime.datetime.fromisoformat(f"2027-03-27T{time_}+00:00").timestamp()
        return EmulatorServer(tmp_path, tls=tls, clock=lambda: moment)

    with run_at("07:00:30") as running:
        made = _create(running)
        assert made.next_run_time.strftime("%H:%M") == "07:01"
    with run_at("09:00:30") as running:
        read = client(running, v1.ScheduleServiceClient).get_schedule(name=made.name)
        assert (read.started_run_count, read.next_run_time.strftime("%H:%M")) == (0, "09:01")
