"""All that is known of the runs of one run root: records first, ML Metadata where they do not say enough."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from cli.errors import ConfigError, RunRootError
from cli.terminal import flags
from oncall.metadata import Metadata
from oncall.sources import Listed, Releases, Run
from pipeline.database.binding import is_run_root
from pipeline.run.records import Kind, RunRecord, State
from pipeline.run.rejections import Rejection, RejectionFile
from pipeline.run.run_root import RunRoot

LATEST = "latest"
_USUAL_PLACES = "runs/*"
_SHOWN = 5
_ID = re.compile(r"\d{1,18}")

__all__ = ["LATEST", "Evidence", "Run", "found_run_root"]


class Evidence:
    """What one run root knows; nothing is read before it is asked for."""

    def __init__(self, folder: Path | None) -> None:
        """Find the run root.

        Args:
          folder: None for the only one below `runs`.

        Raises:
          ConfigError: it is not clear which folder is meant.
          RunRootError: the folder is not there, or holds no runs.
        """
        self.root = RunRoot(found_run_root(folder))
        # For commands that are proposed: as this one was called.
        self.here = flags(run_root=self.root.path) if folder is not None else ""
        self.damaged: dict[str, str] = {}
        self.unread: list[str] = []

    @property
    def place(self) -> str:
        return str(self.root.path)

    @cached_property
    def is_of_rehearsals(self) -> bool:
        """Whether the folder is one of rehearsals, which have neither a database nor a registry."""
        newest = next(self.records(), None)
        return newest is not None and newest.kind is Kind.REHEARSAL and not self.root.database.exists

    @cached_property
    def metadata(self) -> Metadata:
        if self.is_of_rehearsals:
            raise RunRootError(
                f"{self.root.path}: holds rehearsals, which leave nothing in ML Metadata; "
                "`runs`, `show` and `why` know them"
            )
        if self.unreadable:
            raise RunRootError(self.unreadable)
        return Metadata(self.root.database)

    @cached_property
    def unreadable(self) -> str:
        """Why the database cannot be read now; empty where it can, and for rehearsals. A server that is silent, or a
        lock, is waited for once."""
        try:
            if not self.is_of_rehearsals:
                self.root.database.check()
        except RunRootError as error:
            return str(error)
        return ""

    @cached_property
    def refusal(self) -> Rejection | None:
        """The last run that was refused since the newest one on record began."""
        found, newest = RejectionFile(self.root).read(), next(self.records(), None)
        return found if found and (newest is None or newest.started < found.last) else None

    @cached_property
    def is_locked(self) -> bool:
        return self.root.is_locked

    @cached_property
    def record_ids(self) -> list[str]:
        """Of runs on record, the newest first; their records may be damaged."""
        return sorted((file.stem for file in self.root.records.glob("*.json")), reverse=True)

    def record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None where there is none, or it is damaged, which is kept in `damaged`."""
        if run_id not in self._known:
            return None
        file = self.root.record(run_id)
        try:
            found = RunRecord.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            self.damaged[run_id] = f"{file}: {_first_problem(error)}"
            return None
        if found.run_id != run_id:
            self.damaged[run_id] = f"{file}: is the record of run {found.run_id}"
            return None
        return found

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.record_ids)

    def records(self) -> Iterator[RunRecord]:
        """Those that can be read, the newest first."""
        for run_id in self.record_ids:
            found = self.record(run_id)
            if found is not None:
                yield found

    def run(self, run_id: str) -> Run:
        """Return what is known of a run with this very id."""
        record = self.record(run_id)
        return Run(run_id, record.state(locked=self.is_locked) if record else State.UNKNOWN, record)

    @cached_property
    def run_ids(self) -> list[str]:
        """Of all runs, those that only ML Metadata knows too, the newest first."""
        # A run makes its database before its record.
        expected = self.root.database.exists or (self.record_ids and not self.is_of_rehearsals)
        known = {context.name for context in self.metadata.runs()} if expected else set()
        return sorted({*self.record_ids, *known}, reverse=True)

    def listed(self, limit: int, skip: int = 0) -> Listed:
        """Return the newest runs after so many that are skipped, those that only ML Metadata knows too."""
        ids, error = self.record_ids, ""
        try:
            ids = self.run_ids
        except RunRootError as caught:
            # The records are no worse for that.
            error = str(caught)
        return Listed([self.run(run_id) for run_id in ids[skip : skip + limit]], len(ids), error)

    def last_good(self, before: str) -> str | None:
        """Return the last run before another that succeeded."""
        for record in self.records():
            if record.run_id < before and record.succeeded:
                return record.run_id
        return None

    def log(self, record: RunRecord, node: str | None) -> tuple[str, list[str], str]:
        """Return the log of a node, or of what came before the first: where it is, its telling lines, why there are
        none.
        """
        from oncall.why import log_lines

        return record.log_of(node) or "", *log_lines(record, node)

    def artifact_id(self, text: str) -> int | None:
        """Return an artifact's number."""
        return int(text) if _ID.fullmatch(text) else None

    def releases(self, folder: Path | None, model: str | None) -> Releases:
        """Return the registry that the newest run pushed to, or would have, unless another is named."""
        from oncall.releases import Local, named, registry_of

        return Local(registry_of(self, folder, model), self.here, named(folder, model))

    def find(self, name: str) -> Run:
        """Return the run that is meant.

        Args:
          name: `latest`, a run's id, or the first characters of one.

        Raises:
          ConfigError: there is none, or there are several.
          RunRootError: only ML Metadata could say, and it cannot be read.
        """
        if name in self._known:
            return self.run(name)
        unreadable: RunRootError | None = None
        try:
            ids = self.run_ids
        except RunRootError as error:
            # Why a run failed is asked most when there is something wrong with the rest.
            ids, unreadable = self.record_ids, error
        meant = ids[:1] if name == LATEST else [i for i in ids if i.startswith(name)]
        if name in meant:
            meant = [name]
        if not meant and unreadable is not None:
            raise unreadable
        if not meant or not name:
            newest = ", ".join(ids[:_SHOWN]) or "none"
            raise ConfigError(f"{self.root.path}: has no run '{name}'; the newest are: {newest}")
        if len(meant) > 1:
            raise ConfigError(f"{self.root.path}: '{name}' fits {', '.join(meant[:_SHOWN])} and is ambiguous")
        return self.run(meant[0])


def found_run_root(folder: Path | None) -> Path:
    """Return the run root that is meant, as an absolute path."""
    if folder is not None:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is missing"
            raise RunRootError(f"{folder}: {what}; --run-root names the folder of the runs")
        if not is_run_root(folder):
            raise RunRootError(f"{folder}: holds no runs (no database.json is there); is --run-root right?")
        return folder.absolute()
    there = sorted(path for path in Path().glob(_USUAL_PLACES) if is_run_root(path))
    if not there:
        raise ConfigError(f"{Path.cwd()}: {_USUAL_PLACES} holds no runs; name the folder of the runs with --run-root")
    if len(there) > 1:
        raise ConfigError(f"several run roots could be meant:{' or'.join(flags(run_root=path) for path in there)}")
    return there[0].absolute()


def _first_problem(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"is damaged: {f'{place}: ' if place else ''}{problem['msg']}"
