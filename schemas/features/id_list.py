"""The kind `list`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from schemas.features.tokens import Bag


class IdList(Bag):
    """Several categories in each row: a list of Parquet, several values of tf.Example, or a string such as
    `Action|Comedy`.
    """

    expression_type = "list"

    kind: Literal["list"]
    delimiter: Annotated[str, Field(min_length=1)] = "|"
    """The string between the values. Spaces around a value are removed, and empty values are left out. A value of a
    list that holds the delimiter is a bad row."""
    max_values: PositiveInt = 32
    """Limit on the values of a row; a row with more is a bad row."""

    @property
    def width(self) -> int:
        return self.max_values
