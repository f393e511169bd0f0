"""Computes bounds that the schema sets on shares, so that splits drawn by chance keep them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.init.splits import Rows, SplitPart
from pipeline.profile.columns import Column

# Some bound of the schema fails by chance with this probability at most, over all columns and splits.
_FAILURE = 1e-4
# Of more rows, chance is small beside the margin for later data.
_MAX_ROWS = 20_000
# A share taken by a hash has fewer rows than expected by more standard deviations once in 30,000 divisions.
_SIZE_DEVIATIONS = 4.0


def compute_least_share(probability: float, rows: float, bounds: int) -> float:
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


@dataclass(frozen=True)
class Sample:
    """Rows of a split that a bound must hold for.

    Attributes:
      rows: Whether each row of the table may be in the split.
      size: Number of independent rows that chance draws of them at least; None if the split has all of them.
    """

    rows: Rows
    size: float | None = None

    @classmethod
    def from_part(cls, part: SplitPart, *, dependence: float, is_exact: bool) -> "Sample":
        """Return the sample of a part.

        Args:
          part: Rows that a split is made of.
          dependence: Number of rows that fall into one split together, on average.
          is_exact: Whether a share has exactly the declared number of rows.
        """
        if part.share == 1:
            return cls(part.rows)
        expected = part.share * int(np.count_nonzero(part.rows)) / dependence
        least = expected if is_exact else expected - _SIZE_DEVIATIONS * math.sqrt(expected * (1 - part.share))
        return cls(part.rows, max(1.0, least))


def compute_min_fraction(column: Column, samples: Sequence[Sample], columns: int) -> float:
    """Return the least share of rows with a value, for `presence` in the schema.

    Args:
      column: Column that misses values.
      samples: Rows of the splits.
      columns: Number of columns with a bound.
    """
    is_present = np.asarray(column.texts.is_valid())
    # The margin is for later data, which miss somewhat more.
    least = 1 - 1.5 * column.missing_share - 0.02
    for sample in samples:
        if sample.rows.any():
            share = float(is_present[sample.rows].mean())
            bounds = columns * len(samples)
            least = min(least, share if sample.size is None else compute_least_share(share, sample.size, bounds))
    return _round_down(max(0.0, least))


def compute_min_domain_mass(column: Column, samples: Sequence[Sample], columns: int) -> float:
    """Return the least share of values in the domain, for `distribution_constraints` in the schema.

    The next row has a new value about as often as the rows have one that occurs once (Good 1953, "The Population
    Frequencies of Species and the Estimation of Population Parameters").
    """
    singles = sum(1 for _, count in column.values if count == 1)
    if not singles:
        return 0.99
    smallest = min(int(np.count_nonzero(sample.rows)) if sample.size is None else sample.size for sample in samples)
    return _round_down(min(0.99, compute_least_share(1 - singles / column.present, smallest, columns * len(samples))))


def _round_down(share: float) -> float:
    return math.floor(share * 100 + 1e-9) / 100
