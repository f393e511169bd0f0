"""What ML Metadata says, of a run root's database or of Vertex AI: artifacts, executions, and what went in and out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# A number in a database, the last part of the resource's name on Vertex AI. Whoever asks only hands it back.
Id = Any


@dataclass(frozen=True)
class Artifact:
    """Something that a run made or was given.

    Attributes:
      id: names it.
      type: TFX's name, such as `Model`.
      uri: where its files are.
      live: whether they should be there.
      properties: the plain ones, TFX's own and those of components.
      create_time_since_epoch: in milliseconds.
    """

    id: Id
    type: str
    uri: str
    live: bool = True
    properties: Mapping[str, Any] = field(default_factory=dict)
    create_time_since_epoch: int = 0

    @property
    def folder(self) -> Path:
        """Its files on this machine; the path of the one file of a value. They may be gone."""
        return Path(self.uri)


@dataclass(frozen=True)
class Execution:
    """One execution of a node.

    Attributes:
      id: names it.
      state: such as COMPLETE, CACHED, FAILED, RUNNING.
      properties: as an artifact's.
      create_time_since_epoch, last_update_time_since_epoch: in milliseconds.
    """

    id: Id
    state: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    create_time_since_epoch: int = 0
    last_update_time_since_epoch: int = 0


@dataclass(frozen=True)
class Event:
    """An artifact went into an execution, or came out of it; `key` is the name of that input or output."""

    execution_id: Id
    artifact_id: Id
    is_output: bool
    key: str = ""


Outputs = Mapping[str, Mapping[str, list[Artifact]]]


class Graph(Protocol):
    """What is asked of ML Metadata, wherever it is."""

    def executions(self, run_id: str) -> list[Execution]:
        """All executions of a run, in order; none where ML Metadata does not know it."""

    def state(self, execution: Execution) -> str:
        """Of an execution."""

    def is_live(self, artifact: Artifact) -> bool:
        """Whether an artifact's files should be there."""

    def is_output(self, event: Event) -> bool:
        """Whether the execution made the artifact, or took it from the cache."""

    def is_input(self, event: Event) -> bool:
        """Whether the execution was given the artifact."""

    def place(self, execution_id: Id) -> tuple[str, str]:
        """Return the run and the node of an execution."""

    def newest(self, execution_ids: Iterable[Id], limit: int) -> list[Id]:
        """Return the last of them to be created, the newest first."""

    def artifacts(self, ids: Iterable[Id]) -> dict[Id, Artifact]:
        """Those that there are."""

    def executions_by_id(self, ids: Iterable[Id]) -> dict[Id, Execution]:
        """Those that there are."""

    def events_of_artifacts(self, ids: Iterable[Id]) -> list[Event]:
        """Return what made and what used artifacts."""

    def events_of_executions(self, ids: Iterable[Id]) -> list[Event]:
        """Return what executions used and made."""

    def artifacts_of_run(self, run_id: str) -> list[Artifact]:
        """All that a run made, took from the cache, or was given."""

    def makers(self, artifact_ids: Iterable[Id]) -> dict[Id, Execution]:
        """Return the execution that really made each artifact, not one that the cache answered with it."""

    def outputs(self, run_id: str) -> Outputs:
        """Return what each node of a run gave out, by its output's name, whether it made it or took it from the
        cache.
        """


def key(event: Event) -> str:
    """Return the name of the input or output that an event is about."""
    return event.key


def properties(thing: Artifact | Execution) -> Mapping[str, Any]:
    """Return the plain values of an artifact's or an execution's properties."""
    return thing.properties
