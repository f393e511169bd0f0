"""The versions of a model, in a registry of this machine or of Vertex AI."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from oncall.metadata import Id


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
