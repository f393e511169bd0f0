"""Summary of InfraValidator."""

import json
from dataclasses import dataclass

from cli.node_summary import NodeSummary, Outputs, only_artifact
from components.infra_validator.component import MEASURED_PROPERTY, Measured


@dataclass(frozen=True)
class InfraValidatorSummary(Measured, NodeSummary):
    """Measurements of the server with the model."""

    @classmethod
    def read(cls, outputs: Outputs) -> "InfraValidatorSummary":
        properties = only_artifact(outputs, "blessing").custom_properties
        return cls(**json.loads(properties[MEASURED_PROPERTY].string_value))

    @property
    def headline(self) -> str:
        speed = f"95% of rows within {self.p95_ms:.1f} ms, {self.memory_mb:,.0f} MB"
        return f"{self.golden_requests} golden requests answered alike, {speed}"
