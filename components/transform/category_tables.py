"""Categories to IDs: vocabularies that Transform learns, and lists that are given, in one table for all columns.

TFT's text format drops the empty string and every category with a line break. Its other format, `tfrecord_gzip`, makes
tables that TensorFlow cannot export again as a part of a served model. So categories are escaped on their way into a
text file, a file for each column, and unescaped once, when the table is loaded from the files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import analyzers, tf_utils

from schemas.features import Vocabulary, VocabularyFile, VocabularyList, safe_name
from schemas.vocabularies import EMPTY_CATEGORY, ESCAPES

# After the number of the column in a key. A key of a number alone has the column's number of categories.
_SEPARATOR = "\x1f"
_UNKNOWN = -1


def compute_category_ids(
    features: Mapping[str, Vocabulary | VocabularyList | VocabularyFile], texts: tf.Tensor
) -> tf.Tensor:
    """Return the IDs of categories, int64 of shape [columns, batch].

    Args:
      features: declarations by name; a Vocabulary is learned from the training split.
      texts: strings of shape [columns, batch], in the order of `features`.
    """
    names = list(features)
    # Columns that share a vocabulary have the keys of the first of them.
    firsts = _find_first_columns(features)
    learned = [number for number, name in enumerate(names) if features[name].learns_categories]
    learned = [number for number in learned if firsts[number] == number]
    sharing = {first: [number for number, other in enumerate(firsts) if other == first] for first in learned}
    files = _list_learned_files({names[number]: features[names[number]] for number in learned}, texts, sharing)
    paths, dependencies = [], []
    for file in files:
        # As `tft.apply_vocabulary` does: the path of an existing file, and the dependency by which TFT learns it first.
        path, dependency = tf_utils._get_asset_analyzer_output_and_control_dependency(file)
        paths.append(path)
        dependencies += [] if dependency is None else [tf.identity(dependency)]
    lists = {
        number: feature.categories
        for number, feature in enumerate(features.values())
        if not feature.learns_categories and firsts[number] == number
    }

    def build_table() -> tf.lookup.StaticHashTable:
        return tf.lookup.StaticHashTable(_Initializer(dict(zip(learned, paths, strict=True)), lists), _UNKNOWN)

    # Where TFT only asks which analyzers there are, there is no file: the table is a part of that graph, and never run.
    is_filled = not any(tf.is_symbolic_tensor(path) for path in paths)
    with tf.control_dependencies(dependencies):
        built = tft.make_and_track_object(build_table) if is_filled else build_table()
        return _look_up(built, firsts, [feature.oov_ids for feature in features.values()], texts)


def _find_first_columns(features: Mapping[str, Any]) -> list[int]:
    """Return for each feature the number of the first one that shares its ids: its own, if none does."""
    numbers: dict[str, int] = {}
    return [
        number if feature.shared is None else numbers.setdefault(feature.shared, number)
        for number, feature in enumerate(features.values())
    ]


def compute_fingerprint_ids(texts: tf.Tensor, num_ids: Sequence[int]) -> tf.Tensor:
    """Return `tf.strings.to_hash_bucket_fast` of strings of shape [columns, batch], each column with its `num_ids`."""
    fingerprints = tf.bitcast(tf.fingerprint(tf.reshape(texts, [-1])), tf.uint64)
    divisors = tf.constant(np.array(num_ids, np.uint64)[:, None])
    return tf.cast(tf.math.floormod(tf.reshape(fingerprints, tf.shape(texts)), divisors), tf.int64)


def _look_up(
    table: tf.lookup.StaticHashTable, keys: Sequence[int], oov_ids: Sequence[int], texts: tf.Tensor
) -> tf.Tensor:
    numbers = tf.constant([str(number) for number in keys])
    columns = tf.broadcast_to(numbers[:, None], tf.shape(texts))
    ids = table.lookup(tf.strings.join([columns, texts], _SEPARATOR))
    # As `tf.lookup.StaticVocabularyTable` numbers the values that it does not have.
    others = table.lookup(numbers)[:, None]
    if max(oov_ids) > 1:
        others += compute_fingerprint_ids(texts, oov_ids)
    return tf.where(ids == _UNKNOWN, others, ids)


def _list_learned_files(
    features: Mapping[str, Any], texts: tf.Tensor, sharing: Mapping[int, Sequence[int]]
) -> list[Any]:
    """Return the file of each vocabulary, as TFT's analyzers stand for it.

    Args:
      features: declarations by name.
      texts: strings of shape [columns, batch].
      sharing: numbers of the columns of each vocabulary, in the order of `features`.
    """
    if not features:
        return []
    escaped = tf.unstack(escape_categories(tf.gather(texts, [n for numbers in sharing.values() for n in numbers])))
    parts = iter(escaped)
    columns = [[next(parts) for _ in numbers] for numbers in sharing.values()]
    return [
        learn_vocabulary(
            tf.concat(own, axis=0) if len(own) > 1 else own[0],
            safe_name(name),
            max_size=feature.max_size,
            min_count=feature.min_count,
        )
        for own, (name, feature) in zip(columns, features.items(), strict=True)
    ]


def learn_vocabulary(
    tokens: tf.Tensor, file: str, *, max_size: int, min_count: int, store_frequency: bool = False
) -> Any:
    """Do as `tft.vocabulary`, without its slow filter of empty values and line breaks: there are none.

    Args:
      tokens: escaped strings of any shape.
      file: name of the file.
      max_size: limit on the number of tokens.
      min_count: tokens that are rarer are not learned.
      store_frequency: whether each line begins with the count of its token.
    """
    # TFT tells analyses apart by their scope.
    with tf.name_scope("vocabulary"):
        return analyzers._vocabulary_analyzer_nodes(
            analyzer_inputs=[tokens],
            input_dtype="string",
            vocab_ordering_type=analyzers._VocabOrderingType.FREQUENCY,
            vocab_filename=file,
            vocabulary_key=file,
            top_k=max_size,
            frequency_threshold=min_count if min_count > 1 else 0,
            store_frequency=store_frequency,
        )


def escape_categories(categories: tf.Tensor) -> tf.Tensor:
    """Make each category one line that is not empty."""
    for character, escape in ESCAPES:
        categories = tf.strings.regex_replace(categories, _escape_literal(character), _escape_literal(escape))
    return tf.where(categories == "", EMPTY_CATEGORY, categories)


# Its base is public only as that of its public subclasses.
class _Initializer(tf.lookup.TextFileInitializer.__base__):
    """Fills a table with the categories of all columns and their IDs, and with how many each column has.

    Args:
      files: paths of vocabularies by the number of the column.
      given: categories by the number of the column.
    """

    def __init__(self, files: Mapping[int, Any], lists: Mapping[int, Sequence[str]]) -> None:
        super().__init__(tf.string, tf.int64)
        self._given = lists
        self._numbers = list(files)
        self._assets = [
            self._track_trackable(tf.saved_model.Asset(path), f"file_{number}") for number, path in files.items()
        ]

    def initialize(self, table: Any) -> Any:
        """Return the operation that fills the table."""
        parts = []
        if self._assets:
            parts.append(_from_files(self._assets, self._numbers))
        if self._given:
            parts.append(_from_lists(self._given))
        keys, ids = (tf.concat(every, axis=0) for every in zip(*parts, strict=True))
        return tf.raw_ops.InitializeTableV2(table_handle=table.resource_handle, keys=keys, values=ids)


def _from_files(assets: Sequence[Any], numbers: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    contents = tf.stack([tf.io.read_file(asset.asset_path) for asset in assets])
    # Not `tf.strings.split`: its ragged tensors are sixty operations, which triple the time to load a model.
    lines = tf.raw_ops.StringSplitV2(input=tf.strings.regex_replace(contents, r"\n\z", ""), sep="\n")
    categories = lines.values
    for character, escape in (("", EMPTY_CATEGORY), *reversed(ESCAPES)):
        categories = tf.strings.regex_replace(categories, _escape_literal(escape), _escape_literal(character))
    columns = tf.constant([str(number) for number in numbers])
    keys = tf.strings.join([tf.gather(columns, lines.indices[:, 0]), categories], _SEPARATOR)
    sizes = tf.math.bincount(tf.cast(lines.indices[:, 0], tf.int32), minlength=len(numbers), dtype=tf.int64)
    return tf.concat([keys, columns], axis=0), tf.concat([lines.indices[:, 1], sizes], axis=0)


def _from_lists(lists: Mapping[int, Sequence[str]]) -> tuple[tf.Tensor, tf.Tensor]:
    keys = [f"{number}{_SEPARATOR}{value}" for number, values in lists.items() for value in values]
    ids = [place for values in lists.values() for place in range(len(values))]
    sizes = [len(values) for values in lists.values()]
    return tf.constant([*keys, *map(str, lists)]), tf.constant([*ids, *sizes], tf.int64)


def _escape_literal(text: str) -> str:
    """Write a text so that RE2 takes it for itself, in a pattern and in a replacement."""
    return text.replace("\\", "\\\\")
