"""Summary of History."""

from dataclasses import dataclass

from cli.node_summary import NodeSummary, Outputs
from components.pusher.component import VERSION_PROPERTY


@dataclass(frozen=True)
class HistorySummary(NodeSummary):
    """Version that was pushed last; None if there is none."""

    version: int | None

    @classmethod
    def read(cls, outputs: Outputs) -> "HistorySummary":
        pushed = outputs.get("pushed_model", ())
        return cls(int(pushed[0].custom_properties[VERSION_PROPERTY].string_value) if pushed else None)

    @property
    def headline(self) -> str:
        return f"version {self.version}" if self.version else "nothing was pushed yet"
