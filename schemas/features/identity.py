"""The kind `identity`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from schemas.features.base import SharedIds
from schemas.features.columns import IdColumn, escape_name


class Identity(SharedIds):
    """An integer that is its own ID, in `[0, num_ids)`. A value outside is counted, and gets the nearest ID."""

    column_type = "int"
    expression_type = "number"

    kind: Literal["identity"]
    num_ids: PositiveInt
    missing: Annotated[int, Field(ge=0)] | None = None
    """The id that a missing value becomes. If omitted, a missing value is an error."""

    @model_validator(mode="after")
    def _check_missing_in_range(self) -> "Identity":
        if self.missing is not None and self.missing >= self.num_ids:
            raise ValueError(f"missing: {self.missing} is not below num_ids: {self.num_ids}")
        return self

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        return (self.build_column(escape_name(name), self.num_ids, self.shared),)

    @property
    def raw_num_ids(self) -> int:
        return self.num_ids
