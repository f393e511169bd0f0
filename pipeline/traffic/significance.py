"""Tests of whether two samples are of one distribution, from counts alone.

A distance between a sample and the training data is never 0, and that of a few rows is large. A threshold alone
therefore alarms by chance. Each function here returns the probability that rows of the same distribution differ by at
least as much. Rows are taken as independent.

- Shares: Fisher's exact test, the hypergeometric distribution given the sum of both samples.
- Values that the training data lacks: Good's estimate. The chance that the next row has a new value is the share of
  values that occurred once. I. J. Good (1953), "The population frequencies of species and the estimation of population
  parameters", Biometrika 40.
- Numbers beyond all N of the training data: at most 2 / (N + 1) by exchangeability. S. S. Wilks (1941), "Determination
  of sample sizes for setting tolerance limits", Annals of Mathematical Statistics 12.
- Categories: Pearson's chi-square test of homogeneity. Categories of few expected rows are counted together: W. G.
  Cochran (1954), "Some methods for strengthening the common chi-square tests", Biometrics 10.
- Numbers: the largest difference of the distribution functions (Kolmogorov and Smirnov), bounded as by P. Massart
  (1990), "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality", Annals of Probability 18. And the rank sum
  of Wilcoxon, Mann and Whitney with the variance for ties: E. L. Lehmann (1975), "Nonparametrics", section 1.4. Both
  take values of any scale, and neither a mean nor a variance, which one outlier changes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from components.value_counts import ValueCounts

# Twice Cochran's 5: chances here are far smaller than his 1 %.
_MIN_EXPECTED = 10.0
# Terms of a tail beyond these standard deviations are below the precision of a float.
_TAIL_DEVIATIONS = 60


@dataclass(frozen=True)
class Difference:
    """The difference of two samples.

    Attributes:
      size: Largest difference of shares, from 0 to 1.
      chance: Probability of at least this difference in rows of one distribution.
    """

    size: float
    chance: float


def compare_shares(before: float, before_rows: float, now: float, now_rows: float) -> Difference:
    """Return the difference of two shares, by Fisher's exact test with twice the smaller tail.

    Args:
      before, now: Number of rows with the property in each sample.
      before_rows, now_rows: Number of rows of each sample.
    """
    rows, total = before_rows + now_rows, before + now
    if not before_rows or not now_rows or not total or total == rows:
        return Difference(0.0, 1.0)
    size = abs(now / now_rows - before / before_rows)
    mean = total * now_rows / rows
    deviation = math.sqrt(mean * (1 - total / rows) * (1 - now_rows / rows)) + 1
    reach = math.ceil(_TAIL_DEVIATIONS * deviation)
    if now > mean:
        hits = np.arange(now, min(total, now_rows, now + reach) + 1)
    else:
        hits = np.arange(max(0, total - before_rows, now - reach), now + 1)
    logs = (
        _compute_log_choose(total, hits)
        + _compute_log_choose(rows - total, now_rows - hits)
        - _compute_log_choose(np.array([rows]), np.array([now_rows]))
    )
    return Difference(size, min(1.0, 2 * float(np.exp(logs).sum())))


def _compute_log_choose(items: NDArray[np.float64] | float, chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (
        special.gammaln(items + 1.0) - special.gammaln(chosen + 1.0) - special.gammaln(items - chosen + 1.0)
    )
    return result


def compare_rate(hits: float, rows: float, rate: float) -> Difference:
    """Return how much a share exceeds a rate: the upper tail of the binomial distribution."""
    if not hits or not rows:
        return Difference(0.0, 1.0)
    return Difference(hits / rows, float(special.betainc(hits, rows - hits + 1, rate)))


def compare_categories(before: NDArray[np.float64], now: NDArray[np.float64]) -> Difference:
    """Return the difference of two samples of categories; [categories] counts each, in the same order."""
    before_rows, now_rows = float(before.sum()), float(now.sum())
    if not before_rows or not now_rows:
        return Difference(0.0, 1.0)
    size = float(np.abs(before / before_rows - now / now_rows).max())
    shares = (before + now) / (before_rows + now_rows)
    is_rare = shares * min(before_rows, now_rows) < _MIN_EXPECTED
    if is_rare.any():
        before = np.append(before[~is_rare], before[is_rare].sum())
        now = np.append(now[~is_rare], now[is_rare].sum())
        shares = (before + now) / (before_rows + now_rows)
        if shares[-1] * min(before_rows, now_rows) < _MIN_EXPECTED and len(shares) > 1:
            # With the rarest of the others.
            order = np.argsort(shares)
            keep, merged = order[2:], order[:2]
            before = np.append(before[keep], before[merged].sum())
            now = np.append(now[keep], now[merged].sum())
            shares = (before + now) / (before_rows + now_rows)
    if len(shares) < 2:
        return Difference(size, 1.0)
    square = sum(
        float((np.square(counts - shares * rows) / (shares * rows)).sum())
        for counts, rows in ((before, before_rows), (now, now_rows))
    )
    return Difference(size, float(special.chdtrc(len(shares) - 1, square)))


def compare_numbers(before: ValueCounts, now: ValueCounts) -> Difference:
    """Return the largest difference of two distribution functions, and the smaller chance of both tests, twice.

    Args:
      before: Counts whose bins are the points that are compared.
      now: Counts of the judged sample.
    """
    if not before.total or not now.total:
        return Difference(0.0, 1.0)
    rows, others = now.total, before.total
    up_to = now.count_up_to(before.high)
    size = float(np.abs(up_to / rows - np.cumsum(before.count) / others).max())
    largest = 2 * math.exp(-2 * size**2 * rows * others / (rows + others))
    # Values of `now` in the gap before a bin are in it, and those above the last bin have one of their own.
    cells = np.diff(np.concatenate([[0.0], up_to, [rows]]))
    counts = np.append(before.count, 0.0)
    below = np.cumsum(counts) - counts
    rank_sum = float((cells * (below + counts / 2)).sum())
    total = rows + others
    ties = float((np.power(cells + counts, 3) - (cells + counts)).sum())
    variance = rows * others / 12 * (total + 1 - ties / (total * (total - 1)))
    deviation = abs(rank_sum - rows * others / 2) / math.sqrt(variance) if variance > 0 else 0.0
    return Difference(size, min(1.0, 2 * min(largest, 2 * float(special.ndtr(-deviation)))))
