"""Summary of ExampleGen."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.counts import format_count
from cli.node_summary import NodeSummary, Outputs, get_only_artifact
from components.example_gen import component
from components.example_gen.input_fingerprint import FINGERPRINT_PROPERTY
from components.example_gen.split_findings import describe_copies, describe_labels


@dataclass(frozen=True)
class SourceExampleGenSummary(NodeSummary):
    """Splits of another ExampleGen, before its records are checked."""

    splits: Sequence[str]

    @classmethod
    def read(cls, outputs: Outputs) -> "SourceExampleGenSummary":
        return cls(json.loads(get_only_artifact(outputs, "examples").properties["split_names"].string_value))

    @property
    def headline(self) -> str:
        return f"splits {', '.join(self.splits)}"


@dataclass(frozen=True)
class ExampleGenSummary(NodeSummary):
    """Rows of the splits.

    Attributes:
      rows: Number of rows by split.
      rejected: Number of bad rows that are left out.
      unlabelled: Number of rows that are left out because they have no label.
      unlabelled_by_split: The same by the split whose files have them.
      labels: Counts of `LABELS_PROPERTY`.
      weights: Counts of `WEIGHTS_PROPERTY`; empty without a column of weights.
      equal_rows: Counts of `EQUAL_ROWS_PROPERTY`.
      rejects_file: File of the bad rows; None if there are none.
      fingerprint: Fingerprint of the input files; empty of records of another ExampleGen.
    """

    rows: Mapping[str, int]
    rejected: int
    unlabelled: int
    unlabelled_by_split: Mapping[str, int]
    labels: Mapping[str, Mapping[str, float]]
    weights: Mapping[str, Mapping[str, float]]
    equal_rows: Mapping[str, Any]
    rejects_file: str | None
    fingerprint: str = ""

    @classmethod
    def read(cls, outputs: Outputs) -> "ExampleGenSummary":
        artifact = get_only_artifact(outputs, "examples")
        properties = artifact.custom_properties
        rejected = int(properties[component.REJECTED_PROPERTY].int_value)
        return cls(
            rows=json.loads(properties[component.ROWS_PROPERTY].string_value),
            rejected=rejected,
            unlabelled=int(properties[component.UNLABELLED_PROPERTY].int_value),
            unlabelled_by_split=json.loads(properties[component.UNLABELLED_BY_SPLIT_PROPERTY].string_value),
            labels=json.loads(properties[component.LABELS_PROPERTY].string_value),
            weights=json.loads(properties[component.WEIGHTS_PROPERTY].string_value)
            if component.WEIGHTS_PROPERTY in properties
            else {},
            equal_rows=json.loads(properties[component.EQUAL_ROWS_PROPERTY].string_value),
            rejects_file=os.path.join(artifact.uri, component.REJECTS_FILE) if rejected else None,
            fingerprint=properties[FINGERPRINT_PROPERTY].string_value if FINGERPRINT_PROPERTY in properties else "",
        )

    @property
    def headline(self) -> str:
        left_out = f"; {format_count(self.rejected, 'bad row')} left out" if self.rejected else ""
        left_out += f"; {self.unlabelled:,} without a label left out" if self.unlabelled else ""
        spread = "; copies are spread" if self.equal_rows["spread"] else ""
        return f"{_format_rows(self.rows)} rows{left_out}{spread}"

    def format_lines(self) -> list[tuple[str, str]]:
        lines = [("data", f"{_format_rows(self.rows)} rows")]
        lines += [("labels", text) for text in describe_labels(self.labels)]
        if self.weights:
            lines += [("weighted", text) for text in describe_labels(self.weights)]
        lines += [("copies", text) for text in describe_copies(self.equal_rows)]
        if self.rejected:
            lines.append(("rejects", f"{format_count(self.rejected, 'bad row')} left out: {self.rejects_file}"))
        if self.unlabelled:
            splits = _format_rows({split: rows for split, rows in self.unlabelled_by_split.items() if rows})
            lines.append(("no label", f"{format_count(self.unlabelled, 'row')} left out (files of {splits})"))
        return lines


def _format_rows(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in rows.items())
