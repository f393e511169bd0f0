"""The kind `vocabulary_file`."""

from typing import Literal

from pydantic import PositiveInt

from schemas.features.base import CategoricalFeature
from schemas.features.columns import IdColumn, escape_name


class VocabularyFile(CategoricalFeature):
    """Categories given in a text file, one a line, in order of their ids."""

    kind: Literal["vocabulary_file"]
    file: str
    """The path; relative to the config's own folder."""
    oov_ids: PositiveInt = 1
    """How many ids the values outside the file are hashed to."""
    values: tuple[str, ...] = ()
    """Filled in from the file when the config is read; not to be written by hand."""

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        return (self.build_column(escape_name(name), len(self.values) + self.oov_ids, self.shared),)

    @property
    def categories(self) -> tuple[str, ...]:
        return self.values
