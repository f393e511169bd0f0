"""The runs of one run root: their records, and ML Metadata for what the records lack."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from cli.errors import ConfigError, RunRootError
from cli.terminal import flags
from oncall.local.metadata import LocalMetadata
from oncall.local.model_versions import LocalModelVersions, find_registry
from oncall.log_excerpts import read_log_excerpt
from oncall.run_store import LATEST, MAX_SUGGESTIONS, LogExcerpt, Run, RunList
from pipeline.database.binding import is_run_root
from pipeline.run.records import Kind, RunRecord, State
from pipeline.run.rejections import Rejection, RejectionFile
from pipeline.run.run_root import RunRoot
from serving.registry import LocalRegistry

_DEFAULT_RUN_ROOTS = "runs/*"
_ID = re.compile(r"\d{1,18}")


class LocalRunStore:
    """The runs of one run root; each file is read when it is first needed."""

    def __init__(self, folder: Path | None) -> None:
        """Find the run root.

        Args:
          folder: folder of the run root; None for the only one below `runs`.

        Raises:
          ConfigError: the folder is ambiguous.
          RunRootError: the folder is missing, or holds no runs.
        """
        self.root = RunRoot(find_run_root(folder))
        # For proposed commands: the flags of this one.
        self.location_flags = flags(run_root=self.root.path) if folder is not None else ""
        self.damaged_records: dict[str, str] = {}
        self.read_errors: list[str] = []

    @property
    def location(self) -> str:
        """Folder of the run root."""
        return str(self.root.path)

    @cached_property
    def has_rehearsals(self) -> bool:
        """Whether the folder holds rehearsals, which have neither a database nor a registry."""
        newest = next(self.read_records(), None)
        return newest is not None and newest.kind is Kind.REHEARSAL and not self.root.database.exists

    @cached_property
    def metadata(self) -> LocalMetadata:
        """ML Metadata of the run root.

        Raises:
          RunRootError: it cannot be read.
        """
        if self.has_rehearsals:
            raise RunRootError(
                f"{self.root.path}: holds rehearsals, which leave nothing in ML Metadata; use `runs`, `show` or `why`"
            )
        if self.database_error:
            raise RunRootError(self.database_error)
        return LocalMetadata(self.root.database)

    @cached_property
    def database_error(self) -> str:
        """Why the database cannot be read now; empty if it can, and for rehearsals.

        The check waits once for a silent server or a lock.
        """
        try:
            if not self.has_rehearsals:
                self.root.database.check()
        except RunRootError as error:
            return str(error)
        return ""

    @cached_property
    def last_rejection(self) -> Rejection | None:
        """The last run that was rejected since the newest one on record began."""
        rejection, newest = RejectionFile(self.root).read(), next(self.read_records(), None)
        return rejection if rejection and (newest is None or newest.started < rejection.last) else None

    @cached_property
    def is_locked(self) -> bool:
        """Whether a run or `gc` holds the run root's lock."""
        return self.root.is_locked

    @cached_property
    def record_ids(self) -> list[str]:
        """IDs of runs on record, the newest first; their records may be damaged."""
        return sorted((file.stem for file in self.root.records.glob("*.json")), reverse=True)

    @cached_property
    def _record_id_set(self) -> frozenset[str]:
        return frozenset(self.record_ids)

    def read_record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None if it does not exist or is damaged (see `damaged_records`)."""
        if run_id not in self._record_id_set:
            return None
        file = self.root.record(run_id)
        try:
            record = RunRecord.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            self.damaged_records[run_id] = f"{file}: {_describe_problem(error)}"
            return None
        if record.run_id != run_id:
            self.damaged_records[run_id] = f"{file}: is the record of run {record.run_id}"
            return None
        return record

    def read_records(self) -> Iterator[RunRecord]:
        """Yield the records that can be read, the newest first."""
        for run_id in self.record_ids:
            record = self.read_record(run_id)
            if record is not None:
                yield record

    def get_run(self, run_id: str) -> Run:
        """Return the run with exactly this ID."""
        record = self.read_record(run_id)
        return Run(run_id, record.state(locked=self.is_locked) if record else State.UNKNOWN, record)

    @cached_property
    def run_ids(self) -> list[str]:
        """IDs of all runs, with those that only ML Metadata has, the newest first."""
        # A run creates its database before its record.
        has_database = self.root.database.exists or (self.record_ids and not self.has_rehearsals)
        in_metadata = {context.name for context in self.metadata.get_run_contexts()} if has_database else set()
        return sorted({*self.record_ids, *in_metadata}, reverse=True)

    def list_runs(self, limit: int, skip: int = 0) -> RunList:
        """Return the newest runs after the first `skip`, with those that only ML Metadata has."""
        ids, error = self.record_ids, ""
        try:
            ids = self.run_ids
        except RunRootError as caught:
            # The records can still be read.
            error = str(caught)
        return RunList([self.get_run(run_id) for run_id in ids[skip : skip + limit]], len(ids), error)

    def find_last_success(self, before: str) -> str | None:
        """Return the last run before another that succeeded."""
        for record in self.read_records():
            if record.run_id < before and record.succeeded:
                return record.run_id
        return None

    def read_log_excerpt(self, record: RunRecord, node: str | None) -> LogExcerpt:
        """Return the excerpt for a node, or for the part of the run before its first node."""
        return read_log_excerpt(record, node)

    def parse_artifact_id(self, text: str) -> int | None:
        """Return the text as an artifact's number; None if it cannot be one."""
        return int(text) if _ID.fullmatch(text) else None

    def find_registry(self, folder: Path | None, model: str | None) -> LocalRegistry:
        """Return the registry of the newest run's config.

        Args:
          folder: folder of the registry; None for the config's.
          model: name of the model; None for the config's.

        Raises:
          ConfigError: the registry is ambiguous, there is no such model, or the models are on Vertex AI.
          PushError: the registry cannot be read, or has no model.
        """
        if self.has_rehearsals and folder is None:
            raise ConfigError(f"{self.root.path}: holds rehearsals, which push to an emulator; nothing serves there")
        return find_registry(self.root.path, next(self.read_records(), None), folder, model)

    def find_model_versions(self, folder: Path | None, model: str | None) -> LocalModelVersions:
        """Return the versions of the registry that `find_registry` returns."""
        command_flags = self.location_flags + flags(registry=folder, model=model)
        return LocalModelVersions(self.find_registry(folder, model), self.location_flags, command_flags)

    def find_run(self, name: str) -> Run:
        """Return the run with a name.

        Args:
          name: `latest`, a run's ID, or the first characters of one.

        Raises:
          ConfigError: there is none, or there are several.
          RunRootError: the run may be in ML Metadata, which cannot be read.
        """
        if name in self._record_id_set:
            return self.get_run(name)
        metadata_error: RunRootError | None = None
        try:
            ids = self.run_ids
        except RunRootError as error:
            # A failed run is often the one whose database cannot be read: its record is enough.
            ids, metadata_error = self.record_ids, error
        matches = ids[:1] if name == LATEST else [i for i in ids if i.startswith(name)]
        if name in matches:
            matches = [name]
        if not matches and metadata_error is not None:
            raise metadata_error
        if not matches or not name:
            newest = ", ".join(ids[:MAX_SUGGESTIONS]) or "none"
            raise ConfigError(f"{self.root.path}: has no run '{name}'; the newest are: {newest}")
        if len(matches) > 1:
            several = ", ".join(matches[:MAX_SUGGESTIONS])
            raise ConfigError(f"{self.root.path}: '{name}' is ambiguous: it matches {several}")
        return self.get_run(matches[0])


def find_run_root(folder: Path | None) -> Path:
    """Return the absolute path of the folder, or of the only run root below `runs`."""
    if folder is not None:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is missing"
            raise RunRootError(f"{folder}: {what}; --run-root names the folder of the runs")
        if not is_run_root(folder):
            raise RunRootError(f"{folder}: holds no runs (it has no database.json); is --run-root right?")
        return folder.absolute()
    run_roots = sorted(path for path in Path().glob(_DEFAULT_RUN_ROOTS) if is_run_root(path))
    if not run_roots:
        raise ConfigError(
            f"{Path.cwd()}: {_DEFAULT_RUN_ROOTS} holds no runs; name the folder of the runs with --run-root"
        )
    if len(run_roots) > 1:
        choices = " or".join(flags(run_root=path) for path in run_roots)
        raise ConfigError(f"several folders hold runs; choose one:{choices}")
    return run_roots[0].absolute()


def _describe_problem(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"is damaged: {f'{place}: ' if place else ''}{problem['msg']}"
