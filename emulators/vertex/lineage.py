"""What Vertex Pipelines writes of a job: into ML Metadata, and into the details of the job itself.

Contexts of the pipeline (`system.Pipeline`, its name as id) and of the run (`system.PipelineRun`, the job's id), an
execution for the DAG (`system.Run`) and for each task, artifacts with TFX's types, and the events between them. The
names are those of google-cloud-aiplatform's own constants and tests. The schema of a resolver's execution is a guess.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.rpc import code_pb2, status_pb2

from emulators.vertex.service import Emulator
from emulators.vertex.store import now
from pipeline.vertex.rehearsal import TaskResult

BINDING = "vertex-ai-pipelines-artifact-argument-binding"
_VERSION = "0.0.1"
_TASK = v1.PipelineTaskDetail.State
_EXECUTION = v1.Execution.State
# How a task of the rehearsal ended: the task's state, and its execution's. One whose condition did not hold has none.
_STATES = {
    "SUCCEEDED": (_TASK.SUCCEEDED, _EXECUTION.COMPLETE),
    "CACHED": (_TASK.SKIPPED, _EXECUTION.CACHED),
    "FAILED": (_TASK.FAILED, _EXECUTION.FAILED),
    "CANCELLED": (_TASK.CANCELLED, _EXECUTION.CANCELLED),
    "SKIPPED": (_TASK.NOT_TRIGGERED, _EXECUTION.CANCELLED),
    "NOT_TRIGGERED": (_TASK.NOT_TRIGGERED, _EXECUTION.CANCELLED),
}


def store_of(job_name: str) -> str:
    """Return the metadata store of a job's project and region."""
    return f"{job_name.split('/pipelineJobs/')[0]}/metadataStores/default"


def begin_run(emulator: Emulator, job: Any, pipeline: str, tasks: Sequence[str]) -> None:
    """Make the contexts of a job, the execution of its DAG, and the details of its tasks, which all wait."""
    parent, job_id = store_of(job.name), job.name.rpartition("/")[2]
    if not emulator.store.has(parent):
        emulator.store.put(v1.MetadataStore(name=parent))
    of_pipeline = _context(emulator, f"{parent}/contexts/{pipeline}", pipeline, "system.Pipeline", [])
    of_run = _context(emulator, f"{parent}/contexts/{job_id}", job_id, "system.PipelineRun", [of_pipeline.name])
    run = _execution(emulator, parent, of_run.name, job_id, "system.Run")
    job.job_detail.pipeline_context, job.job_detail.pipeline_run_context = of_pipeline, of_run
    # The DAG has an entry of its own, which is the parent of the others.
    dag = v1.PipelineTaskDetail(task_id=1, task_name=job_id, state=_TASK.RUNNING, create_time=now(), execution=run)
    waiting = [
        v1.PipelineTaskDetail(task_id=number, parent_task_id=1, task_name=name, state=_TASK.PENDING, create_time=now())
        for number, name in enumerate(tasks, start=2)
    ]
    job.job_detail.task_details = [dag, *waiting]


def _context(emulator: Emulator, name: str, title: str, schema: str, parents: list[str]) -> Any:
    if emulator.store.has(name):
        return emulator.store.get(name)
    context = v1.Context(name=name, display_name=title, schema_title=schema, schema_version=_VERSION)
    context.parent_contexts = parents
    return emulator.store.put(context)


def _execution(emulator: Emulator, parent: str, context: str, title: str, schema: str) -> Any:
    execution = v1.Execution(
        name=f"{parent}/executions/{emulator.store.new_id()}",
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
    """Start a task: it has an execution and, if it is a container, a custom job."""
    parent, detail = store_of(job.name), detail_of(job, task)
    schema = "system.ResolverExecution" if kind == "resolver" else "system.ContainerExecution"
    detail.execution = _execution(emulator, parent, job.job_detail.pipeline_run_context.name, task, schema)
    detail.state, detail.start_time = _TASK.RUNNING, now()
    if kind == "container":
        project = job.name.split("/pipelineJobs/")[0]
        detail.executor_detail.container_detail.main_job = f"{project}/customJobs/{emulator.store.new_id()}"


def end_task(emulator: Emulator, job: Any, result: TaskResult) -> None:
    """End a task: its inputs and outputs are known."""
    detail = detail_of(job, result.task)
    detail.state, state = _STATES[result.state]
    detail.end_time = now()
    if result.error:
        detail.error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=result.error)
    if not detail.execution.name:
        return
    given = {key: _known(emulator, job, found) for key, found in result.inputs.items() if found}
    made = {
        key: [_artifact(emulator, job, key, one) for one in found] for key, found in result.outputs.items() if found
    }
    detail.inputs = {key: v1.PipelineTaskDetail.ArtifactList(artifacts=found) for key, found in given.items()}
    detail.outputs = {key: v1.PipelineTaskDetail.ArtifactList(artifacts=found) for key, found in made.items()}
    execution = detail.execution
    execution.state = state
    execution.metadata = {
        BINDING: {
            **{f"input:{key}": [one.name for one in found] for key, found in given.items()},
            **{f"output:{key}": [one.name for one in found] for key, found in made.items()},
        }
    }
    detail.execution = emulator.store.put(execution)
    for kind, bound in ((v1.Event.Type.INPUT, given), (v1.Event.Type.OUTPUT, made)):
        for artifact in (one for found in bound.values() for one in found):
            values = (execution.name, artifact.name, int(kind), now().ToNanoseconds() / 1e9)
            emulator.store.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?)", values)
            _join(emulator, job.job_detail.pipeline_run_context.name, artifact.name)


def _known(emulator: Emulator, job: Any, found: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [emulator.store.get(_name(job, artifact)) for artifact in found]


def _name(job: Any, artifact: Mapping[str, Any]) -> str:
    return f"{store_of(job.name)}/artifacts/{artifact['name'].rpartition('/')[2]}"


def _artifact(emulator: Emulator, job: Any, key: str, made: Mapping[str, Any]) -> Any:
    """Return the artifact of an output; one that was found, in the cache or by a resolver, is the one that it was."""
    name = _name(job, made)
    if emulator.store.has(name):
        return emulator.store.get(name)
    artifact = v1.Artifact(
        name=name,
        display_name=key,
        uri=_remote(emulator, made["uri"]),
        schema_title=made["schema_title"],
        schema_version=_VERSION,
        state=v1.Artifact.State.LIVE,
        metadata={property_: _remote(emulator, value) for property_, value in made["metadata"].items()},
    )
    return emulator.store.put(artifact)


def _remote(emulator: Emulator, value: Any) -> Any:
    """Return a path of the storage's folder, which tasks of the rehearsal are given, as the URI that it stands for."""
    storage = f"{emulator.storage}/"
    return f"gs://{value.removeprefix(storage)}" if isinstance(value, str) and value.startswith(storage) else value


def end_run(emulator: Emulator, job: Any, state: str) -> None:
    """End the job: tasks that did not begin were not triggered."""
    ended = {"SUCCEEDED": _EXECUTION.COMPLETE, "CANCELLED": _EXECUTION.CANCELLED}.get(state, _EXECUTION.FAILED)
    dag, *tasks = job.job_detail.task_details
    dag.state, dag.end_time = _TASK[state], now()
    dag.execution.state = ended
    emulator.store.put(dag.execution)
    job.job_detail.task_details = [dag, *tasks]
    job.state, job.end_time = v1.PipelineState[f"PIPELINE_STATE_{state}"], now()


def detail_of(job: Any, task: str) -> Any:
    """Return the details of a task."""
    return next(detail for detail in job.job_detail.task_details if detail.task_name == task)
