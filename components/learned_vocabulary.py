"""Vocabularies that Transform learns: categories to IDs, whatever characters the categories hold.

TFT's text format drops the empty string and every category with a line break. Its other format, `tfrecord_gzip`, makes
tables that TensorFlow cannot export again as a part of a served model. So categories are escaped on their way into a
text file, and unescaped once, when a table is loaded from it; a lookup takes the category as it is.
"""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from schemas.vocabularies import EMPTY_CATEGORY, ESCAPES


def learned_ids(categories: tf.Tensor, *, oov_ids: int, filename: str, **pruning: Any) -> tf.Tensor:
    """Return the IDs of categories in a vocabulary that is learned from them.

    Args:
      categories: strings of shape [batch].
      oov_ids: number of IDs after those of the vocabulary, to which other categories are hashed.
      filename: name of the vocabulary's file.
      **pruning: arguments of `tft.vocabulary` that choose the categories.

    Returns:
      int64 of shape [batch].
    """
    file = tft.vocabulary(_escaped(categories), vocab_filename=filename, **pruning)

    def build(path: Any) -> tf.lookup.StaticVocabularyTable:
        return tf.lookup.StaticVocabularyTable(_FileInitializer(path), oov_ids)

    def lookup(values: tf.Tensor, path: Any) -> tuple[tf.Tensor, tf.Tensor]:
        ids, size = tft.tf_utils.construct_and_lookup_table(build, path, values)
        return ids, size

    return tft.apply_vocabulary(categories, file, lookup_fn=lookup)


def _escaped(categories: tf.Tensor) -> tf.Tensor:
    """Make each category one line that is not empty."""
    for character, escape in ESCAPES:
        categories = tf.strings.regex_replace(categories, _literal(character), _literal(escape))
    return tf.where(categories == "", EMPTY_CATEGORY, categories)


class _FileInitializer(tf.lookup.TextFileInitializer):
    """Fills a table with the categories of a vocabulary file and the numbers of their lines."""

    def __init__(self, path: Any) -> None:
        index = tf.lookup.TextFileIndex
        super().__init__(path, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)

    def initialize(self, table: Any) -> Any:
        """Return the operation that fills the table."""
        content = tf.io.read_file(tf.convert_to_tensor(self._filename, tf.string))
        lines = tf.strings.regex_replace(content, r"\n\z", "")
        # Not `tf.strings.split`: its ragged tensors are sixty operations, which triple the time to load a model.
        categories = tf.raw_ops.StringSplitV2(input=[lines], sep="\n").values
        for character, escape in (("", EMPTY_CATEGORY), *reversed(ESCAPES)):
            categories = tf.strings.regex_replace(categories, _literal(escape), _literal(character))
        ids = tf.range(tf.size(categories, tf.int64))
        return tf.raw_ops.InitializeTableV2(table_handle=table.resource_handle, keys=categories, values=ids)


def _literal(text: str) -> str:
    """Write a text so that RE2 takes it for itself, in a pattern and in a replacement."""
    return text.replace("\\", "\\\\")
