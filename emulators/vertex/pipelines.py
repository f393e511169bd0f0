"""PipelineService: the rehearsal of the compiled spec runs the jobs."""

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2, field_mask_pb2, json_format
from google.rpc import code_pb2, status_pb2

from cli.errors import PipelineError
from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from emulators.vertex.lineage import begin_run, begin_task, end_run, end_task
from emulators.vertex.service import Emulator, list_page, register_deletion, register_method, to_snake_case
from emulators.vertex.store import get_time
from pipeline.vertex.rehearsal import Rehearsal, TaskResult, list_defaults, make_task_starter
from serving.registry.vertex.connection import EMULATOR_ACCOUNT

_LOG = logging.getLogger(__name__)
# "Less than 128 characters" (CreatePipelineJobRequest.pipeline_job_id).
_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,126}")
_PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
# One job at a time: each takes the whole machine.
JOB_LOCK = threading.Lock()
_RUNNING: dict[str, Rehearsal] = {}
_ACTIVE = (
    v1.PipelineState.PIPELINE_STATE_QUEUED,
    v1.PipelineState.PIPELINE_STATE_PENDING,
    v1.PipelineState.PIPELINE_STATE_RUNNING,
    v1.PipelineState.PIPELINE_STATE_CANCELLING,
)


@register_method("PipelineService")
def create_pipeline_job(emulator: Emulator, request: Any) -> Any:
    check_job(emulator, request.pipeline_job)
    return start_job(emulator, request)


def check_job(emulator: Emulator, job: Any) -> None:
    """Check a job before it is made; the codes are guesses.

    KFP's and TFX's compilers: "pipeline name must match [a-z0-9][a-z0-9-]{0,127}". RuntimeConfig.gcs_output_directory:
    "Required. A path in a Cloud Storage bucket". A spec needs tasks (pipeline_spec.proto).
    """
    spec = json_format.MessageToDict(v1.PipelineJob.pb(job).pipeline_spec)
    if not _PIPELINE_NAME.fullmatch(_get_pipeline_name(job)):
        raise InvalidArgumentError("pipeline_spec.pipelineInfo.name does not match [a-z0-9][a-z0-9-]{0,127}.")
    if not job.runtime_config.gcs_output_directory.startswith("gs://"):
        raise InvalidArgumentError("runtime_config.gcs_output_directory must be a gs:// URI.")
    if not spec.get("root", {}).get("dag", {}).get("tasks"):
        raise InvalidArgumentError("pipeline_spec.root.dag.tasks is required.")
    check_network(job.network)
    if emulator.iam is not None:
        emulator.iam.check_acting(job.service_account)


def start_job(emulator: Emulator, request: Any) -> Any:
    """Start a job that was checked; the ALREADY_EXISTS of a clash is a guess."""
    job = request.pipeline_job
    body = json_format.MessageToDict(v1.PipelineJob.pb(job))
    spec, pipeline = body["pipelineSpec"], _get_pipeline_name(job)
    job_id = request.pipeline_job_id or f"{pipeline}-{emulator.store.create_id()}"
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidArgumentError(f"pipeline_job_id {job_id} does not match [a-z][-a-z0-9]{{0,126}}.")
    job.name = f"{request.parent}/pipelineJobs/{job_id}"
    if emulator.store.has_resource(job.name):
        raise StatusError("ALREADY_EXISTS", f"PipelineJob {job.name} already exists.")
    job.state = v1.PipelineState.PIPELINE_STATE_PENDING
    if not job.service_account:
        # "If not specified, the Compute Engine default service account in the project will be used".
        job.service_account = f"{request.parent.split('/')[1]}-compute@developer.gserviceaccount.com"
    parameters = {**list_defaults(spec["root"]), **body["runtimeConfig"].get("parameterValues", {})}
    begin_run(emulator, job, pipeline, list(spec["root"]["dag"]["tasks"]), parameters)
    emulator.store.put(job)
    threading.Thread(target=_run, args=(emulator, job.name, job_id, body), daemon=True).start()
    return job


def check_network(network: str) -> None:
    """Check a VPC network: "{project} is a project number" (PipelineJob.network, CustomJobSpec.network)."""
    if network and not re.fullmatch(r"projects/\d+/global/networks/[^/]+", network):
        raise InvalidArgumentError(f"network {network} is not of the form projects/NUMBER/global/networks/NETWORK.")


def _run(emulator: Emulator, name: str, job_id: str, body: dict[str, Any]) -> None:
    with JOB_LOCK:
        job = emulator.store.get(name)
        if job.state == v1.PipelineState.PIPELINE_STATE_CANCELLED:
            return
        folder = emulator.state / "pipelines"
        if emulator.task_starter is None:
            emulator.task_starter = make_task_starter(folder, emulator.environment)
        rehearsal = Rehearsal(
            body,
            folder,
            job_id=job_id,
            storage=emulator.storage,
            environment={**emulator.environment, EMULATOR_ACCOUNT: job.service_account},
            run_as=emulator.run_as,
            starter=emulator.task_starter,
            started=lambda task: _begin_task(emulator, name, task),
            finished=lambda result: _end_task(emulator, name, result),
        )
        _RUNNING[name] = rehearsal
        job.state, job.start_time = v1.PipelineState.PIPELINE_STATE_RUNNING, get_time()
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
        with emulator.store.open_transaction():
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
    with emulator.store.open_transaction():
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
    with emulator.store.open_transaction():
        job = emulator.store.get(name)
        end_task(emulator, job, result)
        emulator.store.put(job)


@register_method("PipelineService")
def get_pipeline_job(emulator: Emulator, request: Any) -> Any:
    return _read_contexts(emulator, emulator.store.get(request.name))


def _read_contexts(emulator: Emulator, job: Any) -> Any:
    """Return a job with its contexts as they are now.

    The SDK reads the experiment of a job, which may be its parent by now, from them (get_associated_experiment).
    """
    for field in ("pipeline_context", "pipeline_run_context"):
        name = getattr(job.job_detail, field).name
        if emulator.store.has_resource(name):
            setattr(job.job_detail, field, emulator.store.get(name))
    return job


@register_method("PipelineService")
def list_pipeline_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/pipelineJobs/", "PipelineJob")
    response = list_page(
        v1.types.ListPipelineJobsResponse,
        "pipeline_jobs",
        # "default order is create time in descending order" (ListPipelineJobsRequest.order_by)
        jobs[::-1],
        request,
        lambda job: {"pipeline_job_user_id": job.name.rpartition("/")[2], "pipeline_name": _get_pipeline_name(job)},
    )
    response.pipeline_jobs = [
        _mask(_read_contexts(emulator, job), request.read_mask.paths) for job in response.pipeline_jobs
    ]
    return response


def _get_pipeline_name(job: Any) -> str:
    """Return what the filter calls pipeline_name (ListPipelineJobsRequest.filter)."""
    spec = json_format.MessageToDict(v1.PipelineJob.pb(job).pipeline_spec)
    return str(spec.get("pipelineInfo", {}).get("name", ""))


def _mask(job: Any, paths: Any) -> Any:
    """Return the fields of a read mask.

    A path may be nested, also in the spec, whose keys are in camelCase: the SDK's simple view asks for
    `pipeline_spec.pipeline_info` and `job_detail.pipeline_run_context`. Without a mask, job_detail is "Not available in
    the list view" (PipelineJob.job_detail).
    """
    if not paths:
        job.job_detail = v1.PipelineJobDetail()
        return job
    source, masked = v1.PipelineJob.pb(job), v1.PipelineJob.pb(v1.PipelineJob())
    spec: dict[str, Any] = {}
    for path in paths:
        if path.startswith("pipeline_spec."):
            _copy_path(json_format.MessageToDict(source.pipeline_spec), spec, path.split(".")[1:])
    if spec:
        masked.pipeline_spec.update(spec)
    plain = [path for path in paths if not path.startswith("pipeline_spec.")]
    field_mask_pb2.FieldMask(paths=plain).MergeMessage(source, masked)
    return v1.PipelineJob.wrap(masked)


def _copy_path(source: Mapping[str, Any], target: dict[str, Any], path: Sequence[str]) -> None:
    key = next((key for key in source if to_snake_case(key) == to_snake_case(path[0])), None)
    if key is not None and len(path) > 1 and isinstance(source[key], dict):
        _copy_path(source[key], target.setdefault(key, {}), path[1:])
    elif key is not None:
        target[key] = source[key]


def is_active(job: Any) -> bool:
    """Return whether a job has not ended."""
    return job.state in _ACTIVE


def _check_ended(emulator: Emulator, job: Any, request: Any) -> None:
    """Reject the deletion of a job that has not ended: a guess."""
    if is_active(job):
        raise FailedPreconditionError(f"{request.name} is {job.state.name}; cancel it first.")


register_deletion("PipelineService", "PipelineJob", _check_ended)


@register_method("PipelineService")
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
            job.state, job.end_time, running = states.PIPELINE_STATE_CANCELLED, get_time(), tasks.CANCELLED
        elif job.state in (states.PIPELINE_STATE_PENDING, states.PIPELINE_STATE_RUNNING):
            job.state, job.end_time, running = states.PIPELINE_STATE_FAILED, get_time(), tasks.FAILED
            job.error = stopped
        else:
            continue
        for detail in job.job_detail.task_details:
            if detail.state == tasks.RUNNING:
                detail.state, detail.end_time, detail.error = running, get_time(), stopped
            elif detail.state == tasks.PENDING:
                detail.state = tasks.NOT_TRIGGERED
        emulator.store.put(job)


def cancel_all() -> None:
    """Cancel all running jobs."""
    for rehearsal in list(_RUNNING.values()):
        rehearsal.cancel()
