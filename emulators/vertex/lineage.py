"""Lineage of a job as Vertex Pipelines writes it: in ML Metadata, and in the details of the job itself.

There are contexts of the pipeline (`system.Pipeline`, its name as id) and of the run (`system.PipelineRun`, the job's
id). The DAG (`system.Run`) and each task have an execution, with artifacts of TFX's types and events between them. The
names are those of google-cloud-aiplatform's own constants and tests. The schema of a resolver's execution is a guess.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.rpc import code_pb2, status_pb2

from emulators.vertex.service import Emulator
from emulators.vertex.store import get_time
from pipeline.vertex.rehearsal import TaskResult

BINDING = "vertex-ai-pipelines-artifact-argument-binding"
_VERSION = "0.0.1"
_TASK = v1.PipelineTaskDetail.State
_EXECUTION = v1.Execution.State
# State of the task and of its execution, by the state of the task in the rehearsal.
_STATES = {
    "SUCCEEDED": (_TASK.SUCCEEDED, _EXECUTION.COMPLETE),
    "CACHED": (_TASK.SKIPPED, _EXECUTION.CACHED),
    "FAILED": (_TASK.FAILED, _EXECUTION.FAILED),
    "CANCELLED": (_TASK.CANCELLED, _EXECUTION.CANCELLED),
    "SKIPPED": (_TASK.NOT_TRIGGERED, _EXECUTION.CANCELLED),
    "NOT_TRIGGERED": (_TASK.NOT_TRIGGERED, _EXECUTION.CANCELLED),
}


def get_store_name(job_name: str) -> str:
    """Return the metadata store of a job's project and region."""
    return f"{job_name.split('/pipelineJobs/')[0]}/metadataStores/default"


def begin_run(emulator: Emulator, job: Any, pipeline: str, tasks: Sequence[str], parameters: Mapping[str, Any]) -> None:
    """Make the contexts of a job, the execution of its DAG, and the details of its tasks, which are all pending.

    The metadata of the DAG's execution has the job's parameters, as `input:NAME`: the SDK's table of experiments reads
    them there (PipelineJob._query_experiment_row).
    """
    parent, job_id = get_store_name(job.name), job.name.rpartition("/")[2]
    if not emulator.store.has_resource(parent):
        emulator.store.put(v1.MetadataStore(name=parent))
    pipeline_context = _create_context(emulator, f"{parent}/contexts/{pipeline}", pipeline, "system.Pipeline", [])
    run_context = _create_context(
        emulator, f"{parent}/contexts/{job_id}", job_id, "system.PipelineRun", [pipeline_context.name]
    )
    run = _create_execution(emulator, parent, run_context.name, job_id, "system.Run")
    run.metadata = {f"input:{name}": value for name, value in parameters.items()}
    emulator.store.put(run)
    job.job_detail.pipeline_context, job.job_detail.pipeline_run_context = pipeline_context, run_context
    # The DAG has an entry of its own, which is the parent of the others.
    dag = v1.PipelineTaskDetail(task_id=1, task_name=job_id, state=_TASK.RUNNING, create_time=get_time(), execution=run)
    pending = [
        v1.PipelineTaskDetail(
            task_id=number, parent_task_id=1, task_name=name, state=_TASK.PENDING, create_time=get_time()
        )
        for number, name in enumerate(tasks, start=2)
    ]
    job.job_detail.task_details = [dag, *pending]


def _create_context(emulator: Emulator, name: str, title: str, schema: str, parents: list[str]) -> Any:
    if emulator.store.has_resource(name):
        return emulator.store.get(name)
    context = v1.Context(name=name, display_name=title, schema_title=schema, schema_version=_VERSION)
    context.parent_contexts = parents
    return emulator.store.put(context)


def _create_execution(emulator: Emulator, parent: str, context: str, title: str, schema: str) -> Any:
    execution = v1.Execution(
        name=f"{parent}/executions/{emulator.store.create_id()}",
        display_name=title,
        schema_title=schema,
        schema_version=_VERSION,
        state=_EXECUTION.RUNNING,
    )
    emulator.store.put(execution)
    _join(emulator, context, execution.name)
    return execution


def _join(emulator: Emulator, context: str, name: str) -> None:
    emulator.store.execute("INSERT OR IGNORE INTO member VALUES (?, ?)", (context, name))


def begin_task(emulator: Emulator, job: Any, task: str, kind: str) -> None:
    """Start a task: give it an execution and, if it is a container, a custom job."""
    parent, detail = get_store_name(job.name), find_detail(job, task)
    schema = "system.ResolverExecution" if kind == "resolver" else "system.ContainerExecution"
    detail.execution = _create_execution(emulator, parent, job.job_detail.pipeline_run_context.name, task, schema)
    detail.state, detail.start_time = _TASK.RUNNING, get_time()
    if kind == "container":
        project = job.name.split("/pipelineJobs/")[0]
        detail.executor_detail.container_detail.main_job = f"{project}/customJobs/{emulator.store.create_id()}"


def end_task(emulator: Emulator, job: Any, result: TaskResult) -> None:
    """End a task and store its inputs and outputs."""
    detail = find_detail(job, result.task)
    detail.state, state = _STATES[result.state]
    detail.end_time = get_time()
    if result.error:
        detail.error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=result.error)
    if not detail.execution.name:
        return
    inputs = {
        key: [emulator.store.get(_get_name(job, artifact)) for artifact in artifacts]
        for key, artifacts in result.inputs.items()
        if artifacts
    }
    outputs = {
        key: [_store_artifact(emulator, job, key, artifact) for artifact in artifacts]
        for key, artifacts in result.outputs.items()
        if artifacts
    }
    detail.inputs = {key: v1.PipelineTaskDetail.ArtifactList(artifacts=artifacts) for key, artifacts in inputs.items()}
    detail.outputs = {
        key: v1.PipelineTaskDetail.ArtifactList(artifacts=artifacts) for key, artifacts in outputs.items()
    }
    execution = detail.execution
    execution.state = state
    execution.metadata = {
        BINDING: {
            f"{side}:{key}": [artifact.name for artifact in artifacts]
            for side, bound in (("input", inputs), ("output", outputs))
            for key, artifacts in bound.items()
        }
    }
    detail.execution = emulator.store.put(execution)
    for kind, bound in ((v1.Event.Type.INPUT, inputs), (v1.Event.Type.OUTPUT, outputs)):
        for artifact in itertools.chain(*bound.values()):
            values = (execution.name, artifact.name, int(kind), get_time().ToNanoseconds() / 1e9)
            emulator.store.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?)", values)
            _join(emulator, job.job_detail.pipeline_run_context.name, artifact.name)


def _get_name(job: Any, artifact: Mapping[str, Any]) -> str:
    return f"{get_store_name(job.name)}/artifacts/{artifact['name'].rpartition('/')[2]}"


def _store_artifact(emulator: Emulator, job: Any, key: str, output: Mapping[str, Any]) -> Any:
    """Return the artifact of an output, stored if it is not one of the cache or of a resolver."""
    name = _get_name(job, output)
    if emulator.store.has_resource(name):
        return emulator.store.get(name)
    artifact = v1.Artifact(
        name=name,
        display_name=key,
        uri=_to_uri(emulator, output["uri"]),
        schema_title=output["schema_title"],
        schema_version=_VERSION,
        state=v1.Artifact.State.LIVE,
        metadata={property_: _to_uri(emulator, value) for property_, value in output["metadata"].items()},
    )
    return emulator.store.put(artifact)


def _to_uri(emulator: Emulator, value: Any) -> Any:
    """Return the gs:// URI of a path in the storage's folder, and any other value as it is."""
    storage = f"{emulator.storage}/"
    return f"gs://{value.removeprefix(storage)}" if isinstance(value, str) and value.startswith(storage) else value


def end_run(emulator: Emulator, job: Any, state: str) -> None:
    """End the job: tasks that did not begin were not triggered."""
    execution_state = {"SUCCEEDED": _EXECUTION.COMPLETE, "CANCELLED": _EXECUTION.CANCELLED}.get(
        state, _EXECUTION.FAILED
    )
    dag, *tasks = job.job_detail.task_details
    dag.state, dag.end_time = getattr(_TASK, state), get_time()
    dag.execution.state = execution_state
    emulator.store.put(dag.execution)
    job.job_detail.task_details = [dag, *tasks]
    job.state, job.end_time = getattr(v1.PipelineState, f"PIPELINE_STATE_{state}"), get_time()


def find_detail(job: Any, task: str) -> Any:
    """Return the details of a task."""
    return next(detail for detail in job.job_detail.task_details if detail.task_name == task)
