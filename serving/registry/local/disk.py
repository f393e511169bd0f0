"""Atomic changes on disk: a reader, or a machine that restarts, sees the old or the new, and never half of it."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cli.errors import PushError
from cli.state_files import flush_folder, write_atomically
from serving.registry.content import RELEASE_FILE, VERSION_FILE, Release, compute_content_hash

UNFINISHED_PREFIX = ".unfinished-"
DELETED_PREFIX = ".deleted-"


def write_version(source: Path, target: Path, release: Release, extra: Mapping[str, bytes]) -> None:
    """Copy a SavedModel and what goes beside it; `target` appears whole or not at all.

    Raises:
      PushError: the source changed meanwhile.
      OSError: it cannot be read, or the copy cannot be written.
    """
    unfinished = target.with_name(f"{UNFINISHED_PREFIX}{target.name}")
    beside = {**extra, RELEASE_FILE: release.to_json().encode()}
    if (source / VERSION_FILE).is_file():
        beside[VERSION_FILE] = f"{target.name}\n".encode()
    try:
        shutil.copytree(source, unfinished)
        for name, content in beside.items():
            _replace_file(unfinished / name, content)
        if compute_content_hash(unfinished) != release.content_hash:
            raise PushError(f"{source}: changed while it was copied; nothing was pushed")
        _flush(unfinished)
        os.rename(unfinished, target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    flush_folder(target.parent)


def _replace_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A copy has the permissions of its source, which may be read-only.
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def write_if_changed(path: Path, text: str) -> None:
    """Replace a small file in one step, unless it has this content already; for the holder of the lock."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    write_atomically(path, content, durable=True)


def hide(version: Path) -> Path:
    """Move a version's folder out of sight in one step; return its place until it is removed."""
    hidden = version.with_name(f"{DELETED_PREFIX}{version.name}")
    os.rename(version, hidden)
    flush_folder(version.parent)
    return hidden


def remove_leftovers(folder: Path) -> None:
    """Remove what was cut off: copies that were not finished, deletions that were not. For the holder of the lock."""
    for path in folder.iterdir():
        if path.name.startswith((UNFINISHED_PREFIX, DELETED_PREFIX)):
            shutil.rmtree(path, ignore_errors=True)


def describe_error(error: OSError) -> str:
    """Return what went wrong, in a few words."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        # One (source, target, text) for each file that was not copied.
        return str(error.args[0][0][2])
    return error.strerror or str(error)


def _flush(folder: Path) -> None:
    """Wait until all files and folders below are on disk."""
    for path, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(path))
