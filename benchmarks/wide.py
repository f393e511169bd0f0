"""Wide tables, such as those of surveys and sensors: hundreds or thousands of columns of every kind.

Of twenty columns, eleven hold numbers (some of them missing, some with a long tail, some mostly zero), three small
integers, and six strings. A few columns of each kind tell something about the label.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

LABEL = "outcome"
_KINDS = ("normal", "partial", "tail", "zeros", "integer", "string")
# Columns of each kind among twenty.
_SHARES = (5, 2, 2, 2, 3, 6)
_INFORMATIVE = 12
_MISSING_SHARE, _ZERO_SHARE = 0.1, 0.7


def write_table(file: Path, *, columns: int, rows: int, seed: int = 0) -> None:
    """Write a CSV file of so many columns and a binary label; the same seed gives the same file."""
    random = np.random.default_rng(seed)
    values = dict(_columns(columns, rows, random))
    file.parent.mkdir(parents=True, exist_ok=True)
    score = sum(_standardize(values[name]) for name in list(values)[:_INFORMATIVE])
    odds = np.exp(0.6 * np.asarray(score))
    label = np.where(random.random(rows) < odds / (1 + odds), "yes", "no")
    pa.csv.write_csv(pa.table({**values, LABEL: pa.array(label)}), file)


def _columns(columns: int, rows: int, random: np.random.Generator) -> Iterator[tuple[str, pa.Array]]:
    kinds = np.repeat(_KINDS, _SHARES)
    for number in range(columns):
        kind = str(kinds[(number * 7) % len(kinds)])
        yield f"{kind}_{number:04d}", _values(kind, rows, random)


def _values(kind: str, rows: int, random: np.random.Generator) -> pa.Array:
    match kind:
        case "normal":
            return pa.array(random.normal(random.uniform(-5, 50), random.uniform(1, 10), rows).round(3))
        case "partial":
            return pa.array(random.gamma(2, 10, rows).round(2), mask=random.random(rows) < _MISSING_SHARE)
        case "tail":
            return pa.array(random.lognormal(5, 1.5, rows).round(2))
        case "zeros":
            return pa.array(np.where(random.random(rows) < _ZERO_SHARE, 0.0, random.gamma(2, 40, rows).round(1)))
        case "integer":
            return pa.array(random.integers(0, random.integers(3, 30), rows))
        case _:
            return _strings(rows, random)


def _strings(rows: int, random: np.random.Generator) -> pa.Array:
    # Frequencies as Zipf has them; the last sizes are beyond what a schema lists.
    size = int(random.choice([2, 3, 5, 8, 12, 30, 90, 400, 2_000]))
    shares = 1 / np.arange(1, size + 1)
    indices = random.choice(size, rows, p=shares / shares.sum())
    names = pa.array([f"value {number}" for number in range(size)])
    mask = pa.array(random.random(rows) < (_MISSING_SHARE if size == 5 else 0))
    return pa.compute.if_else(mask, pa.scalar(None, pa.string()), names.take(pa.array(indices)))


def _standardize(values: pa.Array) -> NDArray[np.float64]:
    if pa.types.is_string(values.type):
        return np.asarray(pa.compute.equal(pa.compute.fill_null(values, ""), "value 0"), np.float64) - 0.5
    numbers: NDArray[np.float64] = np.nan_to_num(np.asarray(values, np.float64))
    standardized: NDArray[np.float64] = (numbers - numbers.mean()) / numbers.std()
    return standardized
