"""Summary of InfraValidator."""

import json
from dataclasses import dataclass

from cli.node_summary import NodeSummary, Outputs, get_only_artifact
from components.infra_validator.component import MEASURED_PROPERTY, Measured
from serving.replay.decisions import ReplayResult

_MAX_SLICES = 3


@dataclass(frozen=True)
class InfraValidatorSummary(Measured, NodeSummary):
    """Measurements of the server with the model."""

    @classmethod
    def read(cls, outputs: Outputs) -> "InfraValidatorSummary":
        properties = get_only_artifact(outputs, "blessing").custom_properties
        return cls(**json.loads(properties[MEASURED_PROPERTY].string_value))

    @property
    def headline(self) -> str:
        speed = f"95% of rows within {self.p95_ms:.1f} ms, {self.memory_mb:,.0f} MB"
        replay = f"; {self.replay_text}" if self.replay_text else ""
        return f"{self.golden_requests} golden requests answered alike, {speed}{replay}"

    @property
    def replay_text(self) -> str:
        """The result of the replay in a few words; empty if there was none."""
        return "" if self.replay is None else ReplayResult.from_dict(self.replay).headline

    def format_lines(self) -> list[tuple[str, str]]:
        """Return the slices whose decisions changed most."""
        slices = ReplayResult.from_dict(self.replay).slices if self.replay is not None else ()
        changed = [part for part in slices if part.changed][:_MAX_SLICES]
        return [("replay", f"{part.share:.2%} of {part.rows:,} decisions of {part.name} changed") for part in changed]
