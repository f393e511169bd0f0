"""PipelineService and ScheduleService: the rehearsal of the compiled spec runs the jobs."""

import logging
import re
import threading
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2, field_mask_pb2, json_format
from google.rpc import code_pb2, status_pb2

from cli.errors import PipelineError
from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from emulators.vertex.lineage import begin_run, begin_task, end_run, end_task
from emulators.vertex.service import Emulator, finisher, list_page, method
from emulators.vertex.store import now
from pipeline.vertex.rehearsal import Rehearsal, TaskResult

_LOG = logging.getLogger(__name__)
# "Less than 128 characters" (CreatePipelineJobRequest.pipeline_job_id).
_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,126}")
_PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
# One job at a time: each takes the whole machine.
_JOB_LOCK = threading.Lock()
_RUNNING: dict[str, Rehearsal] = {}


@method("PipelineService")
def create_pipeline_job(emulator: Emulator, request: Any) -> Any:
    job = request.pipeline_job
    body = json_format.MessageToDict(v1.PipelineJob.pb(job))
    spec = body.get("pipelineSpec") or {}
    if not _PIPELINE_NAME.fullmatch(spec.get("pipelineInfo", {}).get("name", "")):
        raise InvalidArgumentError("pipeline_spec.pipelineInfo.name does not match [a-z0-9][a-z0-9-]{0,127}.")
    if not job.runtime_config.gcs_output_directory.startswith("gs://"):
        raise InvalidArgumentError("runtime_config.gcs_output_directory must be a gs:// URI.")
    check_network(job.network)
    if emulator.iam is not None:
        emulator.iam.check_acting(job.service_account)
    job_id = request.pipeline_job_id or f"{spec['pipelineInfo']['name']}-{emulator.store.new_id()}"
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidArgumentError(f"pipeline_job_id {job_id} does not match [a-z][-a-z0-9]{{0,126}}.")
    job.name = f"{request.parent}/pipelineJobs/{job_id}"
    if emulator.store.has(job.name):
        raise StatusError("ALREADY_EXISTS", f"PipelineJob {job.name} already exists.")
    job.state = v1.PipelineState.PIPELINE_STATE_PENDING
    begin_run(emulator, job, spec["pipelineInfo"]["name"], list(spec["root"]["dag"]["tasks"]))
    emulator.store.put(job)
    threading.Thread(target=_run, args=(emulator, job.name, job_id, body), daemon=True).start()
    return job


def check_network(network: str) -> None:
    """Check a VPC network: "{project} is a project number" (PipelineJob.network, CustomJobSpec.network)."""
    if network and not re.fullmatch(r"projects/\d+/global/networks/[^/]+", network):
        raise InvalidArgumentError(f"network {network} is not of the form projects/NUMBER/global/networks/NETWORK.")


def _run(emulator: Emulator, name: str, job_id: str, body: dict[str, Any]) -> None:
    with _JOB_LOCK:
        job = emulator.store.get(name)
        if job.state == v1.PipelineState.PIPELINE_STATE_CANCELLED:
            return
        rehearsal = Rehearsal(
            body,
            emulator.state / "pipelines",
            job_id=job_id,
            storage=emulator.storage,
            environment=emulator.environment,
            started=lambda task: _begin_task(emulator, name, task),
            finished=lambda result: _end_task(emulator, name, result),
        )
        _RUNNING[name] = rehearsal
        job.state, job.start_time = v1.PipelineState.PIPELINE_STATE_RUNNING, now()
        emulator.store.put(job)
        error = ""
        try:
            results = rehearsal.run()
            states = {result.state for result in results.values()}
            failed = next((result for result in results.values() if result.state == "FAILED"), None)
            error = f"The task {failed.task} has failed: {failed.error}" if failed else ""
        except PipelineError as problem:
            states, error = {"FAILED"}, str(problem)
        except Exception as problem:
            # A job without an end would seem to run for ever.
            _LOG.exception("%s", name)
            states, error = {"FAILED"}, f"the emulator failed: {type(problem).__name__}: {problem}"
        finally:
            _RUNNING.pop(name, None)
        with emulator.store.transaction():
            job = emulator.store.get(name)
            end_run(
                emulator,
                job,
                "CANCELLED" if "CANCELLED" in states else "FAILED" if "FAILED" in states else "SUCCEEDED",
            )
            if error:
                job.error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=error)
            emulator.store.put(job)


def _begin_task(emulator: Emulator, name: str, task: str) -> None:
    with emulator.store.transaction():
        job = emulator.store.get(name)
        begin_task(emulator, job, task, _find_kind(job, task))
        emulator.store.put(job)


def _find_kind(job: Any, task: str) -> str:
    """Return the kind of executor of a task: `container` or `resolver`."""
    spec = json_format.MessageToDict(v1.PipelineJob.pb(job).pipeline_spec)
    component = spec["components"][spec["root"]["dag"]["tasks"][task]["componentRef"]["name"]]
    kind: str = next(iter(spec["deploymentSpec"]["executors"][component["executorLabel"]]))
    return kind


def _end_task(emulator: Emulator, name: str, result: TaskResult) -> None:
    with emulator.store.transaction():
        job = emulator.store.get(name)
        end_task(emulator, job, result)
        emulator.store.put(job)


@method("PipelineService")
def get_pipeline_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("PipelineService")
def list_pipeline_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/pipelineJobs/", "PipelineJob")
    response = list_page(
        v1.types.ListPipelineJobsResponse,
        "pipeline_jobs",
        jobs,
        request,
        lambda job: {"pipeline_job_user_id": job.name.rpartition("/")[2], "pipeline_name": _get_pipeline_name(job)},
    )
    # "Not available in the list view."
    response.pipeline_jobs = [_mask(job, request.read_mask.paths) for job in response.pipeline_jobs]
    return response


def _get_pipeline_name(job: Any) -> str:
    """Return what the filter calls pipeline_name (ListPipelineJobsRequest.filter)."""
    spec = json_format.MessageToDict(v1.PipelineJob.pb(job).pipeline_spec)
    return str(spec.get("pipelineInfo", {}).get("name", ""))


def _mask(job: Any, paths: Any) -> Any:
    """Return the fields of a read mask; one may be nested, also in the spec."""
    job.job_detail = v1.PipelineJobDetail()
    if not paths:
        return job
    source, masked = v1.PipelineJob.pb(job), v1.PipelineJob.pb(v1.PipelineJob())
    spec = json_format.MessageToDict(source.pipeline_spec)
    keys = [path.partition(".")[2].split(".")[0] for path in paths if path.startswith("pipeline_spec.")]
    masked.pipeline_spec.update({key: spec[key] for key in keys if key in spec})
    plain = [path for path in paths if not path.startswith("pipeline_spec.")]
    field_mask_pb2.FieldMask(paths=plain).MergeMessage(source, masked)
    return v1.PipelineJob.wrap(masked)


@method("PipelineService")
def delete_pipeline_job(emulator: Emulator, request: Any) -> Any:
    if request.name in _RUNNING:
        raise FailedPreconditionError(f"{request.name} is running; cancel it first.")
    emulator.store.get(request.name)
    return emulator.operations.start("DeletePipelineJob", request.name, {"name": request.name})


@finisher("DeletePipelineJob")
def _finish_delete_job(emulator: Emulator, request: dict[str, Any]) -> Any:
    emulator.store.delete(request["name"])
    return empty_pb2.Empty()


@method("PipelineService")
def cancel_pipeline_job(emulator: Emulator, request: Any) -> Any:
    job = emulator.store.get(request.name)
    if request.name in _RUNNING:
        _RUNNING[request.name].cancel()
        job.state = v1.PipelineState.PIPELINE_STATE_CANCELLING
    else:
        job.state = v1.PipelineState.PIPELINE_STATE_CANCELLED
    emulator.store.put(job)
    return empty_pb2.Empty()


def end_interrupted(emulator: Emulator) -> None:
    """End the jobs that an earlier emulator was running when it stopped."""
    stopped = status_pb2.Status(code=code_pb2.ABORTED, message="The emulator was stopped.")
    states, tasks = v1.PipelineState, v1.PipelineTaskDetail.State
    for job in emulator.store.list_below("projects/", "PipelineJob"):
        if job.state == states.PIPELINE_STATE_CANCELLING:
            job.state, job.end_time, running = states.PIPELINE_STATE_CANCELLED, now(), tasks.CANCELLED
        elif job.state in (states.PIPELINE_STATE_PENDING, states.PIPELINE_STATE_RUNNING):
            job.state, job.end_time, running = states.PIPELINE_STATE_FAILED, now(), tasks.FAILED
            job.error = stopped
        else:
            continue
        for detail in job.job_detail.task_details:
            if detail.state == tasks.RUNNING:
                detail.state, detail.end_time, detail.error = running, now(), stopped
            elif detail.state == tasks.PENDING:
                detail.state = tasks.NOT_TRIGGERED
        emulator.store.put(job)


def cancel_all() -> None:
    """Cancel all running jobs."""
    for rehearsal in list(_RUNNING.values()):
        rehearsal.cancel()


@method("ScheduleService")
def create_schedule(emulator: Emulator, request: Any) -> Any:
    schedule = request.schedule
    _check_cron(schedule.cron)
    schedule.name = f"{request.parent}/schedules/{emulator.store.new_id()}"
    schedule.state = v1.Schedule.State.ACTIVE
    return emulator.store.put(schedule)


@method("ScheduleService")
def update_schedule(emulator: Emulator, request: Any) -> Any:
    schedule = emulator.store.get(request.schedule.name)
    for path in request.update_mask.paths:
        setattr(schedule, path, getattr(request.schedule, path))
    _check_cron(schedule.cron)
    return emulator.store.put(schedule)


def _check_cron(cron: str) -> None:
    if not re.fullmatch(r"((CRON_)?TZ=\S+ )?([\d*/,\-]+ ){4}[\d*/,\-]+", cron):
        raise InvalidArgumentError(f"cron {cron} is not valid.")


@method("ScheduleService")
def pause_schedule(emulator: Emulator, request: Any) -> Any:
    """Pause a schedule; the code for one that is not active is a guess."""
    return _set_state(emulator, request.name, v1.Schedule.State.ACTIVE, v1.Schedule.State.PAUSED)


@method("ScheduleService")
def resume_schedule(emulator: Emulator, request: Any) -> Any:
    """Resume a schedule; the code for one that is not paused is a guess."""
    return _set_state(emulator, request.name, v1.Schedule.State.PAUSED, v1.Schedule.State.ACTIVE)


def _set_state(emulator: Emulator, name: str, before: Any, after: Any) -> Any:
    schedule = emulator.store.get(name)
    if schedule.state != before:
        raise FailedPreconditionError(f"{name} is {schedule.state.name}, not {before.name}.")
    schedule.state = after
    emulator.store.put(schedule)
    return empty_pb2.Empty()


@method("ScheduleService")
def get_schedule(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("ScheduleService")
def list_schedules(emulator: Emulator, request: Any) -> Any:
    schedules = emulator.store.list_below(f"{request.parent}/schedules/", "Schedule")
    return list_page(v1.types.ListSchedulesResponse, "schedules", schedules, request)


@method("ScheduleService")
def delete_schedule(emulator: Emulator, request: Any) -> Any:
    emulator.store.get(request.name)
    return emulator.operations.start("DeleteSchedule", request.name, {"name": request.name})


@finisher("DeleteSchedule")
def _finish_delete_schedule(emulator: Emulator, request: dict[str, Any]) -> Any:
    emulator.store.delete(request["name"])
    return empty_pb2.Empty()
