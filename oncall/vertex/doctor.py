"""`doctor` on Vertex AI: jobs that failed, artifacts that are gone, cut-off pushes, traffic that goes astray."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1

from cli.errors import PushError
from cli.terminal import command, runner
from oncall.doctor import Finding, diagnosis
from oncall.terminal import Answer, short
from oncall.vertex.evidence import VertexEvidence
from oncall.vertex.releases import NoModelError, Registered, registered
from pipeline.run.causes import cause
from pipeline.run.records import State
from serving.registry.vertex.lease import lease_name
from serving.registry.vertex.state import OWNER_LABEL, REJECTED, STATE_LABEL, UNFINISHED

# Since the last that succeeded; no more are looked at.
_READ_RUNS = 20
_NOT_HERE = "database, records, disk, orphans: Vertex AI keeps them"
_KINDS = ("Model", "Schema", "ExampleStatistics", "ModelEvaluation")


def doctor(evidence: VertexEvidence, folder: Path | None, model: str | None) -> Answer:
    """All findings; the exit code is 1 if there are any."""
    findings = list(_runs(evidence))
    holder = ""
    try:
        releases = registered(evidence, folder, model)
        holder = _holder(evidence, releases.name)
        findings += _registry(releases, holder)
    except NoModelError:
        # There was no job yet that would have pushed one.
        pass
    except PushError as error:
        findings.append(Finding("registry", str(error), f"python -m oncall runs{evidence.here}"))
    return diagnosis(holder, "no push is active", findings, _NOT_HERE)


def _holder(evidence: VertexEvidence, model: str) -> str:
    """Which push holds the model's lease."""
    request = v1.GetContextRequest(name=lease_name(evidence.vertex, model))
    try:
        held = dict(evidence.vertex.read(evidence.vertex.metadata.get_context, request).metadata or {})
    except exceptions.NotFound:
        return ""
    if float(held.get("expires") or 0) <= time.time():
        return ""
    return f"held by run {held.get('run_id')}, on {held.get('host')}, since {held.get('since')}"


def _runs(evidence: VertexEvidence) -> Iterator[Finding]:
    """Jobs that failed and that no later one has made good; and whether the last good one's artifacts are there."""
    for run_id in islice(evidence.record_ids, _READ_RUNS):
        run = evidence.run(run_id)
        if run.record is None or run.state is State.RUNNING:
            continue
        if run.state in (State.SUCCEEDED, State.CACHED):
            yield from _missing(evidence, run_id)
            return
        why = f"python -m oncall why {run_id}{evidence.here}"
        yield Finding("run", f"{run_id} {run.state}: {short(cause(run.record, run.state), 200)}", why)


def _missing(evidence: VertexEvidence, run_id: str) -> Iterator[Finding]:
    """Yield what the next run, an answer from the cache or a baseline, would look for in vain."""
    for artifact in evidence.metadata.artifacts_of_run(run_id):
        if artifact.type not in _KINDS or not artifact.live:
            continue
        try:
            if not evidence.bucket.is_there(artifact.uri):
                todo = command(*runner("vertex_runner.py"), "submit", "--no-cache") + evidence.where.of_project()
                yield Finding("missing", f"{artifact.type} {artifact.id} of {run_id}: {artifact.uri} is gone", todo)
        except PushError as error:
            evidence.bucket.unread.append(str(error))
            return


def _registry(releases: Registered, holder: str) -> Iterator[Finding]:
    where = f"{releases.place}, version"
    for version in releases.model.versions:
        if version.labels.get(STATE_LABEL) == UNFINISHED and not holder:
            said = f"{where} {version.number}: its push was cut off"
            yield Finding("registry", said, "submit the same config again: it is finished, not repeated")
        if version.labels.get(STATE_LABEL) == REJECTED and releases.endpoint.share_of(version.id):
            yield Finding("registry", f"{where} {version.number}: was rejected, and gets traffic", releases.back)
        if OWNER_LABEL not in version.labels and releases.endpoint.share_of(version.id):
            yield Finding("registry", f"{where} {version.number}: another tool's, and gets traffic", releases.back)
    for deployed in releases.endpoint.deployed:
        known = releases.model.of_id(deployed.version_id) if deployed.model == releases.place else None
        if known is None and releases.endpoint.split.get(deployed.id):
            said = (
                f"{releases.endpoint.resource}: {deployed.model} gets traffic, and is not a version of {releases.name}"
            )
            yield Finding("registry", said, releases.back)
    if releases.champion is None:
        yield Finding("registry", f"{releases.place}: no version is the champion", releases.back)
    elif releases.champion not in (v.number for v in releases.versions() if v.traffic):
        said = f"{where} {releases.champion}: is the champion, and gets no traffic"
        yield Finding("registry", said, releases.back.replace(" rollback", " promote"))
