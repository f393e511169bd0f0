"""The runs of one run root: their records, and ML Metadata for what the records lack."""

import datetime
import itertools
import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from cli.errors import ConfigError, PipelineError, RunRootError
from cli.terminal import format_flags
from oncall.activity import ActiveRun
from oncall.local.metadata import LocalMetadata
from oncall.local.model_versions import LocalModelVersions, LostRegistryError, find_registry, locate_registry
from oncall.log_excerpts import read_log_excerpt
from oncall.run_store import LATEST, MAX_SUGGESTIONS, LogExcerpt, Run, RunList
from pipeline.database.binding import check_binding, find_original, is_run_root
from pipeline.retrain.attempts import Attempts
from pipeline.run.records import Kind, RunRecord, RunState
from pipeline.run.rejections import Rejection, RejectionFile
from pipeline.run.run_order import read_first_executions, sort_runs
from pipeline.run.run_root import RunRoot
from serving.registry import LocalRegistry
from serving.registry.local.errors import RegistryFault, RegistryFileError
from serving.registry.stamps import parse_timestamp

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
        # Proposed commands name it always: they may be pasted in another folder.
        self.location_flags = format_flags(run_root=self.root.path)
        self.damaged_records: dict[str, str] = {}
        self.read_errors: list[str] = []

    @property
    def location(self) -> str:
        """Folder of the run root."""
        return str(self.root.path)

    @cached_property
    def has_rehearsals(self) -> bool:
        """Whether the folder holds rehearsals, which have neither a database nor a registry."""
        return self._holds_rehearsals

    @cached_property
    def _holds_rehearsals(self) -> bool:
        if self.root.database.exists or not self._record_id_set:
            return False
        newest = self.read_record(max(self._record_id_set))
        return newest is not None and newest.kind is Kind.REHEARSAL

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
            raise self.database_error
        return LocalMetadata(self.root.database)

    def record_finding(self, run_id: str, name: str, text: str) -> None:
        """Write a finding about the version that a run trained into ML Metadata, in place of an earlier one.

        Raises:
          RunRootError: it cannot be written.
        """
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        LocalMetadata(self.root.database, writable=True).set_finding(run_id, name, f"{time} {text}")

    @cached_property
    def database_error(self) -> RunRootError | None:
        """Why the database cannot be read now; None if it can, and for rehearsals.

        The check waits once for a silent server or a lock.
        """
        try:
            if not self._holds_rehearsals:
                self.root.database.check()
        except RunRootError as error:
            return error
        return None

    @cached_property
    def original(self) -> Path | None:
        """Run root that this one is a copy of; None if it is none."""
        try:
            return None if self._holds_rehearsals or self.database_error else find_original(self.root.path)
        except RunRootError:
            # It was locked since `database_error` was read.
            return None

    @cached_property
    def unknown_runs(self) -> list[str]:
        """IDs of the newest runs on record that ML Metadata does not have, though they finished a node.

        Those before a run that it has were made with a database that was set aside since.
        """
        if self._holds_rehearsals or self.database_error or not self.first_executions:
            return []
        newest = itertools.takewhile(lambda run_id: run_id not in self.first_executions, self._ordered_ids)
        records = [record for record in map(self.read_record, newest) if record is not None]
        return [r.run_id for r in records if r.kind is Kind.LOCAL and any(n.ended for n in r.nodes.values())]

    @cached_property
    def binding_error(self) -> str:
        """Why the database and the run root do not belong together; empty if they do, or if nothing shows that."""
        if self._holds_rehearsals or self.database_error:
            return ""
        if self.original is not None:
            return (
                f"{self.root.path}: is a copy of {self.original}; ML Metadata names the artifacts of that one. Use the "
                "original; here nothing is reused from the cache, and nothing of the original changes"
            )
        try:
            check_binding(self.root.path, self.root.artifacts)
        except RunRootError as error:
            return str(error)
        if self.unknown_runs:
            label, count = self.root.database.label, len(self.unknown_runs)
            return f"{label}: lacks {count} run{'' if count == 1 else 's'} on record; restore a newer backup"
        return ""

    def describe_activity(self, record: RunRecord) -> ActiveRun:
        """Return the state of a run that has not ended, whose process lives."""
        from oncall.local.active_run import describe_active_run

        earlier = (other for other in self.read_records() if other.run_id != record.run_id)
        return describe_active_run(record, earlier)

    def find_resumptions(self, run_id: str) -> list[str]:
        """Return the newer runs that resumed a run, the newest first."""
        newer = itertools.takewhile(lambda record: record.run_id != run_id, self.read_records())
        return [record.run_id for record in newer if record.resumes == run_id]

    def describe_newer_champion(self, record: RunRecord) -> str:
        """Return what a push of a run would replace that is newer than the run; empty if nothing is."""
        if record.kind is not Kind.LOCAL or record.until is not None:
            return ""
        try:
            registry = self.find_registry(None, None)
            champion = registry.read_champion()
            pusher = registry.find_run_id(champion) if champion is not None else ""
            rollback = registry.read_ledger().rollback
        except PipelineError:
            # `check` reports it; on Vertex AI this command pushes nothing.
            return ""
        if champion is None or pusher == record.run_id:
            return ""
        if rollback is not None and parse_timestamp(rollback.at) > record.started:
            return (
                f"version {champion}, which serves since {rollback.by} rolled version {rollback.champion_before} back "
                f"at {rollback.at}: {rollback.reason or 'no reason was given'}"
            )
        ids = self._ordered_ids
        is_newer = pusher in ids and record.run_id in ids and ids.index(pusher) < ids.index(record.run_id)
        return f"version {champion} of the newer run {pusher}" if is_newer else ""

    @cached_property
    def last_rejection(self) -> Rejection | None:
        """The last run that was rejected since the newest one on record began."""
        rejection, newest = RejectionFile(self.root).read(), next(self.read_records(), None)
        is_last = rejection is not None and (newest is None or newest.run_id == rejection.newest_run)
        return rejection if is_last else None

    @cached_property
    def retrain_error(self) -> RunRootError | None:
        """Why the starts of `pipeline retrain` cannot be read; None if they can, or if there are none."""
        try:
            Attempts.read(self.root)
        except RunRootError as error:
            return error
        return None

    @cached_property
    def is_locked(self) -> bool:
        """Whether a run or `gc` holds the run root's lock."""
        return self.root.is_locked

    @cached_property
    def first_executions(self) -> dict[str, int]:
        """ID of the first execution by run, for runs in ML Metadata; none if it cannot be read."""
        return {} if self.database_error else read_first_executions(self.root)

    @cached_property
    def _ordered_ids(self) -> list[str]:
        return sort_runs(self.root, self._record_id_set, self.first_executions)

    @cached_property
    def record_ids(self) -> list[str]:
        """IDs of runs on record, the newest first by ML Metadata's IDs; their records may be damaged."""
        return [run_id for run_id in self._ordered_ids if run_id in self._record_id_set]

    @cached_property
    def _record_id_set(self) -> frozenset[str]:
        return frozenset(file.stem for file in self.root.records.glob("*.json"))

    def read_record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None if it does not exist or is damaged (see `damaged_records`)."""
        if run_id not in self._record_id_set:
            return None
        file = self.root.locate_record(run_id)
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
        return Run(run_id, record.get_state(locked=self.is_locked) if record else RunState.UNKNOWN, record)

    @cached_property
    def run_ids(self) -> list[str]:
        """IDs of all runs, with those that only ML Metadata has, the newest first."""
        # A run creates its database before its record.
        if self.database_error and (self.root.database.exists or self._record_id_set):
            raise self.database_error
        return self._ordered_ids

    def list_run_ids(self) -> tuple[list[str], str]:
        """Return the IDs of all runs that can be read, the newest first, and why those in ML Metadata cannot be."""
        try:
            return self.run_ids, ""
        except RunRootError as error:
            # The records can still be read.
            return self.record_ids, str(error)

    def list_runs(self, limit: int, skip: int = 0) -> RunList:
        """Return the newest runs after the first `skip`, with those that only ML Metadata has."""
        ids, error = self.list_run_ids()
        return RunList([self.get_run(run_id) for run_id in ids[skip : skip + limit]], len(ids), error)

    def find_last_success(self, before: str | None) -> str | None:
        """Return the last run before another that succeeded; None for the last of all."""
        ids = self._ordered_ids
        earlier = ids[ids.index(before) + 1 :] if before in ids else ids
        records = map(self.read_record, earlier)
        return next((record.run_id for record in records if record is not None and record.succeeded), None)

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
          LostRegistryError: its folder is gone, and a run has pushed to it.
        """
        if self.has_rehearsals and folder is None:
            raise ConfigError(f"{self.root.path}: holds rehearsals, which push to an emulator; nothing serves there")
        registry = find_registry(self.root.path, next(self.read_records(), None), folder, model)
        if folder is None and model is None and not registry.folder.exists():
            pusher = next(filter(_has_pushed_here, self.read_records()), None)
            if pusher is not None:
                raise LostRegistryError(registry.folder, pusher.run_id)
        return registry

    def find_registry_if_any(self, folder: Path | None, model: str | None) -> LocalRegistry | None:
        """Return the registry that `find_registry` returns; None on Vertex AI, or before the first push.

        Raises:
          ConfigError: there is no folder or model of the name that is given.
          PushError: the registry cannot be read, or is gone though a run has pushed to it.
        """
        try:
            return self.find_registry(folder, model)
        except ConfigError as error:
            if folder is not None or model is not None:
                raise
            if any(map(_has_pushed_here, self.read_records())):
                message = f"{error}; is it mounted? A run has pushed to a registry"
                place = locate_registry(self.root.path, next(self.read_records(), None))
                raise RegistryFileError(message, place, RegistryFault.UNREADABLE) from error
            return None

    def find_model_versions(self, folder: Path | None, model: str | None) -> LocalModelVersions:
        """Return the versions of the registry that `find_registry` returns."""
        command_flags = self.location_flags + format_flags(registry=folder, model=model)
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
            if folder.is_symlink():
                what = f"is a symbolic link to {os.readlink(folder)}, which {what}"
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
        choices = " or".join(format_flags(run_root=path) for path in run_roots)
        raise ConfigError(f"several folders hold runs; choose one:{choices}")
    return run_roots[0].absolute()


def _has_pushed_here(record: RunRecord) -> bool:
    push = record.config.get("push") or {}
    return push.get("target") != "vertex" and record.push is not None and record.push.wrote


def _describe_problem(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"is damaged: {f'{place}: ' if place else ''}{problem['msg']}"
