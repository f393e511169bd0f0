"""Jobs of Vertex Pipelines as run records: how far each task came and why it ended."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from cli.errors import PushError
from cli.terminal import command
from pipeline.run.records import Kind, NodeRecord, RunRecord, State
from pipeline.vertex.jobs import JOB_ID, details_of, pushed_text, tasks_of, to_status
from serving.registry.vertex.connection import Vertex

_SECONDS = 60.0
_LISTED = ("name", "display_name", "state", "create_time", "start_time", "end_time", "error", "labels")
_PAGE = 50
_FINGERPRINT = "code_fingerprint"
# What a task's state is called in a record; tasks of other states were not reached.
_STATES = {"RUNNING": "running", "SUCCEEDED": "complete", "SKIPPED": "cached", "FAILED": "failed"}
_ENDING = ("CANCEL_PENDING", "CANCELLING", "CANCELLED")
_GOING_ON = ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")


class Jobs:
    """The jobs of one project and region, perhaps of one pipeline only."""

    def __init__(self, vertex: Vertex, pipeline: str | None) -> None:
        self._vertex, self._pipeline = vertex, pipeline
        self._known: dict[str, Any] = {}

    def get(self, job_id: str) -> Any:
        """Return a job with its tasks; None where there is none."""
        if not JOB_ID.fullmatch(job_id):
            return None
        if job_id not in self._known:
            request = v1.GetPipelineJobRequest(name=f"{self._vertex.place.parent}/pipelineJobs/{job_id}")
            call = self._vertex.pipelines.get_pipeline_job
            try:
                found = self._vertex.retried(lambda: self._vertex.call(call, request), seconds=_SECONDS)
            except exceptions.NotFound:
                found = None
            self._known[job_id] = found
        return self._known[job_id]

    def ids(self, *filters: str) -> Iterator[str]:
        """Yield the ids of the jobs that fit, the newest first; a page is read when it is needed.

        Raises:
          PushError: Vertex AI refuses or does not answer, or there is no such project.
        """
        terms = [*filters, *([f'display_name="{self._pipeline}"'] if self._pipeline else [])]
        parent = self._vertex.place.parent
        request = v1.ListPipelineJobsRequest(
            parent=parent, filter=" AND ".join(terms), order_by="create_time desc", page_size=_PAGE
        )
        request.read_mask = {"paths": list(_LISTED)}
        while True:
            page = self._page(request)
            for job in page.pipeline_jobs:
                yield job.name.rpartition("/")[2]
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _page(self, request: Any) -> Any:
        def ask() -> Any:
            # The pager would ask for the next page by itself, and not again if that failed.
            return next(iter(self._vertex.call(self._vertex.pipelines.list_pipeline_jobs, request).pages))

        try:
            return self._vertex.retried(ask, seconds=_SECONDS)
        except exceptions.NotFound as error:
            raise PushError(f"{request.parent}: is not there; check --project and --region") from error

    def record(self, job_id: str) -> RunRecord | None:
        """Return what a job tells, as a run record; None where there is none.

        Vertex AI does not say who submitted it, nor which packages the image holds.
        """
        job = self.get(job_id)
        if job is None:
            return None
        status, config = to_status(job), _config(job)
        nodes = {task.task_name: node for task in details_of(job) if (node := self._node(task)) is not None}
        dirty = job.labels.get("dirty")
        return RunRecord(
            run_id=job_id,
            pipeline=job.display_name,
            kind=Kind.VERTEX,
            config={name: values for name, values in config.items() if values},
            config_hash=job.labels.get("config-hash", ""),
            revision=job.labels.get("revision"),
            dirty=dirty == "true" if dirty else None,
            code=_code(job, config),
            packages={},
            host="",
            pid=0,
            process_started=0.0,
            user="",
            command=[],
            log=self._log("aiplatform.googleapis.com/PipelineJob", "pipeline_job_id", job_id),
            expected=list(dict.fromkeys([*nodes, *tasks_of(job)])),
            started=_seconds(job.start_time) or _seconds(job.create_time) or 0.0,
            nodes=nodes,
            ended=_seconds(job.end_time) if status.ended else None,
            exit_code=status.exit_code if status.ended else None,
            error=status.error,
            reason="a request to cancel it" if status.state == "CANCELLED" else "",
            summary=_summary(details_of(job)),
        )

    def _node(self, task: Any) -> NodeRecord | None:
        state = _STATES.get(task.state.name)
        started, ended = _seconds(task.start_time), _seconds(task.end_time)
        if task.state.name in _ENDING and started is not None:
            state = "failed" if ended else "running"
        if state is None:
            return None
        begun = started or ended or _seconds(task.create_time) or 0.0
        error = task.error.message or ("cancelled" if task.state.name in _ENDING else "")
        job = task.executor_detail.container_detail.main_job or task.executor_detail.custom_job_detail.job
        log = self._log("ml_job", "job_id", job.rpartition("/")[2]) if job else None
        return NodeRecord(state=state, started=begun, ended=ended, error=error if state == "failed" else "", log=log)

    def _log(self, kind: str, label: str, value: str) -> str:
        """Return the command that reads a log; https://cloud.google.com/logging/docs/view/logging-query-language."""
        query = f'resource.type="{kind}" AND resource.labels.{label}="{value}"'
        return command("gcloud", "logging", "read", query, "--project", self._vertex.place.project, "--limit", 100)


def state_of(job: Any, record: RunRecord) -> State:
    """How a job is."""
    state = job.state.name.removeprefix("PIPELINE_STATE_")
    if state in _GOING_ON:
        return State.RUNNING
    if state == "CANCELLED":
        return State.ABORTED
    if state != "SUCCEEDED":
        return State.FAILED if state == "FAILED" else State.UNKNOWN
    if any(name not in record.nodes for name in record.expected):
        return State.INCOMPLETE
    # The others look at what is there now.
    cacheable = [name for name, task in tasks_of(job).items() if task.get("cachingOptions", {}).get("enableCache")]
    answered = bool(cacheable) and all(record.nodes[name].state == "cached" for name in cacheable)
    return State.CACHED if answered else State.SUCCEEDED


def _spec(job: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(type(job).pb(job).pipeline_spec)
    return found


def _config(job: Any) -> dict[str, Any]:
    """Return what a job was told: the parameters of each task, and where it writes."""
    found: dict[str, Any] = {"pipeline_root": job.runtime_config.gcs_output_directory}
    for name, task in tasks_of(job).items():
        given = task.get("inputs", {}).get("parameters", {})
        found[name] = {key: _value(source.get("runtimeValue", {}).get("constant")) for key, source in given.items()}
    return found


def _value(value: Any) -> Any:
    """Return a parameter; TFX writes what is nested as JSON, within JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return _value(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, Mapping):
        return {key: _value(inner) for key, inner in value.items()}
    return value


def _code(job: Any, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprints of the code and the images; they are taken out of the config."""
    found = {}
    for name, values in config.items():
        for place in (values, values.get("custom_config")) if isinstance(values, dict) else ():
            if isinstance(place, dict) and _FINGERPRINT in place:
                found[name] = str(place.pop(_FINGERPRINT))
    for name, executor in _spec(job).get("deploymentSpec", {}).get("executors", {}).items():
        if image := executor.get("container", {}).get("image"):
            found[f"image of {name.removesuffix('_executor')}"] = image
    return found


def _summary(tasks: list[Any]) -> dict[str, str]:
    """Return what was pushed, from what Pusher wrote."""
    for task in tasks:
        for artifact in task.outputs["pushed_model"].artifacts if "pushed_model" in task.outputs else ():
            return {"pushed": pushed_text(dict(artifact.metadata or {}))}
    return {}


def _seconds(time: Any) -> float | None:
    return float(time.timestamp()) if time else None


def job_ids_in(uri: str) -> list[str]:
    """Return the parts of an artifact's path that can be a job's id: OUTPUT_DIRECTORY/JOB_ID/TASK_ID/KEY."""
    parts = re.sub(r"^gs://[^/]*/", "", uri).rstrip("/").split("/")
    return [part for part in (*parts[-3:-2], *parts[-4:-3]) if JOB_ID.fullmatch(part)]
