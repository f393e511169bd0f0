"""Summary of ExampleValidator."""

from dataclasses import dataclass
from pathlib import Path

from cli.node_summary import NodeSummary, Outputs, get_only_artifact
from components.example_validator.anomalies import ANOMALIES_FILE, list_anomalies, parse_anomalies


@dataclass(frozen=True)
class ExampleValidatorSummary(NodeSummary):
    """Number of anomalies in all splits."""

    anomalies: int

    @classmethod
    def read(cls, outputs: Outputs) -> "ExampleValidatorSummary":
        files = Path(get_only_artifact(outputs, "anomalies").uri).glob(f"Split-*/{ANOMALIES_FILE}")
        return cls(sum(len(list_anomalies(parse_anomalies(file.read_bytes()), file.parent.name)) for file in files))

    @property
    def headline(self) -> str:
        return f"{self.anomalies} anomalies" if self.anomalies else "no anomalies"
