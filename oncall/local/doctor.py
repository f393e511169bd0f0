"""`doctor` of a run root: its database, runs, disk, artifacts and registry."""

import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import assert_never

from cli.errors import ConfigError, RunRootError
from cli.terminal import format_command, format_flags, show_rights
from oncall.findings import Finding, report_findings
from oncall.local.artifact_folders import (
    NOT_THERE,
    describe_earlier_root,
    find_earlier_root,
    is_missing,
    is_same_folder,
)
from oncall.local.disk_usage import describe_full_disk
from oncall.local.metadata import LocalMetadata
from oncall.local.model_versions import LocalModelVersions, LostRegistryError
from oncall.local.quarantine import find_unused_folders
from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult
from pipeline.database.binding import find_newer_backup, is_run_root
from pipeline.database.errors import DatabaseError, DatabaseFault
from pipeline.run.advice import suggest_oncall, suggest_resume
from pipeline.run.causes import explain_state
from pipeline.run.records import RunState, find_clock_conflicts
from serving.registry import LocalRegistry
from serving.registry.local.errors import RegistryFault, RegistryFileError

_MIN_FREE_BYTES = 2e9
_MAX_SHOWN_RUNS = 5
# Runs whose clocks are compared.
_MAX_CLOCK_RUNS = 20
# The names that serving/registry/local/disk.py gives to unfinished folders.
_UNFINISHED_FOLDERS = (".unfinished-*", ".deleted-*")


def diagnose_run_root(store: LocalRunStore, folder: Path | None, model: str | None) -> CommandResult:
    """Return the findings of a run root and its registry."""
    if store.has_rehearsals:
        not_here = "database, artifacts, registry: a rehearsal has none"
        findings = [*_check_runs(store), *_check_disk(store)]
        return report_findings(_find_lock_holder(store), "no rehearsal is active", findings, not_here)
    findings = [*_check_database(store), *_check_binding(store), *_check_runs(store), *_check_disk(store)]
    try:
        findings += _check_artifacts(store, store.metadata)
    except RunRootError as error:
        if not any(finding.kind == "database" for finding in findings):
            findings.append(Finding("database", str(error), _get_remedy(store, error)))
    findings += _check_registry(store, folder, model)
    return report_findings(_find_lock_holder(store), "no run is active", findings)


def _check_binding(store: LocalRunStore) -> Iterator[Finding]:
    """Yield why the database cannot be this run root's of today; what it does not list is not garbage then."""
    if store.original is not None:
        todo = suggest_oncall(
            "doctor", here=format_flags(run_root=store.original), note="the original; nothing here needs to be done"
        )
        yield Finding("copy", store.binding_error, todo)
        return
    if not store.binding_error:
        return
    unknown = ", ".join(store.unknown_runs[:_MAX_SHOWN_RUNS])
    more = len(store.unknown_runs) - _MAX_SHOWN_RUNS
    runs = f"; it lacks {unknown}{f' and {more} more' if more > 0 else ''}" if unknown else ""
    yield Finding(
        "binding", f"{store.binding_error}{runs}. Nothing is garbage until this is settled", _suggest_restore(store)
    )


def _suggest_restore(store: LocalRunStore) -> str:
    """Return the command that brings a newer database back; without a backup, that sets newer artifacts aside."""
    file = store.root.metadata
    backup = find_newer_backup(store.root.path, store.root.artifacts) if file.exists() else None
    if backup is not None:
        note = "the old one is kept beside it"
        return format_command("cp", "--preserve", "--backup=numbered", backup, file, note=note)
    note = "restore a newer backup. Without one, this sets the unlisted files aside; add --yes to do it"
    return suggest_oncall("quarantine", here=store.location_flags, note=note)


def _find_lock_holder(store: LocalRunStore) -> str:
    """Return the run that holds the lock."""
    if not store.is_locked:
        return ""
    for record in store.read_records():
        if record.get_state(locked=True) is RunState.RUNNING:
            return f"held by run {record.run_id}, process {record.pid} on {record.host}"
    return "held, but by no run on record: one may be starting, or gc works"


def _check_database(store: LocalRunStore) -> Iterator[Finding]:
    try:
        store.root.database.check(whole=True)
    except RunRootError as error:
        yield Finding("database", str(error), _get_remedy(store, error))


def _get_remedy(store: LocalRunStore, error: RunRootError) -> str:
    match error:
        case DatabaseError(fault=DatabaseFault.UNFINISHED):
            return suggest_oncall("resume", "latest", here=store.location_flags)
        case DatabaseError(fault=DatabaseFault.OTHER_RELEASE):
            note = "the revision that used it last; check it out, or restore a backup from before. Nothing is damaged"
            return suggest_oncall("show", "latest", here=store.location_flags, note=note)
        case _:
            return store.root.database.suggest_remedy(error)


def _check_runs(store: LocalRunStore) -> Iterator[Finding]:
    """Yield damaged records, crashed runs that no later run has made good, active ones that are stuck, wrong clocks."""
    made_good = False
    for run_id in store.record_ids:
        run = store.get_run(run_id)
        if run.record is None:
            message, record = store.damaged_records.get(run_id, run_id), store.root.locate_record(run_id)
            todo = format_command("mv", "-nT", record, f"{record}.damaged", note="ML Metadata still has the run")
            yield Finding("record", message, todo)
        elif run.state is RunState.RUNNING:
            activity = store.describe_activity(run.record)
            if activity.problem:
                yield Finding("run", f"{run_id} RUNNING: {activity}", activity.todo)
        elif run.state is RunState.CRASHED and not made_good:
            todo = suggest_resume(run.record, store.location_flags)
            newer = store.describe_newer_champion(run.record)
            if newer:
                todo = suggest_oncall(
                    "check", here=store.location_flags, note=f"leave it: `resume` would replace {newer}"
                )
            yield Finding("run", f"{run_id} CRASHED: {explain_state(run.record, run.state)}", todo)
        made_good = made_good or run.state in (RunState.SUCCEEDED, RunState.CACHED)
    conflicts = find_clock_conflicts(islice(store.read_records(), _MAX_CLOCK_RUNS), time.time())
    for conflict in conflicts[:1]:
        yield Finding(
            "clock", str(conflict), format_command("date", "-u", note="compare it with the clock of that host")
        )


def _check_disk(store: LocalRunStore) -> Iterator[Finding]:
    usage = shutil.disk_usage(store.root.path)
    if usage.free < _MIN_FREE_BYTES:
        yield from describe_full_disk(store, usage)


def _check_artifacts(store: LocalRunStore, metadata: LocalMetadata) -> Iterator[Finding]:
    """Yield artifacts without files, and files without artifacts."""
    if store.binding_error:
        # `_check_binding` reports it; what an older database, or another's, does not list is not garbage.
        return
    live = [artifact for artifact in metadata.get_all_artifacts() if artifact.is_live]
    earlier = find_earlier_root(store.root.artifacts, (artifact.uri for artifact in live))
    if earlier is not None:
        # Otherwise every artifact would be missing, and every folder an orphan.
        message = describe_earlier_root(store.root.path, earlier)
        yield Finding("moved", message, _describe_way_back(store, earlier))
        return
    if live and not store.root.artifacts.is_dir():
        todo = format_command("ls", "-ld", store.root.artifacts, note="no artifact is garbage until it is there again")
        yield Finding("missing", f"{store.root.artifacts}: {NOT_THERE}", todo)
        return
    # All runs keep what they have.
    note = "the next run makes it again; add --yes to mark it as deleted"
    todo = suggest_oncall("gc", "--keep-last", max(1, len(store.run_ids)), here=store.location_flags, note=note)
    for artifact in live:
        if is_missing(artifact.uri):
            yield Finding("missing", f"{artifact.type} {artifact.id}: {artifact.uri} is gone", todo)
    quarantine = suggest_oncall("quarantine", here=store.location_flags, note="moves it aside; add --yes to do it")
    for folder in find_unused_folders(store):
        if folder.state in ("RUNNING", "FAILED"):
            todo = "the next run, or `resume`, removes it" if folder.state == "RUNNING" else quarantine
            message = f"{folder.path}: left by execution {folder.execution}, which is {folder.state}"
            yield Finding("partial", message, todo)
        else:
            yield Finding("orphan", f"{folder.path}: holds no live artifact", quarantine)


def _describe_way_back(store: LocalRunStore, earlier: Path) -> str:
    if is_same_folder(store.root.path, earlier):
        return suggest_oncall("doctor", here=format_flags(run_root=earlier), note="the path that the runs were given")
    if earlier.is_symlink():
        return format_command(
            "ls", "-ld", earlier, note="the runs here were given this link, which leads elsewhere now"
        )
    if is_run_root(earlier):
        return suggest_oncall(
            "doctor", here=format_flags(run_root=earlier), note=f"a copy of {earlier}: use that one; move nothing"
        )
    return format_command("mv", "-nT", store.root.path, earlier, note="back to where it was")


def _check_registry(store: LocalRunStore, folder: Path | None, model: str | None) -> Iterator[Finding]:
    try:
        registry = store.find_registry_if_any(folder, model)
        if registry is None:
            return
        command_flags = store.location_flags + format_flags(registry=folder, model=model)
        yield from _check_versions(registry, LocalModelVersions(registry, store.location_flags, command_flags))
        try:
            registry.check_writable()
        except RegistryFileError as error:
            yield Finding("registry", str(error), _get_registry_remedy(error))
    except ConfigError:
        raise
    except LostRegistryError as error:
        todo = suggest_oncall(
            "resume", error.run_id, here=store.location_flags, note="pushes its model again, as version 1"
        )
        yield Finding("registry", str(error), f"restore it from a backup; or {todo}")
        return
    except RegistryFileError as error:
        yield Finding("registry", str(error), _get_registry_remedy(error))
        return
    for pattern in _UNFINISHED_FOLDERS if registry.folder.is_dir() else ():
        for path in sorted(registry.folder.glob(pattern)):
            yield Finding("registry", f"{path}: a push or a gc was cut off", "the next push removes it")


def _get_registry_remedy(error: RegistryFileError) -> str:
    """Return the command for a registry that cannot be read or written."""
    match error.fault:
        case RegistryFault.DAMAGED:
            note = "the version that is named serves then"
            away = format_command("mv", "-nT", error.path, f"{error.path}.damaged", note=note)
            return f"restore {error.path} from a backup; or {away}"
        case RegistryFault.MOUNTED_READ_ONLY:
            return format_command(
                "findmnt", "-T", error.path, note="how it is mounted; the serving version is unchanged"
            )
        case RegistryFault.DENIED | RegistryFault.UNREADABLE:
            return show_rights(error.path)
        case _:
            assert_never(error.fault)


def _check_versions(registry: LocalRegistry, model_versions: LocalModelVersions) -> Iterator[Finding]:
    """Yield the versions that no push explains, that were cut off, or whose files changed."""
    unexplained = model_versions.list_unexplained()
    for version, reason in unexplained.items():
        message = f"{registry.find_folder(version)}: was not pushed: {reason}. Nothing serves it"
        yield Finding("registry", message, model_versions.quarantine_command)
    conflict = model_versions.find_conflict()
    if conflict is not None:
        message, todo = conflict
        yield Finding("registry", f"{registry.folder}: {message}", todo)
    ledger = registry.read_ledger()
    for version in sorted({*registry.list_numbers(), *ledger.states} - unexplained.keys()):
        path = registry.find_folder(version)
        try:
            is_cut_off = version not in ledger.states and registry.read_release(version) is not None
            is_intact = version not in ledger.states or (path.is_dir() and registry.is_intact(version))
            changed = [] if is_intact else registry.list_differing_files(version)
        except RegistryFileError as error:
            is_denied = error.fault is RegistryFault.DENIED
            todo = (
                show_rights(error.path) if is_denied else _describe_version_restore(model_versions, version, error.path)
            )
            yield Finding("registry", f"{error} ({ledger.states.get(version, 'cut off')})", todo)
            continue
        if is_cut_off:
            message = f"{path}: its push was cut off after the copy"
            yield Finding("registry", message, "run the pipeline again: the next push finishes or retires it")
        if not is_intact:
            difference = ", ".join(changed) or "they are gone"
            message = f"{path}: {ledger.states[version]}, and not the files that were pushed: {difference}"
            yield Finding("registry", message, _describe_version_restore(model_versions, version, path))


def _describe_version_restore(model_versions: LocalModelVersions, version: int, path: Path) -> str:
    is_champion = version == model_versions.champion
    return f"restore {path}; or {model_versions.rollback_command if is_champion else 'leave it: nothing serves it'}"
