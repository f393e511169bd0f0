"""Summary of StatisticsGen."""

from dataclasses import dataclass
from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.counts import count_text
from cli.node_summary import NodeSummary, Outputs, only_artifact


@dataclass(frozen=True)
class StatisticsGenSummary(NodeSummary):
    """Number of columns that have statistics."""

    columns: int

    @classmethod
    def read(cls, outputs: Outputs) -> "StatisticsGenSummary":
        file = next(Path(only_artifact(outputs, "statistics").uri).glob("Split-*/FeatureStats.pb"))
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes())
        return cls(len(statistics.datasets[0].features))

    @property
    def headline(self) -> str:
        return count_text(self.columns, "column")
