"""Feature declarations: each feature is declared once, and everything else derives from it.

Two stages are kept apart. *How values become ids* (Transform) is the kind of a feature and its parameters. *How ids
become vectors* (the model) is `wide` and `embedding`. Every categorical ends as ids in `[0, num_ids)` with `num_ids`
declared here, so a model can be built without any artifact.

A kind of feature is one class in one file of this package; `base` has the protocol, and `kinds` registers it.

The terms are those of `tf.feature_column` and `keras.utils.FeatureSpace`; derived columns are named as
`tf.feature_column` names them: `age_bucketized`, `education_X_occupation`.
"""

from schemas.features.base import BaseFeature, CategoricalFeature
from schemas.features.buckets import Boundaries, Buckets, NonzeroQuantiles, Quantiles
from schemas.features.columns import (
    MISSING,
    TRANSFORMED_WEIGHT,
    ColumnType,
    Embedding,
    IdColumn,
    NumberColumn,
    NumberEncoding,
    escape_name,
)
from schemas.features.cross import Cross
from schemas.features.derived_column import DerivedColumn
from schemas.features.feature_set import FeatureSet
from schemas.features.hash import Hash
from schemas.features.id_list import IdList
from schemas.features.identity import Identity
from schemas.features.input import Input
from schemas.features.kinds import KINDS, Feature
from schemas.features.label import BinaryLabel, Label, LabelKind, MulticlassLabel, RegressionLabel
from schemas.features.numeric import Numeric, name_buckets, name_indicator
from schemas.features.own_column import OwnColumn
from schemas.features.text import Text
from schemas.features.timestamp import TimePart, Timestamp
from schemas.features.tokens import FREQUENCIES_SUFFIX, WEIGHTS_SUFFIX, Bag, HashedTokens, LearnedTokens
from schemas.features.vector import Vector
from schemas.features.vocabulary import Vocabulary
from schemas.features.vocabulary_file import VocabularyFile
from schemas.features.vocabulary_list import VocabularyList

__all__ = [
    "FREQUENCIES_SUFFIX",
    "KINDS",
    "MISSING",
    "TRANSFORMED_WEIGHT",
    "WEIGHTS_SUFFIX",
    "Bag",
    "BaseFeature",
    "BinaryLabel",
    "Boundaries",
    "Buckets",
    "CategoricalFeature",
    "ColumnType",
    "Cross",
    "DerivedColumn",
    "Embedding",
    "Feature",
    "FeatureSet",
    "Hash",
    "HashedTokens",
    "IdColumn",
    "IdList",
    "Identity",
    "Input",
    "Label",
    "LabelKind",
    "LearnedTokens",
    "MulticlassLabel",
    "NonzeroQuantiles",
    "NumberColumn",
    "NumberEncoding",
    "Numeric",
    "OwnColumn",
    "Quantiles",
    "RegressionLabel",
    "Text",
    "TimePart",
    "Timestamp",
    "Vector",
    "Vocabulary",
    "VocabularyFile",
    "VocabularyList",
    "escape_name",
    "name_buckets",
    "name_indicator",
]
