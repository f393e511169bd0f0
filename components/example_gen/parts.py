"""Finds the rows of a split that its parts take (`ColumnSplit`). Imports no TensorFlow."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cli.errors import DataError
from schemas.data import ColumnSplit, Data, HashSplit
from schemas.tables.ordering import MisfitError, within
from schemas.tables.typed_columns import Batch, Table

# Parts and shares of a split by name, in the order of the config.
Rules = Mapping[str, dict[str, Any]]


def collect_rules(data: Data) -> dict[str, dict[str, Any]]:
    """Return the parts and shares of a config by name, all of JSON's types."""
    return {
        name: split.model_dump(mode="json")
        for name, split in data.splits.items()
        if isinstance(split, HashSplit | ColumnSplit)
    }


def select_rules(rules: Rules, split: str) -> dict[str, dict[str, Any]]:
    """Return the parts and shares that are taken from a split."""
    return {name: rule for name, rule in rules.items() if rule["source"] == split}


def assign_parts(table: Table, batch: Batch, rules: Rules) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.bool_]]:
    """Return for each part whether a row is in it, [n], and whether a row is in none, [n].

    A row in two parts goes to the first; one without a value to none.

    Raises:
      DataError: a value cannot be compared with a part's bounds; names its place.
    """
    is_in_part = {}
    left = np.ones(len(batch.rows), dtype=bool)
    for name, rule in rules.items():
        if "column" in rule:
            is_in_part[name] = left & np.asarray(_match_part(table, batch, name, rule), dtype=bool)
            left = left & ~is_in_part[name]
    return is_in_part, left


def _match_part(table: Table, batch: Batch, name: str, rule: dict[str, Any]) -> Any:
    column = rule["column"]
    texts = batch.split_by[column]
    if rule["values"]:
        return pc.fill_null(pc.is_in(texts, pa.array(rule["values"])), False)
    try:
        return within(
            texts,
            at_least=rule["at_least"],
            below=rule["below"],
            date_format=rule["date_format"],
            numbers=table.reader.options.number_format,
            is_sensitive=column in table.columns.sensitive,
        )
    except MisfitError as misfit:
        row = int(batch.rows[misfit.index])
        place = table.reader.places([row]).get(row, table.path)
        raise DataError(f"{place}: {column}: {misfit.reason} (data.splits.{name})") from misfit
