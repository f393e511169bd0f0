"""Count, mean and sum of squares of numbers that are seen in parts. Imports no TensorFlow."""

from typing import NamedTuple


class Moments(NamedTuple):
    """Moments of some numbers.

    Attributes:
      rows: How many there are.
      mean: Their mean; 0 of none.
      squares: Sum of the squared distances from the mean. A plain sum of squares loses digits of numbers far from 0.
    """

    rows: int = 0
    mean: float = 0.0
    squares: float = 0.0


def merge_moments(moments: Moments, other: Moments) -> Moments:
    """Return the moments of the numbers of both.

    Chan, Golub and LeVeque (1979), "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    equation 2.1.
    """
    if not other.rows:
        return moments
    rows = moments.rows + other.rows
    apart = other.mean - moments.mean
    return Moments(
        rows,
        moments.mean + apart * other.rows / rows,
        moments.squares + other.squares + apart**2 * moments.rows * other.rows / rows,
    )
