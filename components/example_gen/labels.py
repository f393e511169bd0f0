"""Counts of labels by split: rows of each class, or the mean and the deviation of numbers; and the same by weight."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.moments import Moments, merge_moments

# Rows of each class; or of numbers `rows`, `mean` and `m2`, the sum of the squared distances from the mean. By weight,
# a number of rows is the sum of their weights.
LabelCounts = Mapping[str, float]


def count_labels(labels: pa.Array, weights: pa.Array | None = None) -> LabelCounts:
    """Count the labels of some rows.

    Args:
      labels: classes (binary) or numbers of at least one row; none is missing.
      weights: weights of the rows, float32; if omitted, all weigh 1.
    """
    weight = None if weights is None else weights.to_numpy().astype(np.float64)
    if pa.types.is_floating(labels.type):
        moments = Moments.from_values(labels.to_numpy().astype(np.float64), weight)
        return {"rows": moments.weight, "mean": moments.mean, "m2": moments.squares}
    if weight is not None:
        encoded = labels.cast(pa.string()).dictionary_encode()
        sums = np.bincount(encoded.indices.to_numpy(), weight, minlength=len(encoded.dictionary))
        return dict(zip(encoded.dictionary.to_pylist(), sums.tolist(), strict=True))
    value_counts = pc.value_counts(labels.cast(pa.string())).to_pylist()
    return {entry["values"]: entry["counts"] for entry in value_counts}


def merge_label_counts(counts: Iterable[LabelCounts], classes: Sequence[str]) -> dict[str, float]:
    """Add up the counts of pieces.

    Args:
      counts: counts of each piece; a piece without rows has none.
      classes: all classes, in order; empty for numbers.

    Returns:
      rows of each class, 0 where it has none; or `rows`, `mean` and `m2`.
    """
    pieces = list(counts)
    if classes:
        return {value: sum(piece.get(value, 0) for piece in pieces) for value in classes}
    moments = Moments()
    for piece in filter(None, pieces):
        moments = merge_moments(moments, Moments(piece["rows"], piece["mean"], piece["m2"]))
    return {"rows": moments.weight, "mean": moments.mean, "m2": moments.squares}


def summarize_label_counts(counts: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Return merged counts as they are recorded: of numbers `rows`, `mean` and `std` (of the population)."""
    if classes:
        return dict(counts)
    std = math.sqrt(counts["m2"] / counts["rows"]) if counts["rows"] else 0.0
    return {"rows": counts["rows"], "mean": counts["mean"], "std": std}
