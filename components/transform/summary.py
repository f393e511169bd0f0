"""Summary of Transform."""

import re
from dataclasses import dataclass
from pathlib import Path

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, get_only_artifact


@dataclass(frozen=True)
class TransformSummary(NodeSummary):
    """Number of transformed columns."""

    columns: int

    @classmethod
    def read(cls, outputs: Outputs) -> "TransformSummary":
        folder = Path(get_only_artifact(outputs, "transform_graph").uri) / "transformed_metadata"
        text = (folder / "schema.pbtxt").read_text()
        return cls(len(re.findall("^feature {", text, re.MULTILINE)))

    @property
    def headline(self) -> str:
        return format_count(self.columns, "column")
