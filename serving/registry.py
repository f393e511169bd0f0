"""A local model registry: a folder of versions that TF Serving can read, written atomically.

    REGISTRY/MODEL_NAME/1/saved_model.pb
                         1/assets.extra/release.json    who pushed it, from which run, its content hash
                         2/...

A version appears whole or not at all: it is written beside, flushed to disk, and renamed. Readers need no lock: the
highest number is what serves. Imports no TensorFlow.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from schemas.errors import PushError
from serving.files import RELEASE_FILE, WRITTEN_BY_PUSH

LOCK_FILE = ".lock"
_UNFINISHED_PREFIX = ".unfinished-"
_LOCK_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Release:
    """What is written beside each version.

    Attributes:
      pipeline: the name of the pipeline that owns the model's name.
      run_id: of the run that pushed the version.
      model_id: of the Model artifact in ML Metadata.
      content_hash: of the SavedModel's files.
    """

    pipeline: str
    run_id: str
    model_id: int
    content_hash: str


@dataclass(frozen=True)
class PushResult:
    """Where a model is served from, and whether this push put it there."""

    version: int
    path: str
    pushed: bool


def content_hash(folder: Path) -> str:
    """SHA-256 over the relative paths and contents of all files but those that a push writes."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in WRITTEN_BY_PUSH:
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_release(folder: Path) -> Release | None:
    """What a push wrote into a version's folder; None where another tool wrote the version.

    Raises:
      PushError: it is damaged.
    """
    try:
        return Release(**json.loads((folder / RELEASE_FILE).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise PushError(f"{folder}/{RELEASE_FILE}: is damaged ({error}); restore or remove it") from error


class Registry:
    """The versions of one model name."""

    def __init__(self, folder: str | Path, model_name: str) -> None:
        self.folder = Path(folder) / model_name

    def versions(self) -> list[int]:
        """All complete versions, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal() and p.is_dir())

    def release(self, version: int) -> Release | None:
        """What is known of a version; None where another tool wrote it."""
        return read_release(self.folder / str(version))

    def labels(self) -> dict[str, int]:
        return {}

    def check(self, *, pipeline: str, version: int | None) -> None:
        """Refuses a push that could not succeed, before anything is done for it.

        Args:
          pipeline: the pipeline that would push.
          version: the version it asks for, or None for the next.

        Raises:
          PushError: a folder is taken by a file or not writable; the name belongs to another pipeline; or the version
            exists already.
        """
        for path in (*reversed(self.folder.parents), self.folder):
            if path.exists() and not path.is_dir():
                raise PushError(
                    f"{path}: is a file; expected the registry's folder. Move the file, or set push.registry"
                )
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PushError(
                f"{self.folder}: cannot be written: no permission on {existing}. Grant it, or set push.registry"
            )
        self._check_owner(pipeline)
        if version is not None and version in self.versions():
            owner = self.release(version)
            holder = f"run {owner.run_id}" if owner else "another tool"
            raise PushError(
                f"{self.folder}: version {version} exists already, pushed by {holder}; it is never overwritten. Leave "
                f"out push.version to push as {max(self.versions()) + 1}"
            )

    def _check_owner(self, pipeline: str) -> None:
        for version in reversed(self.versions()):
            release = self.release(version)
            if release is None or release.pipeline != pipeline:
                owner = f"the pipeline '{release.pipeline}'" if release else "another tool"
                raise PushError(
                    f"{self.folder}: the name is taken: version {version} was written by {owner}, not by '{pipeline}'. "
                    "Choose another push.model_name or push.registry"
                )

    def push(self, source: str | Path, *, pipeline: str, run_id: str, model_id: int, version: int | None) -> PushResult:
        """Copies a SavedModel in as a new version; does nothing if the served version is the same, byte for byte.

        Raises:
          PushError: as `check`; or the source is not a SavedModel; or another push holds the lock too long.
        """
        source = Path(source)
        if not (source / "saved_model.pb").is_file():
            raise PushError(f"{source}: is not a SavedModel (no saved_model.pb); nothing was pushed")
        try:
            # Checked before the folder is made, and again under the lock.
            self.check(pipeline=pipeline, version=None)
            self.folder.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.folder / LOCK_FILE, timeout=_LOCK_TIMEOUT_SECONDS):
                return self._push_locked(source, pipeline=pipeline, run_id=run_id, model_id=model_id, version=version)
        except filelock.Timeout as error:
            raise PushError(
                f"{self.folder}: another push has held the lock for {_LOCK_TIMEOUT_SECONDS} s; try again"
            ) from error
        except OSError as error:
            raise PushError(f"{self.folder}: cannot be written: {error.strerror}; nothing was pushed") from error

    def _push_locked(
        self, source: Path, *, pipeline: str, run_id: str, model_id: int, version: int | None
    ) -> PushResult:
        self._check_owner(pipeline)
        content = content_hash(source)
        served = max(self.versions(), default=None)
        if served is not None and version in (None, served):
            release = self.release(served)
            if release is not None and release.content_hash == content:
                return PushResult(served, str(self.folder / str(served)), pushed=False)
        self.check(pipeline=pipeline, version=version)
        number = (served or 0) + 1 if version is None else version
        target = self.folder / str(number)
        unfinished = self.folder / f"{_UNFINISHED_PREFIX}{number}"
        # What a crashed push left; the lock says that nobody is writing it.
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            shutil.copytree(source, unfinished)
            release = Release(pipeline, run_id, model_id, content)
            file = unfinished / RELEASE_FILE
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(asdict(release), indent=2) + "\n")
            if content_hash(unfinished) != content:
                raise PushError(f"{source}: changed while it was copied; nothing was pushed")
            _flush(unfinished)
            os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _flush_folder(self.folder)
        return PushResult(number, str(target), pushed=True)


def _flush(folder: Path) -> None:
    """Waits until all files and folders below are on disk."""
    for path, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(path))


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
