"""Buckets of a numeric feature."""

import struct
from typing import Annotated, Literal

from pydantic import Field, field_validator

from schemas.declaration import Declaration


class Quantiles(Declaration):
    """Buckets of equal share, their boundaries learned from the training split."""

    kind: Literal["quantiles"]
    count: Annotated[int, Field(ge=2)]
    """How many buckets; where values repeat a lot some stay empty."""

    @property
    def num_ids(self) -> int:
        return self.count


class NonzeroQuantiles(Declaration):
    """One bucket for exactly zero and quantiles of all other values, for columns that are mostly zero."""

    kind: Literal["nonzero_quantiles"]
    count: Annotated[int, Field(ge=2)]
    """How many buckets the non-zero values get; zero has one more of its own."""

    @property
    def num_ids(self) -> int:
        return self.count + 1


class Boundaries(Declaration):
    """Buckets with given boundaries: below the first, between two, from the last on."""

    kind: Literal["boundaries"]
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)]
    """In ascending order; a value equal to a boundary belongs to the bucket above it."""

    @field_validator("boundaries")
    @classmethod
    def _check_ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("boundaries must be in ascending order without repeats")
        if len({as_float32(boundary) for boundary in value}) < len(value):
            raise ValueError("two boundaries are the same number in float32, in which values are compared with them")
        return value

    @property
    def num_ids(self) -> int:
        return len(self.boundaries) + 1


Buckets = Annotated[Quantiles | NonzeroQuantiles | Boundaries, Field(discriminator="kind")]


def as_float32(number: float) -> float:
    """Return a number rounded to float32.

    Raises:
      ValueError: the number is beyond float32.
    """
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError as error:
        raise ValueError(f"{number:g} is beyond float32, in which numbers are computed") from error
