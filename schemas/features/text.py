"""The kind `text`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from schemas.features.tokens import Bag, HashedTokens


class Text(Bag):
    """A short text, as a bag of n-grams of its words: lower case, without punctuation.

    Words are separated by spaces or punctuation. Symbols, digits and emoji are kept. A script that is written without
    spaces, such as Chinese, needs `character_ngrams`.
    """

    kind: Literal["text"]
    word_ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    """Longest sequence of words that is a token: 2 for single words and pairs."""
    character_ngrams: Annotated[tuple[int, ...], Field(max_length=4)] = ()
    """Lengths of sequences of characters within words that are tokens too, such as [3, 4]."""
    weights: Literal["counts", "tf_idf"] = "tf_idf"
    """`counts` weighs each occurrence of a token alike. `tf_idf` weighs tokens of fewer rows more, and gives each text
    a length of 1, as scikit-learn's `TfidfVectorizer` does; the combiner is then `sum`."""
    max_tokens: PositiveInt = 256
    """Limit on the n-grams of a text; of a longer text, the first ones count. `TEXT_CUT` warns of such texts."""
    combiner: Literal["sum", "mean", "sqrtn"] = "sum"

    @model_validator(mode="after")
    def _check_weights(self) -> "Text":
        if self.weights == "tf_idf" and isinstance(self.tokens, HashedTokens):
            raise ValueError(
                "weights: 'tf_idf' needs learned tokens; expected tokens.kind vocabulary, or weights counts"
            )
        if self.weights == "tf_idf" and self.combiner != "sum":
            raise ValueError(f"combiner: '{self.combiner}' needs weights: counts; tf_idf has a length of its own")
        if any(not 1 <= length <= 10 for length in self.character_ngrams):
            raise ValueError("character_ngrams: expected lengths from 1 to 10")
        return self

    @property
    def width(self) -> int:
        return self.max_tokens
