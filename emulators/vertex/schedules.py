"""ScheduleService: pipeline jobs started by the clock of the emulator.

Quotations are of schedule.proto and schedule_service.proto. Status codes are guesses where a docstring names no source.
"""

import copy
import datetime
import itertools
import re
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2

from emulators.vertex import pipelines
from emulators.vertex.cron import Cron
from emulators.vertex.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from emulators.vertex.service import Emulator, list_page, register_deletion, register_method

_STATES = v1.Schedule.State
_UPDATED = (
    *("cron", "display_name", "start_time", "end_time", "max_run_count", "create_pipeline_job_request"),
    *("max_concurrent_run_count", "max_concurrent_active_run_count", "allow_queueing"),
)

register_deletion("ScheduleService", "Schedule")


@register_method("ScheduleService")
def create_schedule(emulator: Emulator, request: Any) -> Any:
    schedule = request.schedule
    _check(emulator, schedule)
    moment = _read_clock(emulator)
    schedule.name = f"{request.parent}/schedules/{emulator.store.create_id()}"
    schedule.state = _STATES.ACTIVE
    schedule.create_time = moment
    # "Default to Schedule create time if not specified."
    schedule.start_time = schedule.start_time or moment
    schedule.next_run_time = _find_next(schedule, moment)
    return emulator.store.put(schedule)


def _read_clock(emulator: Emulator) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(emulator.clock(), datetime.UTC)


def _find_next(schedule: Any, moment: datetime.datetime) -> datetime.datetime:
    """Return the time of the next run: start_time is the "Timestamp after which the first run can be scheduled"."""
    return Cron(schedule.cron).find_next(max(moment, schedule.start_time))


def _check(emulator: Emulator, schedule: Any) -> None:
    """Check a schedule.

    display_name and max_concurrent_run_count are "Required"; "CreatePipelineJobRequest.parent field is required
    (format: projects/{project}/locations/{location})". That the job is checked before its first run is a guess.
    """
    if schedule.create_notebook_execution_job_request:
        raise StatusError("UNIMPLEMENTED", "Schedules of notebooks are not emulated.")
    if not schedule.display_name or len(schedule.display_name) > 128:
        raise InvalidArgumentError("schedule.display_name must have 1 to 128 characters.")
    if schedule.max_concurrent_run_count < 1:
        raise InvalidArgumentError("schedule.max_concurrent_run_count is required.")
    try:
        Cron(schedule.cron)
    except ValueError as error:
        raise InvalidArgumentError(f"cron '{schedule.cron}' is not valid: {error}.") from error
    scheduled = schedule.create_pipeline_job_request
    if not re.fullmatch("projects/[^/]+/locations/[^/]+", scheduled.parent):
        raise InvalidArgumentError("create_pipeline_job_request.parent must be projects/PROJECT/locations/LOCATION.")
    pipelines.check_job(emulator, scheduled.pipeline_job)


@register_method("ScheduleService")
def update_schedule(emulator: Emulator, request: Any) -> Any:
    """Change a schedule: "Updates an active or paused Schedule".

    "new runs will be scheduled starting from the updated next execution time after the update time": a run that was
    missed is not made. The code for one in another state is a guess.
    """
    schedule = emulator.store.get(request.schedule.name)
    if schedule.state == _STATES.COMPLETED:
        raise FailedPreconditionError(f"{schedule.name} is COMPLETED.")
    for path in request.update_mask.paths:
        # "The output_only fields will be ignored if specified."
        if path in _UPDATED:
            setattr(schedule, path, getattr(request.schedule, path))
    _check(emulator, schedule)
    schedule.next_run_time = _find_next(schedule, _read_clock(emulator))
    return emulator.store.put(schedule)


@register_method("ScheduleService")
def pause_schedule(emulator: Emulator, request: Any) -> Any:
    """Pause a schedule: "no new runs will be created". The code for one that is not active is a guess."""
    schedule = _find(emulator, request.name, _STATES.ACTIVE)
    schedule.state, schedule.last_pause_time = _STATES.PAUSED, _read_clock(emulator)
    emulator.store.put(schedule)
    return empty_pb2.Empty()


@register_method("ScheduleService")
def resume_schedule(emulator: Emulator, request: Any) -> Any:
    """Resume a schedule: "Only paused Schedule can be resumed", and the code for another one is a guess.

    "new runs will be scheduled starting from the next execution time after the current time"; with catch_up, "all
    missed runs will be scheduled for backfill first".
    """
    schedule = _find(emulator, request.name, _STATES.PAUSED)
    moment = _read_clock(emulator)
    schedule.state, schedule.last_resume_time, schedule.catch_up = _STATES.ACTIVE, moment, request.catch_up
    if not request.catch_up:
        schedule.next_run_time = _find_next(schedule, moment)
    emulator.store.put(schedule)
    start_due(emulator)
    return empty_pb2.Empty()


def _find(emulator: Emulator, name: str, state: Any) -> Any:
    """Return a schedule in a state; the code for one in another state is a guess."""
    schedule = emulator.store.get(name)
    if schedule.state != state:
        raise FailedPreconditionError(f"{name} is {schedule.state.name}, not {state.name}.")
    return schedule


@register_method("ScheduleService")
def get_schedule(emulator: Emulator, request: Any) -> Any:
    return emulator.store.get(request.name)


@register_method("ScheduleService")
def list_schedules(emulator: Emulator, request: Any) -> Any:
    schedules = emulator.store.list_below(f"{request.parent}/schedules/", "Schedule")
    # "it will order by default with create_time in descending order"
    return list_page(v1.types.ListSchedulesResponse, "schedules", schedules[::-1], request)


def start_due(emulator: Emulator) -> None:
    """Start the runs that are due by the emulator's clock."""
    for schedule in emulator.store.list_below("projects/", "Schedule"):
        if schedule.state == _STATES.ACTIVE and schedule.next_run_time <= _read_clock(emulator):
            _start_runs(emulator, schedule)
            emulator.store.put(schedule)


def skip_missed(emulator: Emulator) -> None:
    """Skip the runs that were due while no emulator ran, which no service ever does."""
    for schedule in emulator.store.list_below("projects/", "Schedule"):
        if schedule.state == _STATES.ACTIVE and schedule.next_run_time <= _read_clock(emulator):
            schedule.next_run_time = _find_next(schedule, _read_clock(emulator))
            emulator.store.put(schedule)


def _start_runs(emulator: Emulator, schedule: Any) -> None:
    while schedule.state == _STATES.ACTIVE and schedule.next_run_time <= _read_clock(emulator):
        # "Timestamp after which no new runs can be scheduled."
        if schedule.end_time and schedule.next_run_time > schedule.end_time:
            schedule.state = _STATES.COMPLETED
            return
        limit = schedule.max_concurrent_active_run_count
        is_full = bool(limit) and len(list(itertools.islice(_list_active(emulator, schedule), limit))) == limit
        if is_full and schedule.allow_queueing:
            # "Having a next_run_time in the past means the runs are being started behind schedule."
            return
        if not is_full:
            _start_run(emulator, schedule)
        # "completed when either started_run_count >= max_run_count or when end_time is reached"
        if schedule.max_run_count and schedule.started_run_count >= schedule.max_run_count:
            schedule.state = _STATES.COMPLETED
        schedule.next_run_time = Cron(schedule.cron).find_next(schedule.next_run_time)


def _list_active(emulator: Emulator, schedule: Any) -> Any:
    jobs = emulator.store.list_below(f"{schedule.create_pipeline_job_request.parent}/pipelineJobs/", "PipelineJob")
    return (job for job in jobs if job.schedule_name == schedule.name and pipelines.is_active(job))


def _start_run(emulator: Emulator, schedule: Any) -> None:
    """Start one run. That each has an ID of its own, whatever the request names, is a guess."""
    request = copy.deepcopy(schedule.create_pipeline_job_request)
    request.pipeline_job_id = ""
    request.pipeline_job.schedule_name = schedule.name
    try:
        response = pipelines.start_job(emulator, request).name
    except StatusError as error:
        response = f"{error.code}: {error.message}"
    schedule.started_run_count += 1
    schedule.last_scheduled_run_response = v1.Schedule.RunResponse(
        scheduled_run_time=schedule.next_run_time, run_response=response
    )
