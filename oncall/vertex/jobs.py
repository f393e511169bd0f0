"""Jobs of Vertex Pipelines, read as run records with the state and the error of each task."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from cli.errors import PushError
from cli.terminal import format_command
from pipeline.run.records import Kind, NodeRecord, PushResult, RunRecord, RunState
from pipeline.vertex.jobs import JOB_ID, REASON_LABEL, list_tasks, read_push, sort_details, to_status
from serving.registry.vertex.connection import VertexClient

_TIMEOUT_SECONDS = 60.0
_LISTED_FIELDS = ("name", "display_name", "state", "create_time", "start_time", "end_time", "error", "labels")
_PAGE_SIZE = 50
_FINGERPRINT = "code_fingerprint"
# The state in a record by the task's state; tasks of other states were not reached.
_STATES = {"RUNNING": "running", "SUCCEEDED": "complete", "SKIPPED": "cached", "FAILED": "failed"}
_CANCELLED_STATES = ("CANCEL_PENDING", "CANCELLING", "CANCELLED")
_ACTIVE_STATES = ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")


class Jobs:
    """The jobs of one project and region, perhaps of one pipeline only."""

    def __init__(self, vertex: VertexClient, pipeline: str | None) -> None:
        self._vertex, self._pipeline = vertex, pipeline
        self._jobs: dict[str, Any] = {}

    def get(self, job_id: str) -> Any:
        """Return a job with its tasks; None if it does not exist."""
        if not JOB_ID.fullmatch(job_id):
            return None
        if job_id not in self._jobs:
            request = v1.GetPipelineJobRequest(name=f"{self._vertex.place.parent}/pipelineJobs/{job_id}")
            call = self._vertex.pipelines.get_pipeline_job
            try:
                job = self._vertex.retry(lambda: self._vertex.call(call, request), seconds=_TIMEOUT_SECONDS)
            except exceptions.NotFound:
                job = None
            self._jobs[job_id] = job
        return self._jobs[job_id]

    def list_ids(self, *filters: str) -> Iterator[str]:
        """Yield the IDs of the jobs that match, the newest first; a page is read when it is needed.

        Raises:
          PushError: Vertex AI rejects the request or does not respond, or there is no such project.
        """
        terms = [*filters, *([f'display_name="{self._pipeline}"'] if self._pipeline else [])]
        parent = self._vertex.place.parent
        request = v1.ListPipelineJobsRequest(
            parent=parent, filter=" AND ".join(terms), order_by="create_time desc", page_size=_PAGE_SIZE
        )
        request.read_mask = {"paths": list(_LISTED_FIELDS)}
        while True:
            page = self._read_page(request)
            for job in page.pipeline_jobs:
                yield job.name.rpartition("/")[2]
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _read_page(self, request: Any) -> Any:
        def read() -> Any:
            # The pager would request the next page itself, without a retry.
            return next(iter(self._vertex.call(self._vertex.pipelines.list_pipeline_jobs, request).pages))

        try:
            return self._vertex.retry(read, seconds=_TIMEOUT_SECONDS)
        except exceptions.NotFound as error:
            raise PushError(f"{request.parent}: does not exist; check --project and --region") from error

    def read_record(self, job_id: str) -> RunRecord | None:
        """Return a job as a run record; None if it does not exist.

        Vertex AI does not keep who submitted it, nor the packages of the image.
        """
        job = self.get(job_id)
        if job is None:
            return None
        status, config = to_status(job, self._vertex.place), _read_config(job)
        nodes = {task.task_name: node for task in sort_details(job) if (node := self._convert_task(task)) is not None}
        dirty = job.labels.get("dirty")
        return RunRecord(
            run_id=job_id,
            pipeline=job.display_name,
            kind=Kind.VERTEX,
            config={name: values for name, values in config.items() if values},
            config_hash=job.labels.get("config-hash", ""),
            revision=job.labels.get("revision"),
            dirty=dirty == "true" if dirty else None,
            code=_read_code(job, config),
            packages={},
            host="",
            pid=0,
            process_started=0.0,
            user="",
            command=[],
            log=self._format_log_command("aiplatform.googleapis.com/PipelineJob", "pipeline_job_id", job_id),
            expected=list(dict.fromkeys([*nodes, *list_tasks(job)])),
            started=_to_seconds(job.start_time) or _to_seconds(job.create_time) or 0.0,
            nodes=nodes,
            ended=_to_seconds(job.end_time) if status.ended else None,
            exit_code=status.exit_code if status.ended else None,
            error=status.error,
            reason="a request to cancel it" if status.state == "CANCELLED" else "",
            push=_read_push(sort_details(job)),
            reason_to_run=job.labels.get(REASON_LABEL, ""),
        )

    def _convert_task(self, task: Any) -> NodeRecord | None:
        state = _STATES.get(task.state.name)
        started, ended = _to_seconds(task.start_time), _to_seconds(task.end_time)
        if task.state.name in _CANCELLED_STATES and started is not None:
            state = "failed" if ended else "running"
        if state is None:
            return None
        begun = started or ended or _to_seconds(task.create_time) or 0.0
        error = task.error.message or ("cancelled" if task.state.name in _CANCELLED_STATES else "")
        job = task.executor_detail.container_detail.main_job or task.executor_detail.custom_job_detail.job
        log = self._format_log_command("ml_job", "job_id", job.rpartition("/")[2]) if job else None
        return NodeRecord(state=state, started=begun, ended=ended, error=error if state == "failed" else "", log=log)

    def _format_log_command(self, kind: str, label: str, value: str) -> str:
        """Return the command that reads a log; https://cloud.google.com/logging/docs/view/logging-query-language."""
        query = f'resource.type="{kind}" AND resource.labels.{label}="{value}"'
        return format_command(
            "gcloud", "logging", "read", query, "--project", self._vertex.place.project, "--limit", 100
        )


def get_state(job: Any, record: RunRecord) -> RunState:
    """Return the state of a job."""
    state = job.state.name.removeprefix("PIPELINE_STATE_")
    if state in _ACTIVE_STATES:
        return RunState.RUNNING
    if state == "CANCELLED":
        return RunState.ABORTED
    if state != "SUCCEEDED":
        return RunState.FAILED if state == "FAILED" else RunState.UNKNOWN
    if any(name not in record.nodes for name in record.expected):
        return RunState.INCOMPLETE
    # Nodes without a cache read the current files each time.
    cacheable = [name for name, task in list_tasks(job).items() if task.get("cachingOptions", {}).get("enableCache")]
    is_cached = bool(cacheable) and all(record.nodes[name].state == "cached" for name in cacheable)
    return RunState.CACHED if is_cached else RunState.SUCCEEDED


def _read_spec(job: Any) -> Mapping[str, Any]:
    spec: dict[str, Any] = json_format.MessageToDict(type(job).pb(job).pipeline_spec)
    return spec


def _read_config(job: Any) -> dict[str, Any]:
    """Return the parameters of each task, and the output folder."""
    config: dict[str, Any] = {"pipeline_root": job.runtime_config.gcs_output_directory}
    for name, task in list_tasks(job).items():
        parameters = task.get("inputs", {}).get("parameters", {})
        config[name] = {
            key: _decode_value(parameter.get("runtimeValue", {}).get("constant"))
            for key, parameter in parameters.items()
        }
    return config


def _decode_value(value: Any) -> Any:
    """Return a parameter; TFX writes nested values as JSON within JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return _decode_value(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, Mapping):
        return {key: _decode_value(inner) for key, inner in value.items()}
    return value


def _read_code(job: Any, config: Mapping[str, Any]) -> dict[str, str]:
    """Remove the fingerprints of the code from the config; return them with the images."""
    fingerprints = {}
    for name, values in config.items():
        for place in (values, values.get("custom_config")) if isinstance(values, dict) else ():
            if isinstance(place, dict) and _FINGERPRINT in place:
                fingerprints[name] = str(place.pop(_FINGERPRINT))
    for name, executor in _read_spec(job).get("deploymentSpec", {}).get("executors", {}).items():
        if image := executor.get("container", {}).get("image"):
            fingerprints[f"image of {name.removesuffix('_executor')}"] = image
    return fingerprints


def _read_push(tasks: list[Any]) -> PushResult | None:
    """Return the result of the push from Pusher's artifact."""
    for task in tasks:
        for artifact in task.outputs["pushed_model"].artifacts if "pushed_model" in task.outputs else ():
            return read_push(dict(artifact.metadata or {}))
    return None


def _to_seconds(time: Any) -> float | None:
    return float(time.timestamp()) if time else None


def parse_job_ids(uri: str) -> list[str]:
    """Return the parts of an artifact's path that can be a job's id: OUTPUT_DIRECTORY/JOB_ID/TASK_ID/KEY."""
    parts = re.sub(r"^gs://[^/]*/", "", uri).rstrip("/").split("/")
    return [part for part in (*parts[-3:-2], *parts[-4:-3]) if JOB_ID.fullmatch(part)]
