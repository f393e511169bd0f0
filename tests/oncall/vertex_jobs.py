"""Jobs as Vertex Pipelines leaves them, made in the emulator's store without running any."""

import json
from collections.abc import Mapping
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.rpc import code_pb2, status_pb2
from ml_metadata.proto import metadata_store_pb2 as mlmd

from emulators.vertex.lineage import begin_run, begin_task, end_run, end_task
from emulators.vertex.service import Emulator
from pipeline.vertex.rehearsal import TaskResult
from tests.oncall.run_roots import GRAPH, NAME, NOT_CACHED, fill
from tests.vertex_fixtures import ANSWERED_PARENT, BUCKET, PROJECT, REGION

PARENT = f"projects/{PROJECT}/locations/{REGION}"
_RESOLVERS = ("History", "Baseline")
Made = dict[str, dict[str, dict[str, Any]]]


def plain(artifact: mlmd.Artifact) -> dict[str, Any]:
    """Return properties as Vertex keeps them: numbers are floating-point ones."""
    properties = {}
    for name, value in artifact.custom_properties.items():
        content = getattr(value, value.WhichOneof("value"))
        properties[name] = float(content) if isinstance(content, int) else content
    return properties


class VertexJobs:
    """Makes jobs in one emulator, in the order in which it is asked."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        (emulator.storage / BUCKET).mkdir(exist_ok=True)

    def run(
        self,
        job_id: str,
        *,
        cached: Made | None = None,
        fails: tuple[str, str] | None = None,
        stops_in: tuple[str, str] | None = None,
        skips: tuple[str, ...] = (),
        pipeline: str = NAME,
        labels: Mapping[str, str] | None = None,
        epochs: int = 3,
        auc: float = 0.92,
        mean: float = 38.0,
        rows: int = 3000,
    ) -> Made:
        """Make one job; return its artifacts by task and output.

        Args:
          cached: ID of the job whose results all tasks reuse, but those that are never cached.
          fails: the task, and its error.
          stops_in: the task in which it is, and RUNNING or CANCELLED.
          skips: tasks that are not triggered.
          pipeline: its display name.
          labels: labels of the job.
          epochs: a parameter of Trainer.
          auc, mean, rows: values in metrics, statistics and data.
        """
        job = v1.PipelineJob(
            name=f"{ANSWERED_PARENT}/pipelineJobs/{job_id}",
            display_name=pipeline,
            pipeline_spec=_spec(epochs),
            labels=dict(labels or {}),
            runtime_config={"gcs_output_directory": f"gs://{BUCKET}/root"},
            state=v1.PipelineState.PIPELINE_STATE_RUNNING,
        )
        facts = {"auc": auc, "mean": mean, "rows": rows, "pushes": True, "run_id": job_id, "blessed": True}
        facts["destination"] = f"{PARENT}/models/{NAME}@1"
        begin_run(self.emulator, job, pipeline, list(GRAPH), {})
        self.emulator.store.put(job)
        job.start_time = job.create_time
        made: Made = {}
        ended = "SUCCEEDED"
        for task in GRAPH:
            if task in skips:
                end_task(self.emulator, job, TaskResult(task, "NOT_TRIGGERED"))
                continue
            begin_task(self.emulator, job, task, "resolver" if task in _RESOLVERS else "container")
            if stops_in and task == stops_in[0]:
                if stops_in[1] == "RUNNING":
                    self.emulator.store.put(job)
                    return made
                end_task(self.emulator, job, TaskResult(task, "CANCELLED"))
                ended = "CANCELLED"
                break
            if fails and task == fails[0]:
                end_task(
                    self.emulator, job, TaskResult(task, "FAILED", error=fails[1], inputs=self._inputs(task, made))
                )
                job.error = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=f"The task {task} has failed")
                ended = "FAILED"
                break
            answered = cached is not None and task in cached and task not in NOT_CACHED
            made[task] = (
                cached[task] if cached is not None and answered else self._make_outputs(task, job_id, made, facts)
            )
            state = "CACHED" if answered else "SUCCEEDED"
            outputs = {key: [artifact] for key, artifact in made[task].items()}
            end_task(self.emulator, job, TaskResult(task, state, inputs=self._inputs(task, made), outputs=outputs))
        end_run(self.emulator, job, ended)
        self.emulator.store.put(job)
        return made

    def _inputs(self, task: str, made: Made) -> dict[str, list[dict[str, Any]]]:
        return {key: [made[source][output]] for key, source, output in GRAPH[task][1] if source in made}

    def _make_outputs(self, task: str, job_id: str, made: Made, facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        outputs = {}
        for key, kind in GRAPH[task][2]:
            number = self.emulator.store.create_id()
            folder = self.emulator.storage / BUCKET / "root" / "123456789" / job_id / f"{task}_{number}" / key
            folder.mkdir(parents=True)
            artifact = mlmd.Artifact()
            fill(artifact, kind, task, folder, facts)
            metadata = plain(artifact)
            if kind == "PushedModel":
                metadata |= {"pushed_version": "1", "pushed_destination": f"{PARENT}/models/{NAME}@1"}
            uri = folder / "value" if kind == "JsonValue" else folder
            name = f"projects/123456789/locations/local/metadataStores/default/artifacts/{number}"
            outputs[key] = {"name": name, "uri": str(uri), "metadata": metadata, "schema_title": f"tfx.{kind}"}
        return outputs

    def gone(self, job_id: str) -> None:
        """Delete a job; ML Metadata keeps what it knows."""
        self.emulator.store.delete(f"{ANSWERED_PARENT}/pipelineJobs/{job_id}")


def _spec(epochs: int) -> dict[str, Any]:
    """Return a compiled job, as far as it is read."""
    parameters: dict[str, dict[str, Any]] = {
        "Trainer": {
            "custom_config": json.dumps({"code_fingerprint": "abc", "settings": json.dumps({"epochs": epochs})})
        },
        "Pusher": {
            "registry": json.dumps({"model_name": NAME, "deployment": {"endpoint": None, "traffic_steps": [30, 100]}})
        },
    }
    tasks, components, executors = {}, {}, {}
    for task in GRAPH:
        constants = parameters.get(task, {})
        tasks[task] = {
            "componentRef": {"name": task},
            "cachingOptions": {"enableCache": True} if task not in NOT_CACHED else {},
            "inputs": {"parameters": {key: {"runtimeValue": {"constant": value}} for key, value in constants.items()}},
        }
        components[task] = {"executorLabel": f"{task}_executor"}
        executors[f"{task}_executor"] = {"resolver": {}} if task in _RESOLVERS else {"container": {"image": "i:v1"}}
    return {
        "pipelineInfo": {"name": NAME},
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}},
    }
