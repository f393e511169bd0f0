"""The base of lists and texts: tokens, each with an id, in one bag for each row."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, PositiveInt, Tag, model_validator

from schemas.declaration import Declaration
from schemas.expressions import Type
from schemas.features.base import BaseFeature
from schemas.features.columns import IdColumn, NumberColumn, escape_name

Combiner = Literal["sum", "mean", "sqrtn"]
WEIGHTS_SUFFIX = "_weights"
# Names the file of the number of rows that have each learned token, after the name of the column.
FREQUENCIES_SUFFIX = "_frequencies"


class LearnedTokens(Declaration):
    """Tokens learned from the training split, most frequent first."""

    kind: Literal["vocabulary"] = "vocabulary"
    max_size: PositiveInt = 10_000
    """Limit on the number of tokens that are learned; rarer tokens share one id."""
    min_count: PositiveInt = 1
    """Tokens of fewer rows than this are not learned."""

    @property
    def num_ids(self) -> int:
        return self.max_size + 1


class HashedTokens(Declaration):
    """Any token, hashed to `num_ids` ids, some of which collide."""

    kind: Literal["hash"]
    num_ids: PositiveInt


def _find_tokens_kind(tokens: object) -> str:
    """Return the kind of a declaration; one without a kind is learned."""
    kind = tokens.get("kind", "vocabulary") if isinstance(tokens, dict) else getattr(tokens, "kind", None)
    return str(kind)


Tokens = Annotated[
    Annotated[LearnedTokens, Tag("vocabulary")] | Annotated[HashedTokens, Tag("hash")], Discriminator(_find_tokens_kind)
]


class Bag(BaseFeature):
    """A feature with several ids in each row, and a weight of each id.

    The wide part adds up one weight for each id. The deep part adds up their embeddings. Both multiply by the weights.
    """

    column_type = "string"
    expression_type: ClassVar[Type] = "string"
    max_ids: ClassVar[int] = 1

    tokens: Tokens = LearnedTokens()
    """How tokens become ids."""
    combiner: Combiner = "mean"
    """The ids of a row are added up (`sum`), and divided by their number (`mean`) or by its square root (`sqrtn`). Both
    parts of the model do so, as TensorFlow's `embedding_lookup_sparse` does."""
    missing: Literal["empty"] = "empty"
    """A missing value, or one without tokens, has no ids."""

    @model_validator(mode="after")
    def _check_embedding(self) -> "Bag":
        if self.embedding == "one_hot":
            raise ValueError("embedding: 'one_hot' is for one id in each row; expected a number of dimensions, or none")
        return self

    @property
    def width(self) -> int:
        """Number of ids in each row; of fewer, the rest have weight 0."""
        raise NotImplementedError

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        column, num_ids = escape_name(name), self.tokens.num_ids
        return (IdColumn(column, num_ids, self.wide, self.embedding, self.width, column + WEIGHTS_SUFFIX),)

    def list_number_columns(self, name: str) -> tuple[NumberColumn, ...]:
        # Neither part of the model takes the weights as numbers.
        return (NumberColumn(escape_name(name) + WEIGHTS_SUFFIX, wide=False, encoding="none", width=self.width),)

    @property
    def cross_problem(self) -> str | None:
        return "which has several ids in a row; cross columns of one value"
