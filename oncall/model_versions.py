"""The versions of a model, in a registry of this machine or of Vertex AI."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from oncall.metadata import Id
from serving.registry.data_time import DataTime


@dataclass(frozen=True)
class ModelVersion:
    """A version that was released.

    Attributes:
      number: number of the version.
      state: state such as `champion`; or why it cannot be read.
      run: ID of the run that pushed it; empty if another tool did.
      model: ID of the Model artifact; None if it is not known.
      traffic: percent of the requests; None if versions do not share them.
    """

    number: int
    state: str
    run: str = ""
    model: Id | None = None
    traffic: int | None = None


@dataclass(frozen=True)
class RollbackInForce:
    """A rollback that no later promotion has undone.

    Attributes:
      version: version that serves since.
      rejected: version that served before; None if that is not known.
      by: user and host.
      at: time in UTC.
      reason: reason that the user gave; empty if none.
    """

    version: int
    rejected: int | None
    by: str
    at: str
    reason: str

    def __str__(self) -> str:
        rejected = f"version {self.rejected}" if self.rejected is not None else "another version"
        return f"rolled back from {rejected} by {self.by} at {self.at}: {self.reason or 'no reason was given'}"


class ModelVersions(Protocol):
    """The versions of one model."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def location(self) -> str:
        """Folder or resource of the registry, for messages."""

    @property
    def rollback_command(self) -> str:
        """Command that makes the previous version serve again."""

    @property
    def champion(self) -> int | None:
        """Number of the version that should serve."""

    @property
    def traffic_command(self) -> str:
        """Command that gives the champion all requests, where versions share them."""

    @property
    def quarantine_command(self) -> str:
        """Command that helps against versions that no push explains."""

    @property
    def rollback(self) -> RollbackInForce | None:
        """The rollback that is in force; None if there is none."""

    def list_unexplained(self) -> dict[int, str]:
        """Return the versions that no push on record put in their place, each with where it seems to come from."""

    def find_conflict(self) -> tuple[str, str] | None:
        """Return how the files that name the champion differ, and the command that helps; None if they agree."""

    def get_content_hash(self, version: int) -> str:
        """Return the hash of the files that were pushed as a version; empty if it is not known."""

    def list_versions(self) -> list[ModelVersion]:
        """Return the versions, the oldest first."""

    def is_intact(self, version: int) -> bool | None:
        """Check that a version's files are those that were pushed; None if that is not known.

        Raises:
          PushError: they cannot be read.
        """

    def list_changed_files(self, version: int) -> list[str]:
        """Return the files that are not as they were pushed, each with its difference; empty if that is not known."""

    def read_metrics(self, version: ModelVersion) -> Mapping[str, float]:
        """Return the metrics of the version's evaluation, by name."""

    def read_data_time(self, version: int) -> DataTime | None:
        """Return the newest time of the rows that a version was trained on; None if it is not known."""
