"""`gc`: removes the artifacts of old runs, but keeps those of kept runs, registered versions and the next run."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cli.counts import format_count
from cli.errors import RunRootError
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY, PushRecord, select_writers
from oncall.local.artifact_folders import (
    NOT_THERE,
    describe_earlier_root,
    find_earlier_root,
    get_execution_folder,
    is_missing,
    measure_folder,
)
from oncall.local.metadata import LocalMetadata
from oncall.local.quarantine import QUARANTINE, REGISTRY_QUARANTINE
from oncall.local.run_store import LocalRunStore
from oncall.metadata import Artifact, Id
from oncall.provenance import collect_ancestors
from oncall.results import CommandResult
from oncall.text_format import format_bytes
from serving.registry import LocalRegistry

# The next run's baseline is the last blessed model, or the one before if the last is the next run's own.
_MAX_BLESSED = 2


@dataclass(frozen=True)
class RemovalPlan:
    """The artifacts to remove.

    Attributes:
      artifacts: artifacts of runs that are not kept.
      gone: artifacts of any run whose files are missing already; they are only marked.
      folders: folders of `artifacts`, with their bytes.
      kept_runs: runs that keep all they made or used.
    """

    artifacts: list[Artifact]
    gone: list[Artifact]
    folders: dict[Path, int]
    kept_runs: list[str]


def collect_garbage(
    store: LocalRunStore, *, keep_last: int, keep_pushed: bool, yes: bool, folder: Path | None, model: str | None
) -> CommandResult:
    """Remove the artifacts of old runs, or without `yes` only list them.

    Raises:
      PushError: the registry, whose versions keep what they were made from, cannot be read.
      RunRootError: a run holds the run root, or its database cannot be read.
    """
    registry = store.find_registry_if_any(folder, model) if keep_pushed else None
    if store.binding_error:
        raise RunRootError(f"{store.binding_error}; nothing was removed")
    if store.is_locked:
        raise RunRootError(f"{store.root.path}: a run is using it; wait for its end; `doctor` shows which it is")
    if not yes:
        return _report_plan(plan_removal(store, store.metadata, keep_last, registry), [], yes=False)
    with store.root.lock_for_removal() as database:
        metadata = LocalMetadata(database, writable=True)
        plan = plan_removal(store, metadata, keep_last, registry)
        # First, so that no run resolves to a half removed artifact; `doctor` finds the rest after a crash.
        metadata.mark_deleted([*plan.artifacts, *plan.gone])
        left = [path for path in plan.folders if not _remove_folder(path)]
    return _report_plan(plan, left, yes=True)


def _remove_folder(folder: Path) -> bool:
    """Remove a folder; return False if that fails."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def plan_removal(
    store: LocalRunStore, metadata: LocalMetadata, keep_last: int, registry: LocalRegistry | None
) -> RemovalPlan:
    """Return the artifacts that can be removed.

    Args:
      store: runs.
      metadata: ML Metadata of the runs.
      keep_last: number of runs that keep all they made or used; so does the last one that succeeded.
      registry: registry whose versions keep all they were made from.
    """
    good = store.find_last_success(None)
    runs = list(dict.fromkeys([*store.run_ids[:keep_last], *([good] if good else [])]))
    kept = {*_find_of_runs(metadata, runs), *_find_next_baseline(metadata), *_find_next_history(metadata)}
    if registry is not None:
        kept |= _find_of_versions(metadata, registry)
    all_live = [artifact for artifact in metadata.get_all_artifacts() if artifact.is_live]
    root = store.root.artifacts
    earlier = find_earlier_root(root, (artifact.uri for artifact in all_live))
    if earlier is not None:
        raise RunRootError(f"{describe_earlier_root(store.root.path, earlier)}; nothing was removed")
    if all_live and not root.is_dir():
        raise RunRootError(f"{root}: {NOT_THERE}; nothing was removed")
    gone = [artifact for artifact in all_live if is_missing(artifact.uri)]
    gone_ids = {artifact.id for artifact in gone}
    live = [artifact for artifact in all_live if artifact.id not in gone_ids]
    places = {artifact.id: get_execution_folder(root, artifact.uri) for artifact in live}
    used = {places[artifact.id] for artifact in live if artifact.id in kept}
    removable = [a for a in live if a.id not in kept and places[a.id] is not None and places[a.id] not in used]
    folders = sorted({place for a in removable if (place := places[a.id]) is not None})
    # `quarantine` has set them aside, and printed the way back.
    folders += sorted(path for path in (store.root.path / QUARANTINE).glob("*") if path.is_dir())
    if registry is not None:
        folders += sorted(path for path in (registry.folder / REGISTRY_QUARANTINE).glob("*") if path.is_dir())
    return RemovalPlan(removable, gone, {path: measure_folder(path) for path in folders}, runs)


def _find_of_runs(metadata: LocalMetadata, runs: Iterable[str]) -> set[Id]:
    """Return the artifacts that runs made, reused from the cache or read."""
    return {artifact.id for run_id in runs for artifact in metadata.get_run_artifacts(run_id)}


def _find_next_baseline(metadata: LocalMetadata) -> set[Id]:
    """Return the last blessed models with their blessings."""
    kept: set[Id] = set()
    models: list[Id] = []
    for blessing in reversed(metadata.get_artifacts_by_type("ModelBlessing")):
        model_id = blessing.properties.get("current_model_id")
        if blessing.properties.get("blessed") != 1 or model_id is None or not blessing.is_live:
            continue
        if model_id not in models:
            if len(models) == _MAX_BLESSED:
                break
            models.append(model_id)
        kept |= {blessing.id, model_id}
    return kept


def _find_next_history(metadata: LocalMetadata) -> set[Id]:
    """Return the artifacts that the next run measures drift from.

    They are the last push of each model that wrote a version, and the statistics of its run.
    """
    pushes = metadata.get_artifacts_by_type("PushedModel")
    last: dict[str, Id] = {}
    for push in select_writers(_read_push(artifact) for artifact in pushes):
        last.setdefault(push.model, push.id)
    kept: set[Id] = set()
    for id_ in last.values():
        maker = metadata.find_makers([id_]).get(id_)
        of_run = metadata.get_run_artifacts(metadata.get_run_and_node(maker.id)[0]) if maker is not None else []
        kept |= {id_, *(artifact.id for artifact in of_run if artifact.type == "ExampleStatistics")}
    return kept


def _read_push(artifact: Artifact) -> PushRecord:
    properties = artifact.properties
    return PushRecord(artifact.id, properties.get(PUSHED_PROPERTY) == 1, str(properties.get(DESTINATION_PROPERTY, "")))


def _find_of_versions(metadata: LocalMetadata, registry: LocalRegistry) -> set[Id]:
    """Return the artifacts that registered versions were made from, and the verdicts on them."""
    kept: set[Id] = set()
    for version in registry.list_numbers():
        release = registry.read_release(version)
        if release is None:
            continue
        kept |= set(collect_ancestors(metadata, release.model_id))
        users = [
            event.execution_id
            for event in metadata.get_artifact_events([release.model_id])
            if not event.is_output and event.key == "model"
        ]
        kept |= {event.artifact_id for event in metadata.get_execution_events(users)}
    return kept


def _report_plan(plan: RemovalPlan, left: list[Path], *, yes: bool) -> CommandResult:
    total = sum(plan.folders.values())
    has_work = bool(plan.artifacts or plan.gone or plan.folders)
    document = {
        "changed": yes and has_work,
        "artifacts": [artifact.id for artifact in plan.artifacts],
        "gone": [artifact.id for artifact in plan.gone],
        "folders": {str(path): size for path, size in plan.folders.items()},
        "bytes": total,
        "kept_runs": plan.kept_runs,
        "not_removed": [str(path) for path in left],
    }
    verb = "removed" if yes else "would remove"
    hint = "; add --yes to do it" if has_work and not yes else ""
    lines = [
        f"{verb} {format_count(len(plan.artifacts), 'artifact')} in {format_count(len(plan.folders), 'folder')}, "
        f"{total:,} bytes ({format_bytes(total)}); runs that keep all: {len(plan.kept_runs)}{hint}"
    ]
    if plan.gone:
        verb = "marked" if yes else "would mark"
        lines.append(f"{verb} {format_count(len(plan.gone), 'artifact')} as deleted whose files were gone")
    lines += [f"could not be removed, and is an orphan now: {path}" for path in left]
    largest = sorted(plan.folders.items(), key=lambda item: -item[1])
    lines += [f"{format_bytes(size):>12}  {path}" for path, size in largest]
    return CommandResult(document, lines, 1 if left else 0)
