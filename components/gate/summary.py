"""Summary of Gate."""

from dataclasses import dataclass
from pathlib import Path

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, get_only_artifact
from components.config import DRIFT, SKEW
from components.gate.report import GateReport


@dataclass(frozen=True)
class GateSummary(GateReport, NodeSummary):
    """The gate's report."""

    @classmethod
    def read(cls, outputs: Outputs) -> "GateSummary":
        return cls.load(Path(get_only_artifact(outputs, "report").uri))

    @property
    def headline(self) -> str:
        warnings = f"{format_count(len(self.warnings), 'warning')}, " if self.warnings else ""
        drift = f"drift of {self.compared[DRIFT]}" if self.history else "drift not compared: no history"
        return f"{warnings}skew of {format_count(self.compared[SKEW], 'feature')} compared, {drift}"

    def format_lines(self) -> list[tuple[str, str]]:
        return [("warning", text) for text in self.warnings]
