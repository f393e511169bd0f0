"""Names of slices: the rows that have certain values in some columns. Imports no TensorFlow."""

from collections.abc import Iterable
from typing import Any

# All rows.
OVERALL = "overall"


def name_slice(key: Iterable[tuple[str, Any]]) -> str:
    """Return the name of a slice by its columns and their values."""
    return " x ".join(f"{column}={value}" for column, value in key) or OVERALL
