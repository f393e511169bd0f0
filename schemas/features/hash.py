"""The kind `hash`."""

from typing import Literal

from pydantic import PositiveInt

from schemas.features.base import CategoricalFeature
from schemas.features.columns import IdColumn, escape_name


class Hash(CategoricalFeature):
    """Any string, hashed to `num_ids` ids; for categories too many to list, some of which collide."""

    kind: Literal["hash"]
    num_ids: PositiveInt

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        return (self.build_column(escape_name(name), self.num_ids, self.shared),)
