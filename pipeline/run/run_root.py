"""The folder of a pipeline's runs: made, locked, and checked before anything starts. Imports no TensorFlow.

- RUN_ROOT/metadata.sqlite: ML Metadata of all runs, unless `metadata` of the config names another database.
- database.json: the database of this run root (pipeline/database/binding.py).
- artifacts/: the outputs of the components.
- registry/: the served models, unless `push.registry` names another folder.
- logs/RUN_ID.log: the log of a run.
- records/RUN_ID.json: the process, config, progress and end of a run (pipeline/run/records.py).
- refused.json: the runs since the last one that were not started (pipeline/run/rejections.py).
- alerts.json: the incidents that are not over (pipeline/alerts/incidents.py).
- temp/: the temporary files of the active run.
"""

import datetime
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from cli.errors import RunRootError
from pipeline.database.binding import SQLITE_FILE, bind, get_bound_database
from pipeline.database.config import MetadataBackend
from pipeline.database.database import Database
from pipeline.run import locks

if TYPE_CHECKING:
    # Commands that only read the run root start without it.
    from pipeline.config.pipeline_config import PipelineConfig


# Space that is kept for the end of a run that fills the disk: its record, its log, its last write to the database.
_RESERVE, _RESERVE_BYTES = ".reserve", 1 << 20
_MAX_READ_RECORDS = 20


@dataclass(frozen=True)
class RunRoot:
    """The paths below one run root."""

    path: Path

    @property
    def metadata(self) -> Path:
        return self.path / SQLITE_FILE

    @property
    def database(self) -> Database:
        """The database that this run root is bound to.

        Raises:
          RunRootError: The file that names it is damaged.
        """
        return get_bound_database(self.path)

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def locate_registry(self, config: "PipelineConfig") -> Path:
        """Return the folder that models are pushed to."""
        return Path(config.push.registry) if config.push.registry else self.path / "registry"

    def locate_log(self, run_id: str) -> Path:
        return self.path / "logs" / f"{run_id}.log"

    @property
    def records(self) -> Path:
        return self.path / "records"

    def locate_record(self, run_id: str) -> Path:
        return self.records / f"{run_id}.json"

    @property
    def is_locked(self) -> bool:
        """Whether a run holds the folder now; trying the lock would stop a run that starts in that moment."""
        return bool(locks.find_holders(self.path / ".lock"))

    @contextmanager
    def lock(self, metadata: MetadataBackend | None = None) -> Iterator[Database]:
        """Make the folder, check it, and hold it for one run, with the database that is bound to it.

        Args:
          metadata: Section `metadata` of the config; None for the database that the run root is bound to.

        Raises:
          RunRootError: The folder cannot be written, or another run holds it. Or its database is missing, damaged, out
            of reach, or another run root's.
        """
        self._make()
        with self.hold("--run-root"):
            yield self._bind(metadata)

    @contextmanager
    def lock_for_removal(self) -> Iterator[Database]:
        """Hold the folder, which must exist, for a command that frees space: on a full disk it has the reserve.

        Raises:
          RunRootError: As `lock` raises it.
        """
        with self.hold("--run-root"):
            self.release_reserve()
            yield self._bind(None)

    def _bind(self, metadata: MetadataBackend | None) -> Database:
        locks.wait(self.metadata, lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
        return bind(self.path, self.artifacts, metadata)

    @contextmanager
    def hold(self, flag: str) -> Iterator[None]:
        """Hold the folder, which must exist, for one run.

        Args:
          flag: Name of the flag that names the folder, for the error.

        Raises:
          RunRootError: Another run holds it.
        """
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunRootError(
                f"{self.path}: another run is using it: {self._describe_holder()}; wait for its end, or give {flag} "
                "another folder"
            ) from error
        with closing(_HeldLock(lock)):
            yield

    @contextmanager
    def redirect_temporary_files(self) -> Iterator[None]:
        """Keep all temporary files of a run below the folder, which must be held, and remove them at the end.

        TFX, Beam and TensorFlow leave some behind, and a run that is killed leaves all of them.
        """
        folder = self.path / "temp"
        shutil.rmtree(folder, ignore_errors=True)
        self._make()
        before = tempfile.tempdir, os.environ.get("TMPDIR")
        try:
            tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
            yield
        finally:
            tempfile.tempdir = before[0]
            os.environ.pop("TMPDIR")
            os.environ |= {"TMPDIR": before[1]} if before[1] else {}
            shutil.rmtree(folder, ignore_errors=True)

    def _describe_holder(self) -> str:
        """Describe the process that holds the lock."""
        pids = locks.find_holders(self.path / ".lock")
        # Not only the newest: a clock may be wrong.
        for file in sorted(self.records.glob("*.json"), reverse=True)[:_MAX_READ_RECORDS]:
            try:
                record = json.loads(file.read_bytes())
            except (OSError, ValueError):
                continue
            if record.get("ended") is None and record.get("pid") in pids:
                return f"{record['run_id']}, {locks.describe_processes(pids)}"
        return locks.describe_processes(pids)

    def _make(self) -> None:
        try:
            for folder in (self.path, self.artifacts, self.path / "logs", self.path / "temp"):
                folder.mkdir(parents=True, exist_ok=True)
            # os.access does not see a full or read-only file system.
            with (self.path / _RESERVE).open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError as error:
            place = error.filename if isinstance(error.filename, str) else self.path
            raise RunRootError(
                f"{place}: cannot be written: {error.strerror}; give --run-root another folder"
            ) from error

    def release_reserve(self) -> None:
        """Free the space that is kept for the end of a run that fails."""
        (self.path / _RESERVE).unlink(missing_ok=True)


@dataclass(frozen=True)
class _HeldLock:
    lock: filelock.BaseFileLock

    def close(self) -> None:
        self.lock.release()


def generate_run_id() -> str:
    """Return a new run ID: the local time, to the microsecond, in a form that sorts and can name a file."""
    return datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")


def get_default_run_root(name: str) -> Path:
    """Return the default run root of a pipeline: `runs/NAME` below the current folder."""
    return Path(os.getcwd()) / "runs" / name
