"""Trainer on several machines: an executor that starts TFX's own on each machine of a Vertex custom job, and waits.

Vertex tells every machine of the others by TF_CONFIG; `training.distribution: multi_worker` does the rest.
"""

import hashlib
import json
import logging
import time
from typing import Any

from google.cloud import aiplatform_v1 as v1
from tfx import components, types
from tfx.components.trainer import executor as trainer_executor
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils

from cli.errors import PipelineError
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.metadata_store import resolve_network

# In Trainer's custom_config: CustomJobSettings as JSON.
SETTINGS_KEY = "custom_job"
_ENDED = {
    v1.JobState.JOB_STATE_SUCCEEDED,
    v1.JobState.JOB_STATE_FAILED,
    v1.JobState.JOB_STATE_CANCELLED,
    v1.JobState.JOB_STATE_EXPIRED,
}
_LOG = logging.getLogger(__name__)


def build_settings(
    *,
    place: VertexProject,
    image: str,
    machine_type: str,
    replicas: int,
    accelerator: str | None,
    accelerator_count: int,
    service_account: str | None,
    network: str | None,
) -> str:
    """Return the settings of the executor, as JSON."""
    return json.dumps(
        {
            "place": place.model_dump(),
            "image": image,
            "machine_type": machine_type,
            "replicas": replicas,
            "accelerator": accelerator,
            "accelerator_count": accelerator_count,
            "service_account": service_account,
            "network": network,
        }
    )


class CustomJobExecutor(base_executor.BaseExecutor):
    """Runs Trainer's executor as a custom job."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Start the job, or find the one that an attempt before this has started, and follow it to its end.

        Raises:
          PushError: Vertex AI rejects the job.
          PipelineError: the job failed; with its own error and its name.
        """
        settings = json.loads(json.loads(exec_properties["custom_config"])[SETTINGS_KEY])
        vertex = VertexClient(VertexProject.model_validate(settings["place"]), report=_LOG.info)
        executor = trainer_executor.GenericExecutor
        command = ["python", "-m", "tfx.scripts.run_executor"]
        arguments = [
            f"--executor_class_path={executor.__module__}.{executor.__qualname__}",
            f"--inputs={artifact_utils.jsonify_artifact_dict(input_dict)}",
            f"--outputs={artifact_utils.jsonify_artifact_dict(output_dict)}",
            f"--exec-properties={json.dumps(exec_properties)}",
        ]
        # The outputs' folder is the execution's own, so that a repeated attempt finds its job.
        uri = artifact_utils.get_single_uri(output_dict["model"])
        name = f"trainer-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
        job = vertex.retry(lambda: _start(vertex, name, settings, command, arguments), seconds=600)
        _follow(vertex, job)


class Trainer(components.Trainer):
    """TFX's Trainer, its executor started on every machine of a custom job."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(CustomJobExecutor)


def _start(vertex: VertexClient, name: str, settings: dict[str, Any], command: list[str], arguments: list[str]) -> Any:
    parent = vertex.place.parent
    search = v1.ListCustomJobsRequest(parent=parent, filter=f'display_name="{name}"')
    for earlier in vertex.list_all(vertex.jobs.list_custom_jobs, search):
        if earlier.state not in _ENDED or earlier.state == v1.JobState.JOB_STATE_SUCCEEDED:
            return earlier.name
    pools = [_build_pool(settings, command, arguments, 1)]
    if settings["replicas"] > 1:
        pools.append(_build_pool(settings, command, arguments, settings["replicas"] - 1))
    network = resolve_network(vertex, settings["network"]) if settings["network"] else ""
    spec = v1.CustomJobSpec(worker_pool_specs=pools, service_account=settings["service_account"] or "", network=network)
    job = v1.CustomJob(display_name=name, job_spec=spec, labels=vertex.place.labels)
    if vertex.place.cmek_key:
        job.encryption_spec = v1.EncryptionSpec(kms_key_name=vertex.place.cmek_key)
    request = v1.CreateCustomJobRequest(parent=parent, custom_job=job)
    return vertex.call(vertex.jobs.create_custom_job, request).name


def _build_pool(settings: dict[str, Any], command: list[str], arguments: list[str], replicas: int) -> v1.WorkerPoolSpec:
    machine = v1.MachineSpec(machine_type=settings["machine_type"])
    if settings["accelerator"]:
        machine.accelerator_type = getattr(v1.AcceleratorType, settings["accelerator"])
        machine.accelerator_count = settings["accelerator_count"]
    container = v1.ContainerSpec(image_uri=settings["image"], command=command, args=arguments)
    return v1.WorkerPoolSpec(machine_spec=machine, replica_count=replicas, container_spec=container)


def _follow(vertex: VertexClient, name: str, *, poll_seconds: float = 5.0) -> None:
    state = None
    while True:
        job = vertex.read(vertex.jobs.get_custom_job, v1.GetCustomJobRequest(name=name))
        if job.state != state:
            state = job.state
            _LOG.info("%s: %s", name, job.state.name)
        if job.state in _ENDED:
            break
        time.sleep(poll_seconds)
    if job.state != v1.JobState.JOB_STATE_SUCCEEDED:
        raise PipelineError(f"{name}: {job.state.name}: {job.error.message or 'see its log in the console'}")
