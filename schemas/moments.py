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
    def of(cls, values: Array, weights: Array | None = None) -> "Moments":
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


class WeightedMean(NamedTuple):
    """A mean of weighted numbers, and how sure it is.

    Attributes:
      moments: Moments of the numbers by their weights.
      by_square: Moments of the numbers by the squares of their weights.
    """

    moments: Moments = Moments()
    by_square: Moments = Moments()

    @classmethod
    def of(cls, values: Array, weights: Array) -> "WeightedMean":
        """Return the mean of numbers, float64 of shape [n]."""
        return cls(Moments.of(values, weights), Moments.of(values, weights**2))

    def merge(self, other: "WeightedMean") -> "WeightedMean":
        """Return the mean of the numbers of both."""
        return WeightedMean(merge_moments(self.moments, other.moments), merge_moments(self.by_square, other.by_square))

    @property
    def effective_rows(self) -> float:
        """The number of rows of equal weight that tell as much (Kish 1965, Survey Sampling); 0 without a weight."""
        return self.moments.weight**2 / self.by_square.weight if self.by_square.weight else 0.0

    @property
    def standard_error(self) -> float:
        """The deviation of the mean from that of other rows; infinite with fewer than two rows.

        Of equal weights it is std / sqrt(n). Weights count as those of a survey: a row of weight 2 is one observation.
        """
        rows = self.effective_rows
        if rows <= 1:
            return math.inf
        squares = self.by_square.squares + self.by_square.weight * (self.by_square.mean - self.moments.mean) ** 2
        return math.sqrt(squares * rows / (rows - 1)) / self.moments.weight

    def margin(self, confidence: float) -> float:
        """Return how far the mean of other rows may be below this one, by a one-sided interval of Student's (1908).

        Args:
          confidence: probability of the interval, such as 0.95.

        Returns:
          The margin; infinite with fewer than two effective rows.
        """
        if self.effective_rows <= 1:
            return math.inf
        return float(special.stdtrit(self.effective_rows - 1, confidence)) * self.standard_error
