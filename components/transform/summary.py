"""Summary of Transform."""

import re
from dataclasses import dataclass
from pathlib import Path

from cli.counts import count_text
from cli.node_summary import NodeSummary, Outputs, only_artifact


@dataclass(frozen=True)
class TransformSummary(NodeSummary):
    """Number of transformed columns."""

    columns: int

    @classmethod
    def read(cls, outputs: Outputs) -> "TransformSummary":
        folder = Path(only_artifact(outputs, "transform_graph").uri) / "transformed_metadata"
        text = (folder / "schema.pbtxt").read_text()
        return cls(len(re.findall("^feature {", text, re.MULTILINE)))

    @property
    def headline(self) -> str:
        return count_text(self.columns, "column")
