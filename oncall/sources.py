"""What the commands ask of whatever runs have left evidence in: a run root of this machine, or Vertex AI."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from oncall.graph import Graph, Id
from pipeline.run.records import RunRecord, State
from pipeline.run.rejections import Rejection


@dataclass(frozen=True)
class Run:
    """A run: its id, its state, and its record if there is one that can be read."""

    run_id: str
    state: State
    record: RunRecord | None


@dataclass(frozen=True)
class Listed:
    """The newest runs.

    Attributes:
      runs: the newest first.
      total: how many there are; None where they were not counted, and there are more.
      error: what could not be looked at.
    """

    runs: Sequence[Run]
    total: int | None
    error: str = ""


@dataclass(frozen=True)
class Version:
    """A version that was released.

    Attributes:
      number: number of the version.
      state: such as `champion`; or why nothing is known of it.
      run: that pushed it; empty if another tool did.
      model: the Model artifact; None if it is not known.
      traffic: percent of the requests; None where versions do not share them.
    """

    number: int
    state: str
    run: str = ""
    model: Id | None = None
    traffic: int | None = None


class Releases(Protocol):
    """A model's versions."""

    @property
    def name(self) -> str:
        """The model's."""

    @property
    def place(self) -> str:
        """Where it is registered."""

    @property
    def back(self) -> str:
        """The command that lets the version before serve again."""

    @property
    def champion(self) -> int | None:
        """The version that shall serve."""

    def versions(self) -> list[Version]:
        """All of them, the oldest first."""

    def fits(self, version: int) -> bool | None:
        """Whether a version's files are those that were pushed; None where that is not known.

        Raises:
          PushError: they cannot be read.
        """

    def differing_files(self, version: int) -> list[str]:
        """Those that are not as they were pushed, each with what it is; empty where that is not known."""

    def metrics(self, version: Version) -> Mapping[str, float]:
        """Of the version's evaluation, by name."""


class Source(Protocol):
    """Runs, and what is known of them.

    Attributes:
      here: the flags that name the place, with a space before them; empty if they need not be given.
      damaged: runs whose records cannot be read, with why.
    """

    here: str
    damaged: dict[str, str]

    @property
    def unread(self) -> list[str]:
        """What could not be looked at, though the rest is right."""

    @property
    def place(self) -> str:
        """Where it is, for people."""

    @property
    def refusal(self) -> Rejection | None:
        """The last run that was refused since the newest one on record began."""

    @property
    def unreadable(self) -> str:
        """Why the database cannot be read now; empty where it can, or there is none."""

    @property
    def metadata(self) -> Graph:
        """Raises:
        RunRootError: it cannot be read.
        """

    @property
    def record_ids(self) -> Iterable[str]:
        """Of runs on record, the newest first; their records may be damaged."""

    def listed(self, limit: int, skip: int = 0) -> Listed:
        """Return the newest runs after so many that are skipped, those that only ML Metadata knows too."""

    def record(self, run_id: str) -> RunRecord | None:
        """Return the record of a run; None where there is none that can be read."""

    def records(self) -> Iterator[RunRecord]:
        """Those that can be read, the newest first."""

    def run(self, run_id: str) -> Run:
        """Return what is known of a run with this very id."""

    def find(self, name: str) -> Run:
        """Return the run that is meant.

        Args:
          name: `latest`, a run's id, or the first characters of one.

        Raises:
          ConfigError: there is none, or there are several.
        """

    def last_good(self, before: str) -> str | None:
        """Return the last run before another that succeeded."""

    def log(self, record: RunRecord, node: str | None) -> tuple[str, list[str], str]:
        """Return the log of a node, or of what came before the first: where it is, its telling lines, why there are
        none.
        """

    def artifact_id(self, text: str) -> Id | None:
        """Return what a user wrote as an artifact's id; None if it cannot be one."""

    def releases(self, folder: Path | None, model: str | None) -> Releases:
        """Return the model that the newest run pushed to, or would have, unless another is named.

        Raises:
          ConfigError: it is not clear which is meant.
          PushError: there is no such model, or it cannot be read.
        """
