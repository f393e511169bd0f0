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
from emulators.vertex.errors import InvalidArgumentError
from emulators.vertex.pipelines import check_network
from emulators.vertex.service import Emulator, finisher, list_page, method
from emulators.vertex.store import now
from pipeline.vertex.rehearsal import install_package


@method("JobService")
def create_custom_job(emulator: Emulator, request: Any) -> Any:
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
    job.name = f"{request.parent}/customJobs/{emulator.store.new_id()}"
    job.state = v1.JobState.JOB_STATE_PENDING
    emulator.store.put(job)
    threading.Thread(target=_train, args=(emulator, job.name), daemon=True).start()
    return job


def _train(emulator: Emulator, name: str) -> None:
    """Start every replica as a process of its own, with the TF_CONFIG that Vertex sets."""
    job = emulator.store.get(name)
    job.state, job.start_time = v1.JobState.JOB_STATE_RUNNING, now()
    emulator.store.put(job)
    pools = list(job.job_spec.worker_pool_specs)
    kinds = ["chief", "worker", "ps", "evaluator"]
    cluster = {
        kinds[i]: [f"127.0.0.1:{_free_port()}" for _ in range(pool.replica_count)] for i, pool in enumerate(pools)
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
    job.state, job.end_time = v1.JobState.JOB_STATE_FAILED if any(codes) else v1.JobState.JOB_STATE_SUCCEEDED, now()
    if any(codes):
        last = (logs / "chief-0.log").read_text(errors="replace").strip().splitlines()[-1:]
        job.error = status_pb2.Status(code=code_pb2.INTERNAL, message=f"Replicas ended with {codes}: {' '.join(last)}")
    emulator.store.put(job)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@method("JobService")
def get_custom_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("JobService")
def list_custom_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/customJobs/", "CustomJob")
    return list_page(v1.types.ListCustomJobsResponse, "custom_jobs", jobs, request)


@method("JobService")
def create_batch_prediction_job(emulator: Emulator, request: Any) -> Any:
    job = request.batch_prediction_job
    models.find_version(emulator, job.model)
    if job.input_config.instances_format != "jsonl" or not job.input_config.gcs_source.uris:
        raise InvalidArgumentError("only jsonl from gcs_source is emulated.")
    job.name = f"{request.parent}/batchPredictionJobs/{emulator.store.new_id()}"
    job.state = v1.JobState.JOB_STATE_PENDING
    emulator.store.put(job)
    threading.Thread(target=_predict, args=(emulator, job.name), daemon=True).start()
    return job


def _predict(emulator: Emulator, name: str) -> None:
    job = emulator.store.get(name)
    version = models.find_version(emulator, job.model)
    files = [file for uri in job.input_config.gcs_source.uris for file in sorted(_glob(emulator, uri))]
    target = emulator.path(job.output_config.gcs_destination.output_uri_prefix) / f"prediction-{job.display_name}"
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines() if line]
    try:
        predicted = predict_rows(str(emulator.path(version.artifact_uri)), rows)
    except (KeyError, ValueError, TypeError, OSError) as error:
        job.state, job.end_time = v1.JobState.JOB_STATE_FAILED, now()
        job.error = status_pb2.Status(code=code_pb2.INTERNAL, message=f"{type(error).__name__}: {error}")
        emulator.store.put(job)
        return
    target.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"instance": i, "prediction": p}) for i, p in zip(rows, predicted, strict=True)]
    (target / "prediction.results-00000-of-00001").write_text("".join(f"{line}\n" for line in lines))
    (target / "prediction.errors_stats-00000-of-00001").write_text("")
    prefix = job.output_config.gcs_destination.output_uri_prefix.rstrip("/")
    job.output_info.gcs_output_directory = f"{prefix}/{target.name}"
    job.state, job.end_time = v1.JobState.JOB_STATE_SUCCEEDED, now()
    job.completion_stats.successful_count = len(rows)
    emulator.store.put(job)


def _glob(emulator: Emulator, uri: str) -> list[Path]:
    path = emulator.path(uri)
    return list(path.parent.glob(path.name))


@method("JobService")
def get_batch_prediction_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("JobService")
def list_batch_prediction_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/batchPredictionJobs/", "BatchPredictionJob")
    return list_page(v1.types.ListBatchPredictionJobsResponse, "batch_prediction_jobs", jobs, request)


def _start_deletion(emulator: Emulator, request: Any) -> Any:
    emulator.store.get(request.name)
    return emulator.operations.start("DeleteJob", request.name, {"name": request.name})


@finisher("DeleteJob")
def _finish_delete(emulator: Emulator, request: dict[str, Any]) -> Any:
    emulator.store.delete(request["name"])
    return empty_pb2.Empty()


@method("JobService")
def delete_batch_prediction_job(emulator: Emulator, request: Any) -> Any:
    return _start_deletion(emulator, request)


@method("JobService")
def delete_custom_job(emulator: Emulator, request: Any) -> Any:
    return _start_deletion(emulator, request)


@method("JobService")
def delete_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return _start_deletion(emulator, request)


@method("JobService")
def get_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@method("JobService")
def pause_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return _set_monitoring(emulator, request.name, v1.JobState.JOB_STATE_PAUSED)


@method("JobService")
def resume_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    return _set_monitoring(emulator, request.name, v1.JobState.JOB_STATE_RUNNING)


def _set_monitoring(emulator: Emulator, name: str, state: Any) -> Any:
    job = emulator.store.get(name)
    job.state = state
    emulator.store.put(job)
    return empty_pb2.Empty()


@method("JobService")
def create_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    job = request.model_deployment_monitoring_job
    _check_monitored(emulator, job)
    job.name = f"{request.parent}/modelDeploymentMonitoringJobs/{emulator.store.new_id()}"
    job.state = v1.JobState.JOB_STATE_RUNNING
    return emulator.store.put(job)


def _check_monitored(emulator: Emulator, job: Any) -> None:
    deployed = {d.id for d in emulator.store.get(job.endpoint).deployed_models}
    for config in job.model_deployment_monitoring_objective_configs:
        if config.deployed_model_id not in deployed:
            raise InvalidArgumentError(f"DeployedModel {config.deployed_model_id} is not on {job.endpoint}.")


@method("JobService")
def update_model_deployment_monitoring_job(emulator: Emulator, request: Any) -> Any:
    job = emulator.store.get(request.model_deployment_monitoring_job.name)
    for path in request.update_mask.paths:
        setattr(job, path, getattr(request.model_deployment_monitoring_job, path))
    _check_monitored(emulator, job)
    body = type(job).to_json(job)
    return emulator.operations.start("UpdateMonitoring", job.name, {"job": body})


@finisher("UpdateMonitoring")
def _finish_update_monitoring(emulator: Emulator, request: dict[str, Any]) -> Any:
    return emulator.store.put(v1.ModelDeploymentMonitoringJob.from_json(request["job"]))


@method("JobService")
def list_model_deployment_monitoring_jobs(emulator: Emulator, request: Any) -> Any:
    jobs = emulator.store.list_below(f"{request.parent}/modelDeploymentMonitoringJobs/", "ModelDeploymentMonitoringJob")
    response = v1.types.ListModelDeploymentMonitoringJobsResponse
    return list_page(response, "model_deployment_monitoring_jobs", jobs, request)
