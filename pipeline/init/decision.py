"""Everything that `init` decided about a table."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.init.bounds import Sample
from pipeline.init.crosses import ChosenCross
from pipeline.init.features import ChosenFeature
from pipeline.init.kinds import is_small, is_wide
from pipeline.init.label import ChosenLabel
from pipeline.init.network import Network, choose_network
from pipeline.init.notes import Notes
from pipeline.init.requests import Requests
from pipeline.init.source import TableSource
from pipeline.init.splits import SplitPlan
from pipeline.init.table import RawTable
from pipeline.profile.columns import Column
from pipeline.profile.targets import Target
from schemas.data import MIN_DISTINCT_ROWS
from schemas.tables.row_hash import row_hashes


@dataclass(frozen=True)
class Decision:
    """All decisions that the config and the schema are written from.

    Attributes:
      name: Name of the pipeline.
      source: Files, and how they are written.
      table: What was found in them.
      requests: Choices of the user.
      plan: How the rows with a label are divided into splits.
      label: The label.
      label_column: Its values, in the rows that have one.
      target: The same as class IDs or numbers.
      features: Columns that become features.
      faulty_rows: Number of rows with a value that its feature rejects.
      ignored: Columns that are excluded, each with the reason.
      crosses: Pairs of features that are crossed.
      notes: Notes that the user should check.
      config_folder: Folder of the config; its paths are relative to it.
      schema_path: File of the schema.
    """

    name: str
    source: TableSource
    table: RawTable
    requests: Requests
    plan: SplitPlan
    label: ChosenLabel
    label_column: Column
    target: Target
    features: list[ChosenFeature]
    faulty_rows: int
    ignored: list[tuple[str, str]]
    crosses: list[ChosenCross]
    notes: Notes
    config_folder: Path
    schema_path: Path

    @property
    def rows(self) -> int:
        """The number of rows that have a label."""
        return self.label_column.rows

    @property
    def read_only_columns(self) -> list[str]:
        """The columns that are neither features nor the label: ignored ones, the group's, and that of the times."""
        names = [name for name, _ in self.ignored] + [self.requests.group or "", self.requests.time or ""]
        features = {feature.column.name for feature in self.features}
        return [name for name in names if name and name not in features]

    @property
    def left_out(self) -> str:
        """Rows that are left out because they do not fit, in words; empty if none are."""
        counts = {
            "rows of rare classes": self.label.rare_rows,
            "rows with a string among numbers": self.table.bad_rows,
            "rows with a value that does not fit": self.faulty_rows,
            "rows with a wrong number of fields": self.table.ragged,
        }
        return " and ".join(
            f"{count:,} {text if count > 1 else text.replace('rows', 'row', 1)}"
            for text, count in counts.items()
            if count
        )

    @property
    def left_out_rows(self) -> int:
        return self.label.rare_rows + self.table.bad_rows + self.faulty_rows + self.table.ragged

    @cached_property
    def network(self) -> Network:
        """The network and its training."""
        train = self.plan.parts["train"]
        labels = self.target.labels[train.rows]
        return choose_network(
            labels,
            round(len(labels) * train.share),
            self.target.classes,
            len(self.features),
            wide=is_wide(self.rows, len(self.table.columns)),
            small=is_small(self.rows, self.target.classes),
        )

    @cached_property
    def samples(self) -> list[Sample]:
        """The rows of the splits, for the bounds of the schema."""
        is_exact = self.requests.group is None and self.distinct_rows < MIN_DISTINCT_ROWS
        units = self.distinct_rows
        if self.requests.group is not None:
            units = self.table.columns[self.requests.group].distinct
        dependence = 1.0 if is_exact else self.rows / max(1, units)
        return [Sample.from_part(part, dependence=dependence, is_exact=is_exact) for part in self.plan.parts.values()]

    @cached_property
    def distinct_rows(self) -> int:
        """The number of rows that differ in a feature."""
        columns = {
            feature.column.name: pa.array(feature.column.numbers.astype(np.float32))
            if feature.declared["kind"] in ("numeric", "identity")
            else feature.column.texts.cast(pa.binary())
            for feature in self.features
        }
        return len(np.unique(row_hashes(pa.RecordBatch.from_pydict(columns), list(columns))))
