"""The contents of a full disk by size, and the command that frees most."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.errors import PushError, RunRootError
from cli.terminal import format_command, format_flags
from oncall.findings import Finding
from oncall.local.artifact_folders import measure_folder
from oncall.local.garbage_collection import plan_removal
from oncall.local.run_store import LocalRunStore
from oncall.text_format import format_bytes
from pipeline.run.advice import suggest_oncall

_KEPT_RUNS = 1
_KEPT_VERSIONS = 2
_MAX_SHOWN_PARTS = 6


def describe_full_disk(store: LocalRunStore, usage: Any) -> Iterator[Finding]:
    """Yield the finding of a full disk: its parts by size, and what frees most.

    Args:
      store: runs of the run root.
      usage: result of `shutil.disk_usage`.
    """
    sizes = dict(sorted(_measure_parts(store).items(), key=lambda item: -item[1]))
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in list(sizes.items())[:_MAX_SHOWN_PARTS] if size)
    mount = _find_mount(store.root.path)
    outside = max(usage.used - sum(sizes.values()), 0)
    ways = {todo: size for todo, size in _list_ways(store).items() if size}
    best = max(ways, key=lambda todo: ways[todo], default="")
    if outside > 10 * ways.get(best, 0):
        note = f"{format_bytes(outside)} of {mount} are not this run root's"
        best = format_command("du", "-xh", "--max-depth=2", "--threshold=100M", mount, note=note)
    message = (
        f"{store.root.path}: {format_bytes(usage.free)} are free. The run root has {parts}; other files on {mount} "
        f"have {format_bytes(outside)}"
    )
    yield Finding("disk", message, best)


def _measure_parts(store: LocalRunStore) -> dict[str, int]:
    """Return the bytes of each part of the run root by its path in it; of artifacts by node."""
    sizes: dict[str, int] = {}
    for path in store.root.path.iterdir():
        if path == store.root.artifacts:
            sizes |= {f"artifacts/{node.name}": measure_folder(node) for node in path.iterdir() if node.is_dir()}
        elif path.is_dir():
            sizes[path.name] = measure_folder(path)
        elif path.is_file():
            sizes[path.name] = path.lstat().st_size
    return sizes


def _list_ways(store: LocalRunStore) -> dict[str, int]:
    """Return the commands that free space, each with the bytes that it frees."""
    ways: dict[str, int] = {}
    try:
        registry = store.find_registry_if_any(None, None)
        if registry is not None:
            versions = registry.gc(keep_last=_KEPT_VERSIONS, dry_run=True).versions
            freed = sum(measure_folder(registry.find_folder(version)) for version in versions)
            place = format_flags(registry=registry.folder.parent, model=registry.name)
            ways[_format_registry_gc(place, freed)] = freed
        freed = sum(plan_removal(store, store.metadata, _KEPT_RUNS, registry).folders.values())
        note = f"frees {format_bytes(freed)}; add --yes to do it"
        ways[suggest_oncall("gc", "--keep-last", _KEPT_RUNS, here=store.location_flags, note=note)] = freed
    except (PushError, RunRootError):
        # The finding of the registry, or of the database, reports it.
        pass
    return ways


def _format_registry_gc(place: str, freed: int) -> str:
    line = format_command("python", "-m", "serving.registry", "gc", "--keep-last", _KEPT_VERSIONS) + place
    return f"{line}    # frees {format_bytes(freed)}; add --yes to do it"


def _find_mount(folder: Path) -> Path:
    path = folder
    while not os.path.ismount(path):
        path = path.parent
    return path
