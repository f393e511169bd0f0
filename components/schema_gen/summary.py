"""Summary of SchemaGen."""

import re
from dataclasses import dataclass
from pathlib import Path

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, get_only_artifact


@dataclass(frozen=True)
class SchemaGenSummary(NodeSummary):
    """Number of features in the schema."""

    features: int

    @classmethod
    def read(cls, outputs: Outputs) -> "SchemaGenSummary":
        (file,) = Path(get_only_artifact(outputs, "schema").uri).glob("*.pbtxt")
        return cls(len(re.findall("^feature {", file.read_text(), re.MULTILINE)))

    @property
    def headline(self) -> str:
        return format_count(self.features, "feature")
