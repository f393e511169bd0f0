"""Summary of Gate."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.node_summary import NodeSummary, Outputs, only_artifact
from components.config import DRIFT, SKEW


@dataclass(frozen=True)
class GateSummary(NodeSummary):
    """The gate's report.

    Attributes:
      warnings: Anomalies that stop no run.
      history: Whether statistics of an earlier push were compared.
      compared: Number of comparisons by kind.
    """

    warnings: Sequence[str]
    history: bool
    compared: Mapping[str, int]

    @classmethod
    def read(cls, outputs: Outputs) -> "GateSummary":
        return cls(**json.loads(Path(only_artifact(outputs, "report").uri).read_bytes()))

    @property
    def headline(self) -> str:
        warnings = f"{len(self.warnings)} warnings, " if self.warnings else ""
        drift = f"drift of {self.compared[DRIFT]}" if self.history else "drift not compared: no history"
        return f"{warnings}skew of {self.compared[SKEW]} features compared, {drift}"

    def lines(self) -> list[tuple[str, str]]:
        return [("warning", text) for text in self.warnings]
