"""ML Metadata as the commands read it: artifacts, executions and events, in a run root's database or on Vertex AI."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# A number in a database, the last part of the resource's name on Vertex AI. Callers only pass it back.
Id = Any


@dataclass(frozen=True)
class Artifact:
    """Something that a run made or read.

    Attributes:
      id: ID of the artifact.
      type: TFX's name of the type, such as `Model`.
      uri: URI of the files.
      is_live: whether the files should exist.
      properties: values of plain types among TFX's properties and the components' own.
      create_time_since_epoch: milliseconds since 1970.
    """

    id: Id
    type: str
    uri: str
    is_live: bool = True
    properties: Mapping[str, Any] = field(default_factory=dict)
    create_time_since_epoch: int = 0

    @property
    def folder(self) -> Path:
        """The files on this machine; the path of the one file of a value. They may be missing."""
        return Path(self.uri)


@dataclass(frozen=True)
class Execution:
    """One execution of a node.

    Attributes:
      id: ID of the execution.
      state: state such as COMPLETE, CACHED, FAILED, RUNNING.
      properties: values of plain types among the properties.
      create_time_since_epoch, last_update_time_since_epoch: milliseconds since 1970.
    """

    id: Id
    state: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    create_time_since_epoch: int = 0
    last_update_time_since_epoch: int = 0


@dataclass(frozen=True)
class LineageEvent:
    """An input or an output of an execution; `key` is its name."""

    execution_id: Id
    artifact_id: Id
    is_output: bool
    key: str = ""


# By node, then by the output's name.
Outputs = Mapping[str, Mapping[str, list[Artifact]]]


class Metadata(Protocol):
    """The queries to ML Metadata."""

    def get_findings(self, run_id: str) -> Mapping[str, str]:
        """Return the latest findings about the version that a run trained, by the name of the check."""

    def get_run_executions(self, run_id: str) -> list[Execution]:
        """Return the executions of a run, in order; none if ML Metadata has no such run."""

    def get_run_and_node(self, execution_id: Id) -> tuple[str, str]:
        """Return the run and the node of an execution."""

    def select_newest(self, execution_ids: Iterable[Id], limit: int) -> list[Id]:
        """Return the executions that were created last, the newest first."""

    def get_artifacts(self, ids: Iterable[Id]) -> dict[Id, Artifact]:
        """Return the artifacts that exist, by ID."""

    def get_executions(self, ids: Iterable[Id]) -> dict[Id, Execution]:
        """Return the executions that exist, by ID."""

    def get_artifact_events(self, ids: Iterable[Id]) -> list[LineageEvent]:
        """Return the events of artifacts: who made and who used them."""

    def get_execution_events(self, ids: Iterable[Id]) -> list[LineageEvent]:
        """Return the inputs and outputs of executions."""

    def get_run_artifacts(self, run_id: str) -> list[Artifact]:
        """Return the artifacts that a run made, reused from the cache or read."""

    def find_makers(self, artifact_ids: Iterable[Id]) -> dict[Id, Execution]:
        """Return the execution that made each artifact, not those that reused it from the cache."""

    def get_run_outputs(self, run_id: str) -> Outputs:
        """Return the outputs of each node of a run, made or reused from the cache."""
