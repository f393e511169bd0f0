"""Weight, mean and sum of squares of numbers that are seen in parts. Imports no TensorFlow."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# TFMA requires SciPy and imports it.
from scipy import special

Array = NDArray[Any]


class Moments(NamedTuple):
    """Moments of some numbers.

    Attributes:
      weight: Sum of their weights; without weights, how many there are.
      mean: Their mean; 0 of none.
      squares: Sum of the squared distances from the mean. A plain sum of squares loses digits of numbers far from 0.
    """

    weight: float = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def from_values(cls, values: Array, weights: Array | None = None) -> "Moments":
        """Return the moments of numbers, float64 of shape [n]; without weights, all weigh 1."""
        weight = len(values) if weights is None else float(weights.sum())
        if not weight:
            return cls()
        mean = float(np.average(values, weights=weights))
        squares = (values - mean) ** 2
        return cls(weight, mean, float((squares if weights is None else squares * weights).sum()))


def merge_moments(moments: Moments, other: Moments) -> Moments:
    """Return the moments of the numbers of both.

    Chan, Golub and LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    equation 2.1.
    """
    if not other.weight:
        return moments
    weight = moments.weight + other.weight
    apart = other.mean - moments.mean
    return Moments(
        weight,
        moments.mean + apart * other.weight / weight,
        moments.squares + other.squares + apart**2 * moments.weight * other.weight / weight,
    )


def count_effective_rows(weights: Array) -> float:
    """Return the number of rows of equal weight with the same information; 0 without a weight.

    Kish (1965), Survey Sampling.
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def bound_mean(values: Array, weights: Array, confidence: float) -> float:
    """Return the lower end of the one-sided interval of a mean (Student 1908), for numbers too many to be resampled.

    Weights count as those of a survey: a row of weight 2 is one observation.

    Args:
      values: numbers, float64 of shape [n].
      weights: their weights.
      confidence: probability of the interval, such as 0.95.

    Returns:
      The lower end; minus infinity with fewer than two effective rows.
    """
    rows = count_effective_rows(weights)
    if rows <= 1:
        return -math.inf
    mean = float(np.average(values, weights=weights))
    squares = float((weights**2 * (values - mean) ** 2).sum())
    error = math.sqrt(squares * rows / (rows - 1)) / float(weights.sum())
    return mean - float(special.stdtrit(rows - 1, confidence)) * error
