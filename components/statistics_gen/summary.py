"""Summary of StatisticsGen."""

from dataclasses import dataclass
from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, get_only_artifact


@dataclass(frozen=True)
class StatisticsGenSummary(NodeSummary):
    """Number of columns that have statistics."""

    columns: int

    @classmethod
    def read(cls, outputs: Outputs) -> "StatisticsGenSummary":
        file = next(Path(get_only_artifact(outputs, "statistics").uri).glob("Split-*/FeatureStats.pb"))
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes())
        return cls(len(statistics.datasets[0].features))

    @property
    def headline(self) -> str:
        return format_count(self.columns, "column")
