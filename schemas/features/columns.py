"""Transformed columns: their names, and how the model uses them."""

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

ColumnType = Literal["float", "int", "string"]
Embedding = Annotated[int, Field(ge=1)] | Literal["one_hot", "none"]
NumberEncoding = Literal["number", "piecewise_linear", "none"]

# The value that stands for a missing one in a graph, which has no nulls. For an integer it is the least one: -1 may be
# a value.
MISSING: Mapping[ColumnType, bytes | float | int] = {"string": b"", "float": float("nan"), "int": -(2**63)}

# The transformed column of the rows' weights; no name that `escape_name` returns starts with an underscore.
TRANSFORMED_WEIGHT = "_weight"


@dataclass(frozen=True)
class IdColumn:
    """A transformed column of ids in `[0, num_ids)`, and what the model does with them.

    Attributes:
      name: Name of the column.
      num_ids: Number of ids.
      wide: Whether the wide part has a weight for each id.
      embedding: Input of the deep part.
      width: Number of ids in each row.
      weights: Name of the number column that has the weight of each id of a row; None if each row has one id.
      table: Name of the embedding that several columns share; None for an embedding of its own.
    """

    name: str
    num_ids: int
    wide: bool
    embedding: Embedding
    width: int = 1
    weights: str | None = None
    table: str | None = None


@dataclass(frozen=True)
class NumberColumn:
    """A transformed column of one scaled number, or of `width` numbers in each row."""

    name: str
    wide: bool
    encoding: NumberEncoding | None = None
    width: int = 1


def choose_dimension(values: int) -> int:
    """Return the size of an embedding; a few sizes only, since columns of one size share a table.

    Args:
      values: Number of distinct values.
    """
    return 4 if values <= 8 else 8 if values <= 200 else 16


@lru_cache(maxsize=1 << 14)
def escape_name(column: str) -> str:
    """Return the name of a column inside the graph and the served model, where TensorFlow expects Python's names, in
    ASCII.

    >>> escape_name("monthly charge"), escape_name("1st.été"), escape_name("class")
    ('monthly_charge', 'c_1st_u00e9tu00e9', 'c_class')
    """
    name = "".join(_escape_character(character) for character in column)
    return name if name[:1].isalpha() and not keyword.iskeyword(name) else f"c_{name}"


def _escape_character(character: str) -> str:
    if not character.isascii():
        return f"u{ord(character):04x}"
    return character if character.isalnum() else "_"
