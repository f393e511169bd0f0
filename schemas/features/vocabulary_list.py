"""The kind `vocabulary_list`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from schemas.features.base import CategoricalFeature, check_distinct
from schemas.features.columns import IdColumn, escape_name


class VocabularyList(CategoricalFeature):
    """Categories given here, in order of their ids."""

    kind: Literal["vocabulary_list"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    oov_ids: PositiveInt = 1
    """How many ids the values outside the list are hashed to."""

    @field_validator("values")
    @classmethod
    def _check_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_distinct(value)

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        return (self.build_column(escape_name(name), len(self.values) + self.oov_ids, self.shared),)

    @property
    def categories(self) -> tuple[str, ...]:
        return self.values
