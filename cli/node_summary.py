"""Summaries of finished nodes: each component reports its own, and the runner collects and prints them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from ml_metadata.proto.metadata_store_pb2 import Artifact

# Artifacts as ML Metadata has them, by key.
Outputs: TypeAlias = "Mapping[str, Sequence[Artifact]]"


@dataclass(frozen=True)
class NodeSummary(ABC):
    """Summary of one node; a subclass is a dataclass, whose fields `--json` prints."""

    @classmethod
    @abstractmethod
    def read(cls, outputs: Outputs) -> Self:
        """Return the summary of a node, read from its output artifacts by key; their files are on this machine."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """The summary in a few words, printed when the node ends."""

    def format_lines(self) -> list[tuple[str, str]]:
        """Return the lines of the run's summary, each a label and a text; none unless a component has some."""
        return []


def get_only_artifact(outputs: Outputs, key: str) -> "Artifact":
    """Return the single artifact of an output."""
    (artifact,) = outputs[key]
    return artifact


def format_number(value: float | None) -> str:
    """Return a metric's value as people read it; None and NaN are undefined."""
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.4f}"
