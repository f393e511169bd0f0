"""Jobs on Vertex Pipelines: submit, schedule, follow, cancel. Uses the real client; imports no TensorFlow."""

import functools
import math
import re
import time
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format, struct_pb2

from cli import errors
from cli.errors import ConfigError, PipelineError
from cli.terminal import format_command, get_runner
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.records import PushResult, hash_config, read_git_revision
from serving.registry.vertex.config import VertexProject
from serving.registry.vertex.connection import VertexClient
from serving.registry.vertex.metadata_store import resolve_network

# https://en.wikipedia.org/wiki/Cron#Cron_expression
_CRON_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "day of the week": (0, 7)}
# "Less than 128 characters" (CreatePipelineJobRequest.pipeline_job_id).
JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,126}")
# The exit code of a run that somebody ended, as for Ctrl-C.
CANCELLED_EXIT_CODE = 130
# Label with the conditions for which `pipeline retrain` submitted a job; a label has 63 characters at most.
REASON_LABEL = "retrain-reason"
_MAX_LABEL_CHARS = 63
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
_KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PipelineError)]
_CODES: dict[str, int] = {kind.__name__: kind.exit_code for kind in _KINDS}


class Submission(NamedTuple):
    """A job or a schedule on Vertex AI.

    Attributes:
      name: resource name.
      is_new: whether it was created now; otherwise it existed.
    """

    name: str
    is_new: bool


@dataclass(frozen=True)
class Task:
    """A task of a job.

    Attributes:
      name: in the DAG.
      state: such as SUCCEEDED, SKIPPED (reused from the cache), RUNNING, FAILED.
      seconds: it ran, or has run so far; None before.
      error: error of a failed node.
    """

    name: str
    state: str
    seconds: float | None
    error: str


@dataclass(frozen=True)
class Status:
    """A job and its tasks."""

    name: str
    state: str
    link: str
    error: str
    tasks: tuple[Task, ...]

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    @property
    def exit_code(self) -> int:
        """Exit code as of local_runner.py: 0, or the code of the first failure."""
        if self.state == "SUCCEEDED" or not self.ended:
            return 0
        if self.state == "CANCELLED":
            return CANCELLED_EXIT_CODE
        for task in self.tasks:
            for kind, code in _CODES.items():
                if task.state == "FAILED" and re.search(rf"\b{kind}\b", task.error):
                    return code
        return PipelineError.exit_code


def generate_job_id(pipeline: str) -> str:
    """Return a name for a run: the pipeline's, and the time to the second."""
    return f"{pipeline[:100]}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def collect_origin(config: PipelineConfig) -> dict[str, str]:
    """Return labels with the origin of a job: the config's hash, the revision of this checkout, its changes."""
    revision, dirty = read_git_revision()
    labels = {"config-hash": hash_config(config)}
    return labels if revision is None else {**labels, "revision": revision, "dirty": str(dirty).lower()}


def format_reason(conditions: Sequence[str]) -> str:
    """Return the names of conditions as a label."""
    return "-".join(conditions)[:_MAX_LABEL_CHARS]


def check_job_id(job_id: str) -> None:
    """Raise ConfigError if the id breaks Vertex's rule."""
    if not JOB_ID.fullmatch(job_id):
        raise ConfigError(f"--job-id: '{job_id}' does not match [a-z][-a-z0-9]{{0,126}}")


def submit(vertex: VertexClient, job: Mapping[str, Any], job_id: str) -> Submission:
    """Create a job, once: an id that is there already is left as it is.

    Raises:
      ConfigError: the id breaks Vertex's rule.
      PushError: Vertex AI rejects it.
    """
    check_job_id(job_id)
    name = f"{vertex.place.parent}/pipelineJobs/{job_id}"
    request = v1.CreatePipelineJobRequest(
        parent=vertex.place.parent, pipeline_job=_build_message(vertex, job), pipeline_job_id=job_id
    )

    def create() -> str:
        try:
            return str(vertex.call(vertex.pipelines.create_pipeline_job, request).name)
        except exceptions.AlreadyExists:
            # Perhaps by the attempt before this one, whose response was lost.
            return name

    before = _has_job(vertex, name)
    return Submission(vertex.retry(create, seconds=300), is_new=not before)


def _has_job(vertex: VertexClient, name: str) -> bool:
    try:
        vertex.read(vertex.pipelines.get_pipeline_job, v1.GetPipelineJobRequest(name=name))
    except exceptions.NotFound:
        return False
    return True


def _build_message(vertex: VertexClient, job: Mapping[str, Any]) -> v1.PipelineJob:
    """Return the compiled job as the request's message; the spec goes inline."""
    values = dict(job)
    if "network" in values:
        values["network"] = resolve_network(vertex, values["network"])
    message = v1.PipelineJob.pb(v1.PipelineJob())
    try:
        json_format.ParseDict(values, message)
    except json_format.ParseError as error:
        raise ConfigError(f"the compiled job is not valid for Vertex AI: {error}") from error
    request_job: v1.PipelineJob = v1.PipelineJob.wrap(message)
    return request_job


def check_cron(cron: str) -> None:
    """Reject a text that is not a schedule, before anything is compiled for it.

    Raises:
      ConfigError: with the field that is wrong.
    """
    zone, *fields = cron.split() if cron.startswith(("TZ=", "CRON_TZ=")) else ["", *cron.split()]
    zones = zoneinfo.available_timezones()
    if zone and zones and zone.partition("=")[2] not in zones:
        raise ConfigError(f"--cron: '{zone}' is not a time zone; expected such as TZ=Europe/Berlin")
    if len(fields) != len(_CRON_FIELDS):
        raise ConfigError(f"--cron: expected five fields such as '0 3 * * *', found '{cron}'")
    for text, (name, (low, high)) in zip(fields, _CRON_FIELDS.items(), strict=True):
        for part in text.split(","):
            # MON and JAN are numbers too.
            if name in ("month", "day of the week") and re.fullmatch(r"[A-Za-z]{3}(-[A-Za-z]{3})?", part):
                continue
            match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
            numbers = [int(number) for number in (match[1], match[2]) if number] if match else []
            if match is None or not all(low <= number <= high for number in numbers) or numbers != sorted(numbers):
                raise ConfigError(f"--cron: the {name}, '{text}': expected *, or numbers from {low} to {high}")


def submit_schedule(vertex: VertexClient, job: Mapping[str, Any], *, cron: str, name: str) -> Submission:
    """Run a job by the clock; a schedule of this name is changed, not doubled.

    Args:
      cron: five fields, with `TZ=Europe/Berlin ` or `CRON_TZ=Europe/Berlin ` before them for another zone than UTC.
      name: the display name.
    """
    parent = vertex.place.parent
    request = _build_list_request(vertex, name)
    existing = list_schedules(vertex, name)
    if len(existing) > 1:
        names = ", ".join(existing_schedule.name for existing_schedule in existing)
        raise PipelineError(
            f"several schedules are called '{name}': {names}; delete them: "
            + format_command(*get_runner("vertex_runner.py"), "schedules", "delete")
        )
    new = v1.Schedule(
        display_name=name,
        cron=cron,
        max_concurrent_run_count=1,
        create_pipeline_job_request=v1.CreatePipelineJobRequest(
            parent=parent, pipeline_job=_build_message(vertex, job)
        ),
    )
    if existing:
        new.name = existing[0].name
        paths = ["cron", "create_pipeline_job_request", "max_concurrent_run_count"]
        update = v1.UpdateScheduleRequest(schedule=new, update_mask={"paths": paths})
        vertex.retry(lambda: vertex.call(vertex.schedules.update_schedule, update), seconds=300)
        return Submission(existing[0].name, is_new=False)

    def create() -> str:
        again = vertex.list_all(vertex.schedules.list_schedules, request)
        if again:
            return str(again[0].name)
        created = v1.CreateScheduleRequest(parent=parent, schedule=new)
        return str(vertex.call(vertex.schedules.create_schedule, created).name)

    return Submission(vertex.retry(create, seconds=300), is_new=True)


def _build_list_request(vertex: VertexClient, name: str) -> v1.ListSchedulesRequest:
    return v1.ListSchedulesRequest(parent=vertex.place.parent, filter=f'display_name="{name}"')


def list_schedules(vertex: VertexClient, name: str) -> list[Any]:
    """Return the schedules of a display name, the oldest first."""
    schedules = vertex.list_all(vertex.schedules.list_schedules, _build_list_request(vertex, name))
    return sorted(schedules, key=lambda schedule: schedule.create_time)


def update_schedules(vertex: VertexClient, name: str, action: str) -> list[Any]:
    """Pause, resume or delete the schedules of a display name, and return them as they are then.

    Args:
      vertex: Connection.
      name: Display name.
      action: `pause`, `resume` or `delete`.

    Raises:
      ConfigError: there is no such schedule.
    """
    schedules = list_schedules(vertex, name)
    if not schedules:
        raise ConfigError(
            f"{vertex.place.parent}: has no schedule '{name}'; make one: "
            + format_command(*get_runner("vertex_runner.py"), "submit", "--cron", "0 3 * * *")
        )
    for schedule in schedules:
        vertex.retry(functools.partial(_apply_action, vertex, schedule, action), seconds=300)
    return list_schedules(vertex, name)


def _apply_action(vertex: VertexClient, schedule: Any, action: str) -> None:
    client = vertex.schedules
    states = v1.Schedule.State
    try:
        now = vertex.call(client.get_schedule, v1.GetScheduleRequest(name=schedule.name))
        if action == "delete":
            started = vertex.call(client.delete_schedule, v1.DeleteScheduleRequest(name=schedule.name))
            vertex.wait(client, started.operation.name, seconds=300)
        elif action == "pause" and now.state == states.ACTIVE:
            vertex.call(client.pause_schedule, v1.PauseScheduleRequest(name=schedule.name))
        elif action == "resume" and now.state == states.PAUSED:
            vertex.call(client.resume_schedule, v1.ResumeScheduleRequest(name=schedule.name))
    except exceptions.NotFound:
        if action != "delete":
            raise


def read_status(vertex: VertexClient, job_id: str) -> Status:
    """Return a job's state.

    Raises:
      ConfigError: there is no such job; the latest ones are named.
    """
    name = f"{vertex.place.parent}/pipelineJobs/{job_id}"
    try:
        job = vertex.read(vertex.pipelines.get_pipeline_job, v1.GetPipelineJobRequest(name=name))
        return to_status(job, vertex.place)
    except exceptions.NotFound as error:
        names = ", ".join(job.name for job in list_latest(vertex, 5)) or "none"
        raise ConfigError(f"{name}: there is no such job; the latest are: {names}") from error


def list_latest(vertex: VertexClient, count: int, pipeline: str | None = None) -> list[Status]:
    """Return the last jobs, newest first."""
    request = v1.ListPipelineJobsRequest(parent=vertex.place.parent, order_by="create_time desc", page_size=100)
    if pipeline is not None:
        request.filter = f'display_name="{pipeline}"'
    listed = vertex.list_all(vertex.pipelines.list_pipeline_jobs, request)[:count]
    return [to_status(job, vertex.place) for job in listed]


def to_status(job: Any, place: VertexProject) -> Status:
    """Return the status of a PipelineJob; it has tasks if the job was read by itself, not in a list."""
    job_id = job.name.rpartition("/")[2]
    runs = f"https://console.cloud.google.com/vertex-ai/locations/{place.region}/pipelines/runs"
    return Status(
        name=job_id,
        state=job.state.name.removeprefix("PIPELINE_STATE_"),
        link=f"{runs}/{job_id}?project={place.project}",
        error=job.error.message,
        tasks=tuple(_convert_task(detail) for detail in sort_details(job)),
    )


def list_tasks(job: Any) -> dict[str, Any]:
    """Return the tasks of a job's DAG as they were compiled, by name."""
    spec = json_format.MessageToDict(type(job).pb(job).pipeline_spec)
    tasks: dict[str, Any] = spec.get("root", {}).get("dag", {}).get("tasks", {})
    return tasks


def read_push(properties: Mapping[str, Any]) -> PushResult | None:
    """Return the result of a push from the properties of Pusher's artifact; None if Pusher has not set them."""
    if "pushed_version" not in properties:
        return None
    return PushResult(
        version=int(properties["pushed_version"]),
        wrote=properties.get("pushed") == 1,
        destination=properties.get("pushed_destination", ""),
    )


def sort_details(job: Any) -> list[Any]:
    """Return the details of the tasks in the order of their starts, pending ones last; without the DAG's own entry."""
    names = list_tasks(job)
    details = [detail for detail in job.job_detail.task_details if detail.task_name in names]
    return sorted(details, key=lambda detail: detail.start_time.timestamp() if detail.start_time else math.inf)


def _convert_task(detail: Any) -> Task:
    start = detail.start_time.timestamp() if detail.start_time else None
    end = detail.end_time.timestamp() if detail.end_time else None
    seconds = (end or time.time()) - start if start else None
    return Task(detail.task_name, detail.state.name, seconds, detail.error.message)


def follow(vertex: VertexClient, job_id: str, changed: Callable[[Task], None], *, seconds: float = 10.0) -> Status:
    """Poll a job until it has ended, and report every task whose state changed."""
    seen: dict[str, str] = {}
    while True:
        now = read_status(vertex, job_id)
        for task in now.tasks:
            if seen.get(task.name) != task.state:
                seen[task.name] = task.state
                changed(task)
        if now.ended:
            return now
        time.sleep(seconds)


def cancel(vertex: VertexClient, job_id: str) -> Status:
    """Ask for the end of a job; one that has ended is left as it is."""
    now = read_status(vertex, job_id)
    if not now.ended:
        request = v1.CancelPipelineJobRequest(name=f"{vertex.place.parent}/pipelineJobs/{job_id}")
        vertex.retry(lambda: vertex.call(vertex.pipelines.cancel_pipeline_job, request), seconds=120)
    return read_status(vertex, job_id)


def without_cache(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same job with every task run again."""
    copied: dict[str, Any] = json_format.MessageToDict(json_format.ParseDict(dict(job), struct_pb2.Struct()))
    for task in copied["pipelineSpec"]["root"]["dag"]["tasks"].values():
        if "cachingOptions" in task:
            task["cachingOptions"] = {"enableCache": False}
    return copied
