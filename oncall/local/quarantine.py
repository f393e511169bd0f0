"""`quarantine`: moves aside what no artifact and no push explains, with the way back. It deletes nothing."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cli.counts import format_count
from cli.errors import RunRootError
from cli.state_files import write_atomically
from cli.terminal import format_command
from oncall.local.artifact_folders import (
    describe_earlier_root,
    find_earlier_root,
    get_execution_folder,
    list_execution_folders,
    measure_folder,
)
from oncall.local.model_versions import LocalModelVersions
from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult
from oncall.text_format import format_bytes

QUARANTINE = "quarantine"
# In a model's folder. Neither this product's server nor TF Serving reads names that are no numbers.
REGISTRY_QUARANTINE = ".quarantine"
_UNDO = "undo.sh"


@dataclass(frozen=True)
class UnusedFolder:
    """A folder of an execution that no live artifact is in; `state` is the execution's, empty if it is unknown."""

    path: Path
    execution: int
    state: str


def find_unused_folders(store: LocalRunStore) -> Iterator[UnusedFolder]:
    """Yield the folders of executions that no live artifact is in.

    Raises:
      RunRootError: the database cannot be read, or is not that of the run root, so that it explains nothing.
    """
    metadata = store.metadata
    live = [artifact for artifact in metadata.get_all_artifacts() if artifact.is_live]
    root = store.root.artifacts
    earlier = find_earlier_root(root, (artifact.uri for artifact in live))
    if earlier is not None:
        # Otherwise every folder would be unused.
        raise RunRootError(describe_earlier_root(store.root.path, earlier))
    used = {get_execution_folder(root, artifact.uri) for artifact in live}
    unused: dict[int, list[Path]] = {}
    for path in list_execution_folders(root):
        # TFX removes the output of a failed execution, but not always its folder.
        if path not in used and any(path.iterdir()):
            unused.setdefault(int(path.name), []).append(path)
    executions = metadata.get_executions(unused)
    last = store.root.database.read_contents(writable=False).last_execution
    for number, paths in sorted(unused.items()):
        state = executions[number].state if number in executions else ""
        if state == "RUNNING" and store.is_locked:
            continue
        if store.binding_error and number <= last:
            # An older database: what it lists may be another execution's since.
            continue
        yield from (UnusedFolder(path, number, state) for path in paths)


def quarantine_files(store: LocalRunStore, folder: Path | None, model: str | None, *, yes: bool) -> CommandResult:
    """Move unused folders and unexplained versions aside; without `yes` only list them.

    Raises:
      PushError: the registry cannot be read.
      RunRootError: a run holds the run root, or nothing can be judged: the database cannot be read, or it is a copy.
    """
    if store.is_locked:
        raise RunRootError(f"{store.root.path}: a run is using it; wait for its end; `doctor` shows which it is")
    stamp = time.strftime("%Y%m%dT%H%M%S")
    moves = dict(_plan_artifacts(store, store.root.path / QUARANTINE / stamp))
    registry = store.find_registry_if_any(folder, model)
    if registry is not None:
        numbers = LocalModelVersions(registry, "", "").list_unexplained()
        moves |= {registry.find_folder(n): registry.folder / REGISTRY_QUARANTINE / stamp / str(n) for n in numbers}
    sizes = {path: measure_folder(path) for path in moves}
    document = {"changed": bool(yes and moves), "moved": {str(a): str(b) for a, b in moves.items()}, "undo": ""}
    if not moves:
        return CommandResult(document, ["nothing to do: each folder has an artifact, and each version a push"])
    lines = [f"{format_bytes(size):>12}  {path}" for path, size in sizes.items()]
    if not yes:
        return CommandResult(
            document, [f"would move {format_count(len(moves), 'folder')} aside; add --yes to do it", *lines]
        )
    undo = store.root.path / QUARANTINE / stamp / _UNDO
    with store.root.hold("--run-root"):
        undo.parent.mkdir(parents=True, exist_ok=True)
        # First, so that a move that is cut off can be taken back.
        write_atomically(undo, "".join(f"{format_command('mv', '-nT', moves[path], path)}\n" for path in moves))
        for path, target in moves.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            _move(path, target)
    document["undo"] = format_command("sh", undo)
    return CommandResult(
        document, [f"moved {format_count(len(moves), 'folder')} aside", f"undo       {document['undo']}", *lines]
    )


def _move(path: Path, target: Path) -> None:
    try:
        os.rename(path, target)
    except OSError:
        # Another file system.
        shutil.move(path, target)


def _plan_artifacts(store: LocalRunStore, target: Path) -> Iterator[tuple[Path, Path]]:
    try:
        unused = list(find_unused_folders(store))
    except RunRootError:
        if store.original is None:
            raise
        # The copy's folders are judged by the original's database: none can be.
        return
    for folder in unused:
        yield folder.path, target / folder.path.relative_to(store.root.path)
