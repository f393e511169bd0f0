"""`doctor` of a run root: its database, runs, disk, artifacts and registry."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from cli.errors import ConfigError, PipelineError, RunRootError
from cli.terminal import command, flags
from oncall.findings import Finding, report_findings
from oncall.local.artifact_folders import (
    MOVED,
    find_earlier_root,
    get_execution_folder,
    is_missing,
    list_execution_folders,
)
from oncall.local.metadata import LocalMetadata
from oncall.local.model_versions import LocalModelVersions
from oncall.local.run_store import LocalRunStore
from oncall.metadata import Artifact
from oncall.results import CommandResult
from oncall.text_format import format_bytes
from pipeline.database.sqlite import UNFINISHED
from pipeline.run.advice import again
from pipeline.run.causes import cause
from pipeline.run.records import State

_MIN_FREE_BYTES = 2e9
# The names that serving/registry/local/disk.py gives to unfinished folders.
_UNFINISHED_FOLDERS = (".unfinished-*", ".deleted-*")


def diagnose_run_root(store: LocalRunStore, folder: Path | None, model: str | None) -> CommandResult:
    """Return the findings of a run root and its registry."""
    if store.has_rehearsals:
        not_here = "database, artifacts, registry: a rehearsal has none"
        findings = [*_check_runs(store), *_check_disk(store)]
        return report_findings(_find_lock_holder(store), "no rehearsal is active", findings, not_here)
    findings = [*_check_database(store), *_check_runs(store), *_check_disk(store)]
    try:
        findings += _check_artifacts(store, store.metadata)
    except RunRootError as error:
        if not any(finding.kind == "database" for finding in findings):
            findings.append(Finding("database", str(error), _get_remedy(store, str(error))))
    findings += _check_registry(store, folder, model)
    return report_findings(_find_lock_holder(store), "no run is active", findings)


def _find_lock_holder(store: LocalRunStore) -> str:
    """Return the run that holds the lock."""
    if not store.is_locked:
        return ""
    for record in store.read_records():
        if record.state(locked=True) is State.RUNNING:
            return f"held by run {record.run_id}, process {record.pid} on {record.host}"
    return "held, but by no run on record: one may be starting, or gc works"


def _check_database(store: LocalRunStore) -> Iterator[Finding]:
    try:
        store.root.database.check(whole=True)
    except RunRootError as error:
        yield Finding("database", str(error), _get_remedy(store, str(error)))


def _get_remedy(store: LocalRunStore, problem: str) -> str:
    if UNFINISHED in problem:
        return f"python -m oncall resume latest{store.location_flags}"
    return store.root.database.remedy(problem)


def _check_runs(store: LocalRunStore) -> Iterator[Finding]:
    """Yield damaged records, and crashed runs that no later run has made good."""
    made_good = False
    for run_id in store.record_ids:
        run = store.get_run(run_id)
        if run.record is None:
            message, record = store.damaged_records.get(run_id, run_id), store.root.record(run_id)
            todo = command("mv", record, f"{record}.damaged", note="ML Metadata still has the run")
            yield Finding("record", message, todo)
        elif run.state is State.CRASHED and not made_good:
            todo = again(run.record, store.location_flags)
            yield Finding("run", f"{run_id} CRASHED: {cause(run.record, run.state)}", todo)
        made_good = made_good or run.state in (State.SUCCEEDED, State.CACHED)


def _check_disk(store: LocalRunStore) -> Iterator[Finding]:
    free = shutil.disk_usage(store.root.path).free
    if free < _MIN_FREE_BYTES:
        todo = f"python -m oncall gc --keep-last 5 --keep-pushed{store.location_flags}"
        yield Finding("disk", f"{store.root.path}: {format_bytes(free)} are free", todo)


def _check_artifacts(store: LocalRunStore, metadata: LocalMetadata) -> Iterator[Finding]:
    """Yield artifacts without files, and files without artifacts."""
    live = [artifact for artifact in metadata.get_all_artifacts() if artifact.is_live]
    earlier = find_earlier_root(store.root.artifacts, (artifact.uri for artifact in live))
    if earlier is not None:
        # Otherwise every artifact would be missing, and every folder an orphan.
        message = f"{store.root.path}: {MOVED.format(earlier)}"
        yield Finding("moved", message, command("mv", store.root.path, earlier))
        return
    for artifact in live:
        if is_missing(artifact.uri):
            flags_and_note = f"{store.location_flags}    # no run finds it then"
            todo = f"python -m oncall gc --keep-last 100 --keep-pushed --yes{flags_and_note}"
            yield Finding("missing", f"{artifact.type} {artifact.id}: {artifact.uri} is gone", todo)
    yield from _check_folders(store, metadata, live)


def _check_folders(store: LocalRunStore, metadata: LocalMetadata, live: list[Artifact]) -> Iterator[Finding]:
    """Yield folders of executions that no live artifact is in."""
    root = store.root.artifacts
    used = {get_execution_folder(root, artifact.uri) for artifact in live}
    unused = {int(path.name): path for path in list_execution_folders(root) if path not in used}
    executions = metadata.get_executions(unused)
    for number, path in sorted(unused.items()):
        # TFX removes the output of a failed execution, but not always its folder.
        if not any(path.iterdir()):
            continue
        execution = executions.get(number)
        state = execution.state if execution is not None else ""
        if state == "RUNNING" and store.is_locked:
            continue
        if state in ("RUNNING", "FAILED"):
            todo = "the next run, or `resume`, removes it" if state == "RUNNING" else command("rm", "-r", path)
            yield Finding("partial", f"{path}: left by execution {number}, which is {state}", todo)
        else:
            yield Finding("orphan", f"{path}: holds no live artifact", command("rm", "-r", path))


def _check_registry(store: LocalRunStore, folder: Path | None, model: str | None) -> Iterator[Finding]:
    try:
        registry = store.find_registry(folder, model)
        states = registry.ledger().states
        for version in registry.numbers():
            if registry.release(version) is not None and version not in states:
                message = f"{registry.path(version)}: its push was cut off after the copy"
                yield Finding("registry", message, "run the pipeline again: the next push finishes or retires it")
        for version in sorted(states):
            if version not in registry.numbers() or not registry.fits(version):
                changed = ", ".join(registry.differing_files(version)) or "they are gone, or its release file is"
                path = registry.path(version)
                message = f"{path}: {states[version]}, and not the files that were pushed: {changed}"
                remedy = "leave it: nothing serves it"
                if version == registry.champion():
                    command_flags = store.location_flags + flags(registry=folder, model=model)
                    remedy = LocalModelVersions(registry, store.location_flags, command_flags).rollback_command
                yield Finding("registry", message, f"restore {path}; or {remedy}")
    except ConfigError:
        if folder is not None or model is not None:
            raise
        # There is no registry yet, or it is on Vertex AI.
        return
    except PipelineError as error:
        yield Finding("registry", str(error), "docs/registry.md, When something goes wrong")
        return
    for pattern in _UNFINISHED_FOLDERS if registry.folder.is_dir() else ():
        for path in sorted(registry.folder.glob(pattern)):
            yield Finding("registry", f"{path}: a push or a gc was cut off", "the next push removes it")
