"""The kind `vocabulary`."""

from typing import Literal

from pydantic import PositiveInt

from schemas.features.base import CategoricalFeature
from schemas.features.columns import IdColumn, escape_name


class Vocabulary(CategoricalFeature):
    """Categories learned from the training split, most frequent first."""

    learns_categories = True

    kind: Literal["vocabulary"]
    max_size: PositiveInt
    """At most so many categories are learned; rarer ones share the out-of-vocabulary ids."""
    min_count: PositiveInt = 1
    """Categories seen less often than this in the training split are out of vocabulary."""
    oov_ids: PositiveInt = 1
    """How many ids the values outside the vocabulary are hashed to."""

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        return (self.build_column(escape_name(name), self.max_size + self.oov_ids, self.shared),)
