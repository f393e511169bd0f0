"""Crosses of features."""

from typing import Annotated

from pydantic import Field, PositiveInt

from schemas.features.base import ModelUse
from schemas.features.columns import escape_name

CROSS_SEPARATOR = "_X_"


class Cross(ModelUse):
    """The combination of two or more categorical or bucketized features, hashed to `num_ids` ids."""

    features: Annotated[tuple[str, ...], Field(min_length=2)]
    num_ids: PositiveInt

    @property
    def name(self) -> str:
        """Name of the transformed column."""
        return CROSS_SEPARATOR.join(map(escape_name, self.features))
