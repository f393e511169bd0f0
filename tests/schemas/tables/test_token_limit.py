"""The tokens that are counted when rows are read are those that the graph splits a text into."""

import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.transform.bags import split_tokens
from schemas.features import Text
from schemas.tables.token_limit import TokenLimit

# More than any text here has.
_MANY = 10_000


@settings(max_examples=60)
@given(
    texts=st.lists(
        st.text(st.sampled_from("aB1é語 ,.-\t\n\u00a0\U0001f600\u0301'"), max_size=30), min_size=1, max_size=8
    ),
    word_ngrams=st.integers(1, 3),
    character_ngrams=st.sampled_from([(), (3,), (1, 4)]),
)
def test_tokens_are_counted_as_the_graph_splits_them(
    texts: list[str], word_ngrams: int, character_ngrams: tuple[int, ...]
) -> None:
    feature = Text(
        kind="text",
        tokens={"kind": "hash", "num_ids": 8},
        weights="counts",
        word_ngrams=word_ngrams,
        character_ngrams=character_ngrams,
        max_tokens=_MANY,
    )
    expected = split_tokens(feature, tf.constant(texts)).row_lengths().numpy().tolist()
    assert TokenLimit(_MANY, word_ngrams, character_ngrams).count(pa.array(texts)).tolist() == expected


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_a_text_of_the_limit_keeps_all(kind: pa.DataType) -> None:
    texts = pa.array([None, "", "a b", "a b c", "a, b - c.", "a b c d " * 1000], pa.string()).cast(kind)
    assert TokenLimit(5, 2).is_exceeded(texts).tolist() == [False, False, False, False, False, True]
    assert TokenLimit(4, 2).is_exceeded(texts).tolist() == [False, False, False, True, True, True]
