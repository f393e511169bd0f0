"""64-bit hashes of rows, by which equal rows are recognised and rows are shared out. Imports no TensorFlow.

A hash is taken of typed values, so neither the file's format nor the order of its columns changes it, and 1 and 1.0 are
the same number. Two of 10 million different rows have the same hash with a probability of 3 in a million.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MISSING = blake2b(b"missing", digest_size=8).digest()
# Makes where a row falls independent of the bits by which rows are sampled.
_POINT = np.uint64(0xD1B54A32D192ED03)


def hash_rows(columns: pa.RecordBatch, names: Sequence[str]) -> Hashes:
    """Return the hash of each row, [n]; a missing value and NaN are one value.

    Args:
      columns: binary or numbers, null where a value is missing.
      names: columns to hash, in any order.
    """
    hashes = np.zeros(columns.num_rows, np.uint64)
    for name in names:
        hashes += mix(_encode_values(columns.column(name)) ^ _encode_text(name.encode()))
    return mix(hashes)


def hash_columns(columns: pa.RecordBatch) -> Hashes:
    """Return for each column a hash of its values, and one of the rows without it, [columns, 2].

    Both are sums, so that the order of the rows does not matter and those of two batches add up. A column whose values
    are the same and whose other columns are the same, while the rows are not, was shuffled.
    """
    cells = [mix(_encode_values(columns.column(name)) ^ _encode_text(name.encode())) for name in columns.schema.names]
    rows = np.sum(cells, axis=0, dtype=np.uint64)
    sums = [[cell.sum(dtype=np.uint64), mix(rows - cell).sum(dtype=np.uint64)] for cell in cells]
    return np.array(sums, np.uint64).reshape(-1, 2)


def hash_values(values: pa.Array) -> Hashes:
    """Return the hash of each string, [n]; all missing ones have the same."""
    return mix(_encode_values(values.cast(pa.binary())))


def compute_points(hashes: Hashes, occurrences: NDArray[np.int64] | None = None) -> Hashes:
    """Return a number for each row, uniform in [0, 2**64), by which shares are taken.

    Args:
      hashes: hashes of the rows, [n].
      occurrences: number of each row among those that are equal to it; if omitted, equal rows have the same point.
    """
    start = hashes ^ _POINT
    return mix(start if occurrences is None else start + occurrences.astype(np.uint64) * _GOLDEN)


def _encode_values(column: pa.Array) -> Hashes:
    """Return a number for each value, by its type; equal values have the same."""
    if pa.types.is_binary(column.type):
        encoded = column.dictionary_encode()
        digests = b"".join([blake2b(value, digest_size=8).digest() for value in encoded.dictionary.to_pylist()])
        codes: Hashes = np.frombuffer(digests + _MISSING, "<u8")
        indices: NDArray[np.int32] = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()
        return codes[indices]
    numbers: NDArray[Any] = column.fill_null(0).to_numpy()
    missing = np.asarray(column.is_null())
    if pa.types.is_floating(column.type):
        missing = missing | np.isnan(numbers)
        # 0.0 and -0.0 are equal.
        numbers = numbers.astype(np.float64) + 0.0
    return np.where(missing, np.frombuffer(_MISSING, "<u8"), numbers.view(np.uint64))


def _encode_text(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(text, digest_size=8).digest(), "little"))


def mix(numbers: Hashes) -> Hashes:
    """Return numbers whose bits all depend on all bits of the given ones, [n].

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators").
    """
    bits = numbers + _GOLDEN
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
