"""`doctor` on Vertex AI: failed jobs, missing artifacts, cut-off pushes, traffic of unexpected versions."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from cli.terminal import format_command, get_runner
from oncall.findings import Finding, report_findings
from oncall.results import CommandResult
from oncall.text_format import format_seconds, shorten
from oncall.vertex.model_versions import NoModelError, VertexModelVersions
from oncall.vertex.run_store import VertexRunStore
from pipeline.run.advice import suggest_oncall
from pipeline.run.causes import explain_state
from pipeline.run.records import RunState
from pipeline.vertex.jobs import list_schedules
from serving.registry.vertex.lease import build_lease_name, read_history
from serving.registry.vertex.names import is_same_resource
from serving.registry.vertex.state import OWNER_LABEL, REJECTED, STATE_LABEL, UNFINISHED

# Jobs after the last that succeeded, at most.
_MAX_READ_RUNS = 20
# Vertex AI may start a scheduled run some minutes late.
_MAX_DELAY_SECONDS = 600.0
_NOT_HERE = "database, records, disk, orphans: Vertex AI keeps them"
_CHECKED_TYPES = ("Model", "Schema", "ExampleStatistics", "ModelEvaluation")


def diagnose_vertex(store: VertexRunStore, folder: Path | None, model: str | None) -> CommandResult:
    """Return the findings of the jobs and the model."""
    findings = [*_check_runs(store), *_check_schedules(store)]
    holder = ""
    try:
        model_versions = store.find_model_versions(folder, model)
        holder = _find_lease_holder(store, model_versions.name)
        findings += [*_check_registry(model_versions, holder), *_check_request_log(model_versions)]
    except NoModelError:
        # No job has pushed a model yet.
        pass
    except PushError as error:
        findings.append(Finding("registry", str(error), suggest_oncall("runs", here=store.location_flags)))
    return report_findings(holder, "no push is active", findings, _NOT_HERE)


def _find_lease_holder(store: VertexRunStore, model: str) -> str:
    """Return the push that holds the model's lease."""
    request = v1.GetContextRequest(name=build_lease_name(store.vertex, model))
    try:
        lease = dict(store.vertex.read(store.vertex.metadata.get_context, request).metadata or {})
    except exceptions.NotFound:
        return ""
    left = float(lease.get("expires") or 0) - time.time()
    if left <= 0:
        return ""
    holder = f"held by run {lease.get('run_id')}, on {lease.get('host')}, since {lease.get('since')}"
    return f"{holder}; a push that died leaves it for {format_seconds(left)} more, and then the next push takes it over"


def _check_runs(store: VertexRunStore) -> Iterator[Finding]:
    """Yield failed jobs that no later one has made good, and missing artifacts of the last good one."""
    for run_id in islice(store.record_ids, _MAX_READ_RUNS):
        run = store.get_run(run_id)
        if run.record is None or run.state is RunState.RUNNING:
            continue
        if run.state in (RunState.SUCCEEDED, RunState.CACHED):
            yield from _check_artifacts(store, run_id)
            return
        why = suggest_oncall("why", run_id, here=store.location_flags)
        yield Finding("run", f"{run_id} {run.state}: {shorten(explain_state(run.record, run.state), 200)}", why)


def _check_schedules(store: VertexRunStore) -> Iterator[Finding]:
    """Yield the schedules of the pipeline that start no runs."""
    newest = next(store.read_records(), None)
    pipeline = store.flags.pipeline or (newest.pipeline if newest is not None else None)
    if pipeline is None:
        return
    place = store.flags.format_project_flags()
    now = time.time()
    for schedule in list_schedules(store.vertex, pipeline):
        name = schedule.name.rpartition("/")[2]
        label = f"schedule {name} of {pipeline} ({schedule.cron})"
        if schedule.state == v1.Schedule.State.PAUSED:
            since = schedule.last_pause_time.strftime("%Y-%m-%d %H:%M") if schedule.last_pause_time else "its start"
            todo = format_command(*get_runner("vertex_runner.py"), "schedules", "resume") + place
            yield Finding("schedule", f"{label}: is paused since {since} UTC; it starts no run", todo)
        elif schedule.next_run_time and now - schedule.next_run_time.timestamp() > _MAX_DELAY_SECONDS:
            due = schedule.next_run_time.strftime("%Y-%m-%d %H:%M")
            todo = format_command(*get_runner("vertex_runner.py"), "schedules", "list") + place
            yield Finding("schedule", f"{label}: its run of {due} UTC did not start", todo)


def _check_artifacts(store: VertexRunStore, run_id: str) -> Iterator[Finding]:
    """Yield missing artifacts that the next run needs for its cache or as a baseline."""
    for artifact in store.metadata.get_run_artifacts(run_id):
        if artifact.type not in _CHECKED_TYPES or not artifact.is_live:
            continue
        try:
            if not store.bucket.has_files(artifact.uri):
                submit = format_command(*get_runner("vertex_runner.py"), "submit", "--no-cache")
                message = f"{artifact.type} {artifact.id} of {run_id}: {artifact.uri} is gone"
                yield Finding("missing", message, submit + store.flags.format_project_flags())
        except PushError as error:
            store.bucket.read_errors.append(str(error))
            return


def _check_request_log(model_versions: VertexModelVersions) -> Iterator[Finding]:
    """Yield a request log that is set otherwise than the last push left it."""
    settings = [
        str(event["request_log"])
        for event in read_history(model_versions.vertex, model_versions.name)
        if "request_log" in event
    ]
    current = str(model_versions.endpoint.request_log or "")
    if settings and settings[-1] != current and model_versions.endpoint.exists:
        message = f"its request log was changed by hand: {settings[-1] or 'off'} -> {current or 'off'}"
        todo = "keep it in push.vertex.request_log of the config, or submit the config: its push sets it"
        yield Finding("registry", f"{model_versions.endpoint.resource}: {message}", todo)


def _check_registry(model_versions: VertexModelVersions, holder: str) -> Iterator[Finding]:
    location, endpoint = model_versions.location, model_versions.endpoint
    rollback = model_versions.rollback_command
    for version in model_versions.model.versions:
        name = f"{location}, version {version.number}"
        push_state = version.labels.get(STATE_LABEL)
        if push_state == UNFINISHED and not holder:
            todo = "submit the same config again: it is finished, not repeated"
            yield Finding("registry", f"{name}: its push was cut off", todo)
        if push_state == REJECTED and endpoint.compute_share(version.id):
            yield Finding("registry", f"{name}: was rejected, and gets traffic", rollback)
        if OWNER_LABEL not in version.labels and endpoint.compute_share(version.id):
            yield Finding("registry", f"{name}: another tool's, and gets traffic", rollback)
    for deployed in endpoint.deployed:
        is_own = is_same_resource(deployed.model, location)
        version_of = model_versions.model.find_by_id(deployed.version_id) if is_own else None
        if version_of is None and endpoint.split.get(deployed.id):
            message = f"{deployed.model} gets traffic, and is not a version of {model_versions.name}"
            yield Finding("registry", f"{endpoint.resource}: {message}", rollback)
    champion = model_versions.champion
    if champion is None:
        yield Finding("registry", f"{location}: no version is the champion", rollback)
    elif champion not in (version.number for version in model_versions.list_versions() if version.traffic):
        message = f"{location}, version {champion}: is the champion, and gets no traffic"
        yield Finding("registry", message, rollback.replace(" rollback", " promote"))
