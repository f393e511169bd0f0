"""`gc`: removes the artifacts of old runs, but nothing that a kept run, a registered version or the next run needs."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cli.errors import RunRootError
from components.pusher.last_push import DESTINATION_PROPERTY, PUSHED_PROPERTY, Push, writers
from oncall.evidence import Evidence
from oncall.folders import MOVED, execution_folder, is_gone, moved_from, size
from oncall.graph import Artifact, Id, key, properties
from oncall.metadata import Metadata
from oncall.provenance import ancestors
from oncall.releases import registry_of
from oncall.terminal import Answer, volume
from oncall.why import last_good
from serving.registry import LocalRegistry

# The next run's baseline is the last blessed model, or the one before, if the last is the next run's own.
_KEPT_BLESSED = 2
_AFTER_ALL_RUNS = "~"


@dataclass(frozen=True)
class Plan:
    """What may go.

    Attributes:
      artifacts: artifacts of runs that are not kept.
      gone: those whose files somebody has removed already, whoever used them; they are only marked.
      folders: of `artifacts`, with their bytes.
      kept_runs: keep all that they made or used.
    """

    artifacts: list[Artifact]
    gone: list[Artifact]
    folders: dict[Path, int]
    kept_runs: list[str]


def gc(
    evidence: Evidence, *, keep_last: int, keep_pushed: bool, yes: bool, folder: Path | None, model: str | None
) -> Answer:
    """Remove, or say what it would remove.

    Raises:
      RunRootError: a run holds the run root, or its database cannot be read.
    """
    registry = registry_of(evidence, folder, model) if keep_pushed else None
    if evidence.is_locked:
        raise RunRootError(f"{evidence.root.path}: a run is using it; wait for its end, or ask `doctor` which")
    if not yes:
        return _answer(plan(evidence, evidence.metadata, keep_last, registry), [], yes=False)
    with evidence.root.locked() as database:
        metadata = Metadata(database, writable=True)
        chosen = plan(evidence, metadata, keep_last, registry)
        # First, so that no run resolves to what is half removed; `doctor` finds what a crash leaves.
        metadata.forget([*chosen.artifacts, *chosen.gone])
        left = [path for path in chosen.folders if not _removed(path)]
    return _answer(chosen, left, yes=True)


def _removed(folder: Path) -> bool:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def plan(evidence: Evidence, metadata: Metadata, keep_last: int, registry: LocalRegistry | None) -> Plan:
    """Return what may be removed.

    Args:
      evidence: the run root.
      metadata: its ML Metadata.
      keep_last: so many runs keep all they made or used; so does the last one that succeeded.
      registry: whose versions keep all they were made from.
    """
    good = last_good(evidence, _AFTER_ALL_RUNS)
    runs = sorted({*evidence.run_ids[:keep_last], *([good] if good else [])}, reverse=True)
    kept = {*_of_runs(metadata, runs), *_next_baseline(metadata), *_next_history(metadata)}
    if registry is not None:
        kept |= _of_versions(metadata, registry)
    all_live = [artifact for artifact in metadata.all_artifacts() if metadata.is_live(artifact)]
    before = moved_from(evidence.root.artifacts, (artifact.uri for artifact in all_live))
    if before is not None:
        raise RunRootError(f"{evidence.root.path}: {MOVED.format(before)}; nothing was removed")
    gone = [artifact for artifact in all_live if is_gone(artifact.uri)]
    missing = {artifact.id for artifact in gone}
    live = [artifact for artifact in all_live if artifact.id not in missing]
    root = evidence.root.artifacts
    places = {artifact.id: execution_folder(root, artifact.uri) for artifact in live}
    used = {places[artifact.id] for artifact in live if artifact.id in kept}
    doomed = [a for a in live if a.id not in kept and places[a.id] is not None and places[a.id] not in used]
    folders = sorted({place for a in doomed if (place := places[a.id]) is not None})
    return Plan(doomed, gone, {path: size(path) for path in folders}, runs)


def _of_runs(metadata: Metadata, runs: Iterable[str]) -> set[Id]:
    """All that runs made, took from the cache, were given, or read."""
    return {artifact.id for run_id in runs for artifact in metadata.artifacts_of_run(run_id)}


def _next_baseline(metadata: Metadata) -> set[Id]:
    """Return the last blessed models with their blessings."""
    kept: set[Id] = set()
    models: list[Id] = []
    for blessing in reversed(metadata.artifacts_of_type("ModelBlessing")):
        known = properties(blessing)
        model_id = known.get("current_model_id")
        if known.get("blessed") != 1 or model_id is None or not metadata.is_live(blessing):
            continue
        if model_id not in models:
            if len(models) == _KEPT_BLESSED:
                break
            models.append(model_id)
        kept |= {blessing.id, model_id}
    return kept


def _next_history(metadata: Metadata) -> set[Id]:
    """Return what drift is counted from: the last push of each model that wrote a version, and the statistics of its
    run.
    """
    pushes = {artifact.id: artifact for artifact in metadata.artifacts_of_type("PushedModel")}
    last: dict[str, Id] = {}
    for push in writers(_push(artifact) for artifact in pushes.values()):
        last.setdefault(push.model, push.id)
    kept: set[Id] = set()
    for id_ in last.values():
        maker = metadata.makers([id_]).get(id_)
        of_run = metadata.artifacts_of_run(metadata.place(maker.id)[0]) if maker is not None else []
        kept |= {id_, *(a.id for a in of_run if a.type == "ExampleStatistics")}
    return kept


def _push(artifact: Artifact) -> Push:
    known = properties(artifact)
    return Push(artifact.id, known.get(PUSHED_PROPERTY) == 1, str(known.get(DESTINATION_PROPERTY, "")))


def _of_versions(metadata: Metadata, registry: LocalRegistry) -> set[Id]:
    """Return what registered versions were made from, and what judged them."""
    kept: set[Id] = set()
    for version in registry.numbers():
        release = registry.release(version)
        if release is None:
            continue
        kept |= set(ancestors(metadata, release.model_id))
        users = [
            event.execution_id
            for event in metadata.events_of_artifacts([release.model_id])
            if metadata.is_input(event) and key(event) == "model"
        ]
        kept |= {event.artifact_id for event in metadata.events_of_executions(users)}
    return kept


def _answer(chosen: Plan, left: list[Path], *, yes: bool) -> Answer:
    total = sum(chosen.folders.values())
    document = {
        "changed": yes and bool(chosen.artifacts or chosen.gone),
        "artifacts": [artifact.id for artifact in chosen.artifacts],
        "gone": [artifact.id for artifact in chosen.gone],
        "folders": {str(path): number for path, number in chosen.folders.items()},
        "bytes": total,
        "kept_runs": chosen.kept_runs,
        "not_removed": [str(path) for path in left],
    }
    shown = [f"{volume(number):>12}  {path}" for path, number in chosen.folders.items()]
    done = "removed" if yes else "would remove"
    more = "" if yes or not (chosen.artifacts or chosen.gone) else "; add --yes to do it"
    shown.append(
        f"{done} {len(chosen.artifacts)} artifacts in {len(chosen.folders)} folders, {total:,} bytes "
        f"({volume(total)}); runs that keep all: {len(chosen.kept_runs)}{more}"
    )
    if chosen.gone:
        marked = "marked" if yes else "would mark"
        shown.append(f"{marked} {len(chosen.gone)} artifacts as deleted whose files were gone")
    shown += [f"could not be removed, and is an orphan now: {path}" for path in left]
    return Answer(document, shown, 1 if left else 0)
