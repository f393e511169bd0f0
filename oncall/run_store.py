"""The runs that the commands report on, in a run root of this machine or on Vertex AI."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cli.errors import RunRootError
from oncall.activity import ActiveRun
from oncall.metadata import Id, Metadata
from oncall.model_versions import ModelVersions
from pipeline.run.records import RunRecord, RunState
from pipeline.run.rejections import Rejection

LATEST = "latest"
MAX_SUGGESTIONS = 5


@dataclass(frozen=True)
class Run:
    """A run: its ID, its state, and its record if that exists and can be read."""

    run_id: str
    state: RunState
    record: RunRecord | None


@dataclass(frozen=True)
class RunList:
    """The newest runs.

    Attributes:
      runs: runs, the newest first.
      total: number of all runs; None if they were not counted, and more exist.
      error: why some could not be read.
    """

    runs: Sequence[Run]
    total: int | None
    error: str = ""


@dataclass(frozen=True)
class LogExcerpt:
    """The part of a log that explains a failure.

    Attributes:
      location: file, or the command that reads the log; empty if none was kept.
      lines: lines that name the cause.
      problem: why there are no lines.
    """

    location: str
    lines: list[str]
    problem: str = ""


class RunStore(Protocol):
    """Runs with their records, logs, ML Metadata and models.

    Attributes:
      location_flags: flags that name the location in proposed commands, with a space before each.
      damaged_records: reason by run, for records that cannot be read.
    """

    location_flags: str
    damaged_records: dict[str, str]

    @property
    def read_errors(self) -> list[str]:
        """Why some files could not be read, though the rest of the output is right."""

    @property
    def location(self) -> str:
        """Folder or project, for messages."""

    @property
    def last_rejection(self) -> Rejection | None:
        """The last run that was rejected since the newest one on record began."""

    @property
    def retrain_error(self) -> RunRootError | None:
        """Why the starts of `pipeline retrain` cannot be read; None if they can, or if there are none."""

    @property
    def database_error(self) -> RunRootError | None:
        """Why the database cannot be read now; None if it can, or if there is none."""

    @property
    def binding_error(self) -> str:
        """Why the database and the run root do not belong together; empty if they do, or if nothing shows that."""

    def describe_activity(self, record: RunRecord) -> ActiveRun:
        """Return the state of a run that has not ended, whose process lives."""

    def find_resumptions(self, run_id: str) -> list[str]:
        """Return the newer runs that resumed a run, the newest first."""

    def describe_newer_champion(self, record: RunRecord) -> str:
        """Return what a push of a run would replace that is newer than the run; empty if nothing is."""

    @property
    def metadata(self) -> Metadata:
        """ML Metadata of the runs.

        Raises:
          RunRootError: it cannot be read.
        """

    @property
    def record_ids(self) -> Iterable[str]:
        """IDs of runs on record, the newest first; their records may be damaged."""

    def list_runs(self, limit: int, skip: int = 0) -> RunList:
        """Return the newest runs after the first `skip`, with those that only ML Metadata has."""

    def read_record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None if it does not exist or cannot be read."""

    def read_records(self) -> Iterator[RunRecord]:
        """Yield the records that can be read, the newest first."""

    def get_run(self, run_id: str) -> Run:
        """Return the run with exactly this ID."""

    def find_run(self, name: str) -> Run:
        """Return the run with a name.

        Args:
          name: `latest`, a run's ID, or the first characters of one.

        Raises:
          ConfigError: there is none, or there are several.
        """

    def find_last_success(self, before: str | None) -> str | None:
        """Return the last run before another that succeeded; None for the last of all."""

    def read_log_excerpt(self, record: RunRecord, node: str | None) -> LogExcerpt:
        """Return the excerpt for a node, or for the part of the run before its first node."""

    def parse_artifact_id(self, text: str) -> Id | None:
        """Return the text as an artifact's ID; None if it cannot be one."""

    def find_model_versions(self, folder: Path | None, model: str | None) -> ModelVersions:
        """Return the versions of the model that is named, or else of the newest run's model.

        Raises:
          ConfigError: the model is ambiguous.
          PushError: there is no such model, or it cannot be read.
        """
