"""Finds the rows of a column that a run rejects, with the code that the run reads them with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.counts import format_count
from pipeline.init.places import Places
from pipeline.profile.columns import Column
from schemas.data import CsvOptions, ReadOptions
from schemas.features import KINDS, FeatureSet, RegressionLabel
from schemas.tables.values import Fault, build_feature_rules, convert

# A column with more rows that do not fit cannot be a feature.
MAX_FAULTY_SHARE = 0.05


@dataclass(frozen=True)
class Faults:
    """Rows of a column that a run rejects.

    Attributes:
      rows: Whether each row is one of them; [n].
      first: Index of the first one.
      fault: What is wrong with it.
    """

    rows: NDArray[np.bool_]
    first: int
    fault: Fault

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.rows))

    @property
    def is_frequent(self) -> bool:
        """Whether so many rows have a fault that the column cannot be one."""
        return self.count > MAX_FAULTY_SHARE * len(self.rows)

    def describe(self, places: Places) -> str:
        """Return how many rows do not fit, and where and why the first one does not."""
        rows = format_count(self.count, "row", "do")
        return f"{rows} not fit, as in {places.describe(self.first)}: {self.fault.reason}"

    @property
    def remedy(self) -> str:
        if self.fault.kind in ("time", "date"):
            return "correct them, or name what stands for a missing value with --missing-value"
        return "correct them, or raise max_values" if "(max_values)" in self.fault.reason else "correct them"


def find_faults(column: Column, declared: Mapping[str, Any], csv: CsvOptions) -> Faults | None:
    """Return the rows of a column of strings or times that its declaration rejects; None if it takes all.

    Args:
      column: The column, null where a value is missing.
      declared: Declaration of the feature.
      csv: How strings are written.
    """
    if declared["kind"] != "timestamp" and KINDS[declared["kind"]].column_type != "string":
        return None
    feature = KINDS[declared["kind"]].model_validate(declared)
    label = RegressionLabel(column=f"not {column.name}", kind="regression")
    rule = build_feature_rules(FeatureSet(features={column.name: feature}, label=label), ReadOptions(csv=csv))[
        column.name
    ]
    faults = convert(column.texts, rule).faults
    if not faults:
        return None
    rows = np.zeros(column.rows, bool)
    rows[list(faults)] = True
    first = min(faults)
    return Faults(rows, first, faults[first])
