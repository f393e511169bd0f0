"""The folder a pipeline's runs live in: made, locked, and checked before anything starts. Imports no TensorFlow.

RUN_ROOT/metadata.sqlite    ML Metadata of all runs, unless `metadata` in the config says otherwise
         database.json      which database is this run root's (pipeline/database/binding.py)
         artifacts/         what the components wrote
         registry/          the served models, unless push.registry says otherwise
         logs/RUN_ID.log    one file for each run
         records/RUN_ID.json    who runs, what was to run, how far it came (pipeline/records.py)
"""

import datetime
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from pipeline.database.binding import SQLITE_FILE, bind, bound_database
from pipeline.database.config import MetadataBackend
from pipeline.database.database import Database
from schemas.errors import RunRootError

if TYPE_CHECKING:
    # Whoever only reads what runs have left starts without it.
    from pipeline.config import PipelineConfig


@dataclass(frozen=True)
class RunRoot:
    """The paths below one run root."""

    path: Path

    @property
    def metadata(self) -> Path:
        return self.path / SQLITE_FILE

    @property
    def database(self) -> Database:
        """The one that this run root is bound to.

        Raises:
          RunRootError: what says which it is, is damaged.
        """
        return bound_database(self.path)

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def registry(self, config: "PipelineConfig") -> Path:
        """Where models are pushed."""
        return Path(config.push.registry) if config.push.registry else self.path / "registry"

    def log(self, run_id: str) -> Path:
        return self.path / "logs" / f"{run_id}.log"

    @property
    def records(self) -> Path:
        return self.path / "records"

    def record(self, run_id: str) -> Path:
        return self.records / f"{run_id}.json"

    @property
    def is_locked(self) -> bool:
        """Whether a run holds the folder now. To try the lock would keep out a run that starts in that moment."""
        try:
            found = os.stat(self.path / ".lock")
        except FileNotFoundError:
            return False
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        return any(place in line.split() for line in Path("/proc/locks").read_text().splitlines())

    @contextmanager
    def locked(self, metadata: MetadataBackend | None = None) -> Iterator[Database]:
        """Makes the folder, checks it, and holds it for one run, with the database that is bound to it.

        Args:
          metadata: of the config; None for the database that it is bound to.

        Raises:
          RunRootError: it cannot be written, another run holds it, or its database is gone, damaged, another run root's
            or out of reach.
        """
        self._make()
        with self.held("--run-root"):
            yield bind(self.path, self.artifacts, metadata)

    @contextmanager
    def held(self, flag: str) -> Iterator[None]:
        """Holds the folder, which must be there, for one run.

        Args:
          flag: that names the folder, for the error.

        Raises:
          RunRootError: another run holds it.
        """
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunRootError(
                f"{self.path}: another run is using it; wait for its end, or give {flag} another folder"
            ) from error
        with closing(_Releasing(lock)):
            yield

    def _make(self) -> None:
        try:
            for folder in (self.path, self.artifacts, self.path / "logs"):
                folder.mkdir(parents=True, exist_ok=True)
            # os.access does not see a full or read-only file system.
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            place = error.filename if isinstance(error.filename, str) else self.path
            raise RunRootError(
                f"{place}: cannot be written: {error.strerror}; give --run-root another folder"
            ) from error


@dataclass(frozen=True)
class _Releasing:
    lock: filelock.BaseFileLock

    def close(self) -> None:
        self.lock.release()


def new_run_id() -> str:
    """A run's id: the local time, to the microsecond, in a form that sorts and can name a file."""
    return datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")


def default_run_root(config: "PipelineConfig") -> Path:
    """`runs/<pipeline name>` below the current folder."""
    return Path(os.getcwd()) / "runs" / config.name
