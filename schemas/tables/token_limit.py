"""Counts the tokens of texts as the graph splits them, to find those that lose some. Imports no TensorFlow."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Characters that end a word: punctuation, spaces and control characters, by their categories in Unicode.
NOT_A_WORD = r"[\pP\pZ\pC]+"


@dataclass(frozen=True)
class TokenLimit:
    """Limit on the n-grams of a text.

    Attributes:
      max_tokens: Number of tokens that a text keeps.
      word_ngrams: Longest sequence of words that is a token.
      character_ngrams: Lengths of sequences of characters within a word, and spaces around it, that are tokens.
    """

    max_tokens: int
    word_ngrams: int
    character_ngrams: tuple[int, ...] = ()

    def is_exceeded(self, texts: pa.Array) -> NDArray[np.bool_]:
        """Return whether each text has more tokens than are kept, [n]; a missing one has none."""
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        # Of n bytes, there are at most n/2 words and n + 2 characters and spaces for each of them.
        most = (sizes + 1) // 2 * self.word_ngrams + len(self.character_ngrams) * (2 * sizes + 2)
        long = np.flatnonzero(most > self.max_tokens)
        exceeded = np.zeros(len(texts), bool)
        exceeded[long] = self.count(texts.take(pa.array(long))) > self.max_tokens
        return exceeded

    def count(self, texts: pa.Array) -> NDArray[np.int64]:
        """Return the number of tokens of each text; [n]."""
        cleaned = pc.replace_substring_regex(pc.utf8_lower(texts.cast(pa.string())), NOT_A_WORD, " ")
        words = pc.split_pattern(pc.utf8_trim(cleaned, " "), " ")
        lengths = pc.utf8_length(words.flatten()).to_numpy(zero_copy_only=False)
        rows = pc.list_parent_indices(words).to_numpy(zero_copy_only=False)
        # The empty string is split into one empty word.
        rows, lengths = rows[lengths > 0], lengths[lengths > 0]
        number = np.bincount(rows, minlength=len(texts))
        tokens = sum(np.maximum(number - length + 1, 0) for length in range(1, self.word_ngrams + 1))
        for length in self.character_ngrams:
            grams = np.maximum(lengths + 2 - length + 1, 0)
            tokens = tokens + np.bincount(rows, weights=grams, minlength=len(texts)).astype(np.int64)
        return np.asarray(tokens, np.int64)
