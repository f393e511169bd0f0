"""JobService: custom jobs and batch predictions are run; monitoring jobs are stored."""

import json
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2
from google.rpc import code_pb2, status_pb2

from emulators.vertex import models
from emulators.vertex.endpoints import predict_rows
from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from emulators.vertex.pipelines import check_network
from emulators.vertex.service import Emulator, list_page, register_deletion, register_finisher, register_method
from emulators.vertex.store import get_time
from pipeline.vertex.rehearsal import install_package
from serving.registry.vertex.connection import EMULATOR_ACCOUNT

_DATA_FORMATS = ("tf-record", "csv", "jsonl")
_GZIP = b"\x1f\x8b"


@register_method("JobService")
def create_custom_job(emulator: Emulator, request: Any) -> Any:
    """Start a job; CustomJobSpec.worker_pool_specs: "Required. The spec of the worker pools including machine type"."""
    job = request.custom_job
    if not job.job_spec.worker_pool_specs:
        raise InvalidArgumentError("job_spec.worker_pool_specs is required.")
    check_network(job.job_spec.network)
    if emulator.iam is not None:
        emulator.iam.check_acting(job.job_spec.service_account)
    for pool in job.job_spec.worker_pool_specs:
        if not pool.container_spec.image_uri or not pool.machine_spec.machine_type:
            raise InvalidArgumentError(
                "every worker pool needs container_spec.image_uri and machine_spec.machine_type."
            )
    job.name = f"{request.parent}/customJobs/{emulator.store.create_id()}"
    job.state = v1.JobState.JOB_STATE_PENDING
    emulator.store.put(job)
    threading.Thread(target=_train, args=(emulator, job.name), daemon=True).start()
    return job


def _train(emulator: Emulator, name: str) -> None:
    """Start every replica as a process of its own, with the TF_CONFIG that Vertex sets."""
    job = emulator.store.get(name)
    job.state, job.start_time = v1.JobState.JOB_STATE_RUNNING, get_time()
    emulator.store.put(job)
    pools = list(job.job_spec.worker_pool_specs)
    kinds = ["chief", "worker", "ps", "evaluator"]
    cluster = {
        kinds[i]: [f"127.0.0.1:{_find_free_port()}" for _ in range(pool.replica_count)] for i, pool in enumerate(pools)
    }
    logs = emulator.state / "custom-jobs" / name.rpartition("/")[2]
    logs.mkdir(parents=True)
    package = install_package(emulator.state / "pipelines")
    processes = []
    for kind, pool in zip(kinds, pools, strict=False):
        for index in range(pool.replica_count):
            environment = {
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": tempfile.mkdtemp(dir=logs),
                "PYTHONPATH": str(package),
                "LANG": "C.UTF-8",
                "CLOUD_ML_JOB_ID": name.rpartition("/")[2],
                **emulator.environment,
                **({EMULATOR_ACCOUNT: job.job_spec.service_account} if job.job_spec.service_account else {}),
                **{entry.name: entry.value for entry in pool.container_spec.env},
            }
            if sum(p.replica_count for p in pools) > 1:
                environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
            command = [*pool.container_spec.command, *pool.container_spec.args]
            command = [sys.executable if command[0] == "python" else command[0], *command[1:]]
            log = (logs / f"{kind}-{index}.log").open("wb")
            processes.append(subprocess.Popen(command, cwd=logs, env=environment, stdout=log, stderr=log))
    codes = [process.wait() for process in processes]
    job = emulator.store.get(name)
    job.state = v1.JobState.JOB_STATE_FAILED if any(codes) else v1.JobState.JOB_STATE_SUCCEEDED
    job.end_time = get_time()
    if any(codes):
        last = (logs / "chief-0.log").read_text(errors="replace").strip().splitlines()[-1:]
        job.error = status_pb2.Status(code=code_pb2.INTERNAL, message=f"Replicas ended with {codes}: {' '.join(last)}")
    emulator.store.put(job)


def _find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@register_method("JobService")
def get_custom_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("JobService")
def list_custom_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/customJobs/", "CustomJob")
    return list_page(v1.types.ListCustomJobsResponse, "custom_jobs", jobs, request)


@register_method("JobService")
def create_batch_prediction_job(emulator: Emulator, request: Any) -> Any:
    """Start a batch prediction.

    Other formats than jsonl (BatchPredictionJob.InputConfig.instances_format) are not emulated.
    """
    job = request.batch_prediction_job
    models.find_version(emulator, job.model)
    if job.input_config.instances_format != "jsonl" or not job.input_config.gcs_source.uris:
        raise StatusError("UNIMPLEMENTED", "Only jsonl from gcs_source is emulated.")
    if job.output_config.predictions_format != "jsonl" or not job.output_config.gcs_destination.output_uri_prefix:
        raise StatusError("UNIMPLEMENTED", "Only jsonl to gcs_destination is emulated.")
    job.name = f"{request.parent}/batchPredictionJobs/{emulator.store.create_id()}"
    job.state = v1.JobState.JOB_STATE_PENDING
    emulator.store.put(job)
    threading.Thread(target=_predict, args=(emulator, job.name), daemon=True).start()
    return job


def _predict(emulator: Emulator, name: str) -> None:
    """Run a batch prediction and store how it ended.

    The folder is "prediction-<model-display-name>-<job-create-time>" (BatchPredictionJob.OutputConfig.gcs_destination).
    The names of the files are those of public transcripts of custom models, not the proto's predictions_0001.jsonl:
    https://github.com/GoogleCloudPlatform/vertex-ai-samples. A row that fails is in the file of errors, with "a
    google.rpc.Status containing only code and message fields". It is a guess that a job without a result fails.
    """
    job = emulator.store.get(name)
    version = models.find_version(emulator, job.model)
    folder = f"prediction-{version.display_name}-{job.create_time.isoformat(timespec='milliseconds')}"
    folder = folder.replace("+00:00", "Z")
    prefix = job.output_config.gcs_destination.output_uri_prefix.rstrip("/")
    results: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    try:
        files = [file for uri in job.input_config.gcs_source.uris for file in sorted(_find_files(emulator, uri))]
        lines = [line for file in files for line in file.read_text().splitlines() if line]
        results, errors = _predict_lines(str(emulator.find_path(version.artifact_uri)), lines)
        target = emulator.find_path(f"{prefix}/{folder}")
        target.mkdir(parents=True, exist_ok=True)
        for kind, rows in (("results", results), ("errors_stats", errors)):
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (target / f"prediction.{kind}-00000-of-00001").write_text(text)
        first = errors[0]["error"]["message"] if errors else "there is none"
        problem = "" if results else f"No row could be predicted: {first}"
    except (StatusError, OSError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    job.output_info.gcs_output_directory = f"{prefix}/{folder}"
    job.completion_stats.successful_count, job.completion_stats.failed_count = len(results), len(errors)
    if problem:
        job.error = status_pb2.Status(code=code_pb2.INTERNAL, message=problem)
    job.state = v1.JobState.JOB_STATE_FAILED if problem else v1.JobState.JOB_STATE_SUCCEEDED
    job.end_time = get_time()
    emulator.store.put(job)


def _predict_lines(folder: str, lines: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the results and the errors of lines of JSON, each predicted alone if not all can be."""
    results, errors = [], []
    try:
        rows = [json.loads(line) for line in lines]
        return [{"instance": i, "prediction": p} for i, p in zip(rows, predict_rows(folder, rows), strict=True)], []
    except (KeyError, ValueError, TypeError):
        for line in lines:
            row: Any = line
            try:
                row = json.loads(line)
                (prediction,) = predict_rows(folder, [row])
                results.append({"instance": row, "prediction": prediction})
            except (KeyError, ValueError, TypeError) as error:
                message = f"{type(error).__name__}: {error}"
                errors.append({"instance": row, "error": {"code": code_pb2.INVALID_ARGUMENT, "message": message}})
    return results, errors


def _find_files(emulator: Emulator, uri: str) -> list[Path]:
    path = emulator.find_path(uri)
    return list(path.parent.glob(path.name))


@register_method("JobService")
def get_batch_prediction_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("JobService")
def list_batch_prediction_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/batchPredictionJobs/", "BatchPredictionJob")
    return list_page(v1.types.ListBatchPredictionJobsResponse, "batch_prediction_jobs", jobs, request)


def _check_ended(emulator: Emulator, job: Any, request: Any) -> None:
    """Reject the deletion of a job that has not ended.

    "Can only be called on jobs that already finished" (JobService.DeleteBatchPredictionJob). That this holds for custom
    jobs too, and the code, are guesses.
    """
    if job.state in (v1.JobState.JOB_STATE_PENDING, v1.JobState.JOB_STATE_RUNNING):
        raise FailedPreconditionError(f"{request.name} is {job.state.name}; it can be deleted when it has ended.")


register_deletion("JobService", "BatchPredictionJob", _check_ended)
register_deletion("JobService", "CustomJob", _check_ended)
register_deletion("JobService", "ModelDeploymentMonitoringJob")


@register_method("JobService")
def get_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("JobService")
def pause_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return _set_monitoring(emulator, request.name, v1.JobState.JOB_STATE_PAUSED)


@register_method("JobService")
def resume_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return _set_monitoring(emulator, request.name, v1.JobState.JOB_STATE_RUNNING)


def _set_monitoring(emulator: Emulator, name: str, state: Any) -> Any:
    job = emulator.store.get(name)
    job.state = state
    emulator.store.put(job)
    return empty_pb2.Empty()


@register_method("JobService")
def create_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    job = request.model_deployment_monitoring_job
    _check_monitored(emulator, job)
    job.name = f"{request.parent}/modelDeploymentMonitoringJobs/{emulator.store.create_id()}"
    job.state = v1.JobState.JOB_STATE_RUNNING
    return emulator.store.put(job)


def _check_monitored(emulator: Emulator, job: Any) -> None:
    """Check the objectives of a monitoring job.

    ModelMonitoringObjectiveConfig.TrainingDataset.data_format: "only applicable if the input is from Google Cloud
    Storage. The possible formats are: "tf-record" ... "csv" ... "jsonl"". The codes are guesses, and that a file which
    the format does not fit is found at once.
    """
    deployed = {d.id for d in emulator.store.get(job.endpoint).deployed_models}
    for config in job.model_deployment_monitoring_objective_configs:
        if config.deployed_model_id not in deployed:
            raise InvalidArgumentError(f"DeployedModel {config.deployed_model_id} is not on {job.endpoint}.")
        training = config.objective_config.training_dataset
        if training.gcs_source.uris and training.data_format not in _DATA_FORMATS:
            raise InvalidArgumentError(
                f"data_format '{training.data_format}' is not one of {', '.join(_DATA_FORMATS)}."
            )
        for file in (file for uri in training.gcs_source.uris for file in _find_files(emulator, uri)):
            if training.data_format == "tf-record" and file.read_bytes()[:2] == _GZIP:
                raise InvalidArgumentError(f"gs://{file.relative_to(emulator.storage)} is not a TFRecord file.")


@register_method("JobService")
def update_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    job = emulator.store.get(request.model_deployment_monitoring_job.name)
    for path in request.update_mask.paths:
        setattr(job, path, getattr(request.model_deployment_monitoring_job, path))
    _check_monitored(emulator, job)
    body = type(job).to_json(job)
    return emulator.operations.start("UpdateMonitoring", job.name, {"job": body})


@register_finisher("UpdateMonitoring")
def _finish_update_monitoring(emulator: Emulator, request: dict[str, Any]) -> Any:
    return emulator.store.put(v1.ModelDeploymentMonitoringJob.from_json(request["job"]))


@register_method("JobService")
def list_model_deployment_monitoring_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/modelDeploymentMonitoringJobs/", "ModelDeploymentMonitoringJob")
    response = v1.types.ListModelDeploymentMonitoringJobsResponse
    return list_page(response, "model_deployment_monitoring_jobs", jobs, request)
