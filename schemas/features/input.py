"""The kind `input`."""

from typing import Literal

from schemas.expressions import Type
from schemas.features.base import BaseFeature
from schemas.features.columns import ColumnType


class Input(BaseFeature):
    """A column that only expressions of other features use. It is read, checked and served; the network does
    not have it. An expression sees whether it is missing.
    """

    kind: Literal["input"]
    type: Literal["number", "string"]
    """Type of the values. For times, declare a `timestamp`, whose `parts` may be empty."""
    missing: Literal["allowed"] | None = None
    """With `allowed`, a value may be missing. If omitted, a missing value is an error."""

    @property
    def column_type(self) -> ColumnType:  # type: ignore[override]
        return "float" if self.type == "number" else "string"

    @property
    def expression_type(self) -> Type:  # type: ignore[override]
        return self.type

    @property
    def cross_problem(self) -> str | None:
        return "which has no ids; derive a feature from it"
