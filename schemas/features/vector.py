"""The kind `vector`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from schemas.features.base import BaseFeature
from schemas.features.columns import NumberColumn, NumberEncoding, escape_name


class Vector(BaseFeature):
    """A fixed number of numbers in each row, such as an embedding.

    It is a list of Parquet, several values of tf.Example, or a string such as `[0.1, 0.2]`.
    """

    column_type = "string"
    expression_type = "list"

    kind: Literal["vector"]
    length: PositiveInt
    """Number of numbers in each row; any other is a bad row."""
    delimiter: Annotated[str, Field(min_length=1)] = ","
    """The string between the numbers; brackets around them are left out."""
    scale: Literal["z_score", "identity"] = "z_score"
    """Each number is scaled by its own mean and deviation, or not at all."""
    encoding: NumberEncoding = "number"
    """Input of the deep part for the numbers."""
    missing: Literal["zeros"] | None = None
    """With `zeros`, a missing vector is the training mean in each place, or 0 without a scale. If omitted, a missing
    value is an error."""

    def list_number_columns(self, name: str) -> tuple[NumberColumn, ...]:
        return (NumberColumn(escape_name(name), self.wide, self.encoding, self.length),)

    @property
    def cross_problem(self) -> str | None:
        return "a vector of numbers, which has no ids"
