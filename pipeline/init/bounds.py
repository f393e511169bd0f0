"""Computes bounds that the schema sets on shares, so that splits drawn by chance keep them."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from components.profile import Column
from pipeline.init.splits import Part

# Some bound of the schema fails by chance with this probability at most, over all columns and splits.
_FAILURE = 1e-4
# Of more rows, chance is small beside the margin for later data.
_MAX_ROWS = 20_000


def least_share(probability: float, rows: float, bounds: int) -> float:
    """Return the share of rows with a property that a random split falls below with a tiny probability.

    Args:
      probability: Share of the rows with the property in the table.
      rows: Number of independent rows of the split.
      bounds: Number of bounds that must hold together.
    """
    count = max(1, min(int(rows), _MAX_ROWS))
    # bdtr(k, n, p) is the probability of k or fewer.
    at_most = special.bdtr(np.arange(count + 1, dtype=np.float64), count, probability)
    return float(np.searchsorted(at_most, _FAILURE / max(1, bounds))) / count


def min_fraction(column: Column, parts: Sequence[Part], dependence: float, columns: int) -> float:
    """Return the least share of rows with a value, for `presence` in the schema.

    Args:
      column: Column that misses values.
      parts: Rows that the splits are made of.
      dependence: Number of rows that chance moves together, on average.
      columns: Number of columns with a bound.
    """
    is_present = np.asarray(column.texts.is_valid())
    # The margin is for later data, which miss somewhat more.
    least = 1 - 1.5 * column.missing_share - 0.02
    for part in parts:
        rows = int(np.count_nonzero(part.rows))
        if not rows:
            continue
        share = float(is_present[part.rows].mean())
        if part.share < 1:
            share = least_share(share, _smallest(part, rows) / dependence, columns * len(parts))
        least = min(least, share)
    return _rounded_down(max(0.0, least))


def min_domain_mass(column: Column, parts: Sequence[Part], dependence: float, columns: int) -> float:
    """Return the least share of values in the domain, for `distribution_constraints` in the schema.

    The next row has a new value about as often as the rows have one that occurs once (Good 1953, "The Population
    Frequencies of Species and the Estimation of Population Parameters").
    """
    singles = sum(1 for _, count in column.values if count == 1)
    if not singles:
        return 0.99
    smallest = min(_smallest(part, int(np.count_nonzero(part.rows))) for part in parts)
    share = least_share(1 - singles / column.present, smallest / dependence, columns * len(parts))
    return _rounded_down(min(0.99, share))


def _smallest(part: Part, rows: int) -> float:
    """Return the number of rows that a split has at least; its size is random too."""
    expected = part.share * rows
    return expected if part.share == 1 else max(1.0, expected - 4 * np.sqrt(expected * (1 - part.share)))


def _rounded_down(share: float) -> float:
    return float(np.floor(share * 100) / 100)
