"""A column that a `preprocessing_fn` of the user's own returns beside the declared ones."""

from pydantic import PositiveInt

from schemas.declaration import Declaration
from schemas.features.columns import IdColumn, NumberColumn, choose_dimension


class OwnColumn(Declaration):
    """A transformed column without a declaration: float32 numbers, or int64 ids in a known range."""

    name: str
    num_ids: PositiveInt | None = None
    """Number of ids; None for numbers."""
    width: PositiveInt = 1
    """Number of values in each row; for the network, ids have one."""

    @property
    def id_columns(self) -> tuple[IdColumn, ...]:
        """The column, if it has ids: for the wide part, and embedded for the deep part."""
        if self.num_ids is None:
            return ()
        embedding = choose_dimension(self.num_ids)
        return (IdColumn(self.name, self.num_ids, wide=True, embedding=embedding, width=self.width),)

    @property
    def number_columns(self) -> tuple[NumberColumn, ...]:
        """The column, if it has numbers: for both parts."""
        return (NumberColumn(self.name, wide=True, width=self.width),) if self.num_ids is None else ()
