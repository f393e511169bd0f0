"""Feature declarations: each feature is declared once, and everything else derives from it.

Two stages are kept apart. *How values become ids* (Transform) is the kind of a feature and its
parameters. *How ids become vectors* (the model) is `wide` and `embedding`. Every categorical ends as
ids in `[0, num_ids)` with `num_ids` known here, so a model can be built without any artifact.

The terms are those of `tf.feature_column` and `keras.utils.FeatureSpace`; derived columns are named
as `tf.feature_column` names them: `age_bucketized`, `education_X_occupation`.
"""

import keyword
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, assert_never

from pydantic import Discriminator, Field, PositiveInt, Tag, field_validator, model_validator

from schemas.declaration import Declaration, MissingValues, did_you_mean

CROSS_SEPARATOR = "_X_"
BUCKETIZED_SUFFIX = "_bucketized"


@lru_cache(maxsize=1 << 14)
def safe_name(column: str) -> str:
    """Return the name of a column inside the graph and the served model, where TensorFlow wants Python's names, in
    ASCII.

    >>> safe_name("monthly charge"), safe_name("1st.été"), safe_name("class")
    ('monthly_charge', 'c_1st_u00e9tu00e9', 'c_class')
    """
    swapped = "".join(_safe_character(c) for c in column)
    return swapped if swapped[:1].isalpha() and not keyword.iskeyword(swapped) else f"c_{swapped}"


def bucketized_name(column: str) -> str:
    """Return the name of a numeric feature's transformed column of bucket ids."""
    return safe_name(column) + BUCKETIZED_SUFFIX


def _safe_character(character: str) -> str:
    if not character.isascii():
        return f"u{ord(character):04x}"
    return character if character.isalnum() else "_"


Embedding = Annotated[int, Field(ge=1)] | Literal["one_hot", "none"]
NumberEncoding = Literal["number", "piecewise_linear", "none"]
Scale = Literal["z_score", "log_z_score", "min_max", "identity", "none"]


class Quantiles(Declaration):
    """Buckets of equal share, their boundaries learned from the training split."""

    kind: Literal["quantiles"]
    count: Annotated[int, Field(ge=2)]
    """How many buckets; where values repeat a lot some stay empty."""

    @property
    def num_ids(self) -> int:
        return self.count


class NonzeroQuantiles(Declaration):
    """One bucket for exactly zero and quantiles of all other values, for columns that are mostly zero."""

    kind: Literal["nonzero_quantiles"]
    count: Annotated[int, Field(ge=2)]
    """How many buckets the non-zero values get; zero has one more of its own."""

    @property
    def num_ids(self) -> int:
        return self.count + 1


def _as_float32(number: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError as error:
        raise ValueError(f"{number:g} is beyond float32, in which numbers are computed") from error


class Boundaries(Declaration):
    """Buckets with given boundaries: below the first, between two, from the last on."""

    kind: Literal["boundaries"]
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)]
    """In ascending order; a value equal to a boundary belongs to the bucket above it."""

    @field_validator("boundaries")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("boundaries must be in ascending order without repeats")
        if len({_as_float32(boundary) for boundary in value}) < len(value):
            raise ValueError("two boundaries are the same number in float32, in which values are compared with them")
        return value

    @property
    def num_ids(self) -> int:
        return len(self.boundaries) + 1


Buckets = Annotated[Quantiles | NonzeroQuantiles | Boundaries, Field(discriminator="kind")]


class _ModelUse(Declaration):
    """How the model uses the ids of a feature."""

    wide: bool = True
    """Whether the wide part learns one weight for each id (for a numeric feature: each bucket, and a slope)."""
    embedding: Embedding = "none"
    """What the deep part gets for an id: a learned vector of this many dimensions, `one_hot`, or `none`."""


class _Feature(_ModelUse):
    missing_values: MissingValues | None = None
    """The strings that stand for a missing value in this column, in place of `data.missing_values`; list "" too if an
    empty value is missing. In a column of numbers, a number among them stands for its value, however that is written
    (-999 for -999.0), and NaN for every NaN. If omitted, `data.missing_values`."""


class Numeric(_Feature):
    """A number, used scaled, or in buckets, or both."""

    kind: Literal["numeric"]
    scale: Scale = "z_score"
    """`log_z_score` is the z-score of sign(x) * log(1 + |x|); `none` leaves only the buckets in the model."""
    encoding: NumberEncoding | None = None
    """How the deep part gets the scaled number: as it is, as a learned piecewise-linear function of it, or not at all.
    If omitted, `model.number_encoding`."""
    buckets: Buckets | None = None
    missing: Literal["mean"] | float | None = None
    """What a missing value becomes: the training mean, or this number. If omitted, a missing value is refused."""

    @field_validator("missing")
    @classmethod
    def _fits(cls, value: str | float | None) -> str | float | None:
        if isinstance(value, int | float):
            _as_float32(value)
        return value

    @model_validator(mode="after")
    def _is_used(self) -> "Numeric":
        if self.buckets is None and self.scale == "none":
            raise ValueError("a numeric feature with scale 'none' needs buckets")
        if self.scale == "none" and self.encoding is not None:
            raise ValueError(f"encoding: '{self.encoding}' needs a scaled number; scale is 'none'")
        if self.buckets is None and self.embedding != "none":
            raise ValueError("an embedding of a numeric feature needs buckets")
        return self


def _without_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"repeated: {', '.join(repeated)}")
    return values


class _StringCategorical(_Feature):
    missing: str | None = None
    """The category that a missing value becomes. If omitted, a missing value is an error."""

    @model_validator(mode="after")
    def _empty_is_missing(self) -> "_StringCategorical":
        if self.missing is not None and self.missing_values is not None and "" not in self.missing_values:
            raise ValueError("missing_values needs '' where `missing` is given: the model takes '' for a missing value")
        return self


class Vocabulary(_StringCategorical):
    """Categories learned from the training split, most frequent first."""

    kind: Literal["vocabulary"]
    max_size: PositiveInt
    """At most so many categories are learned; rarer ones share the out-of-vocabulary ids."""
    min_count: PositiveInt = 1
    """Categories seen less often than this in the training split are out of vocabulary."""
    oov_ids: PositiveInt = 1
    """How many ids the values outside the vocabulary are hashed to."""

    @property
    def num_ids(self) -> int:
        return self.max_size + self.oov_ids


class VocabularyList(_StringCategorical):
    """Categories given here, in order of their ids."""

    kind: Literal["vocabulary_list"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]
    oov_ids: PositiveInt = 1
    """How many ids the values outside the list are hashed to."""

    @field_validator("values")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(value)

    @property
    def num_ids(self) -> int:
        return len(self.values) + self.oov_ids


class VocabularyFile(_StringCategorical):
    """Categories given in a text file, one a line, in order of their ids."""

    kind: Literal["vocabulary_file"]
    file: str
    """The path; relative to the config's own folder."""
    oov_ids: PositiveInt = 1
    """How many ids the values outside the file are hashed to."""
    values: tuple[str, ...] = ()
    """Filled in from the file when the config is read; not to be written by hand."""

    @property
    def num_ids(self) -> int:
        return len(self.values) + self.oov_ids


class Identity(_Feature):
    """An integer that is its own ID, in `[0, num_ids)`. A value outside is counted, and gets the nearest ID."""

    kind: Literal["identity"]
    num_ids: PositiveInt
    missing: Annotated[int, Field(ge=0)] | None = None
    """The id that a missing value becomes. If omitted, a missing value is refused."""

    @model_validator(mode="after")
    def _missing_in_range(self) -> "Identity":
        if self.missing is not None and self.missing >= self.num_ids:
            raise ValueError(f"missing: {self.missing} is not below num_ids: {self.num_ids}")
        return self


class Hash(_StringCategorical):
    """Any string, hashed to `num_ids` ids; for categories too many to list, some of which collide."""

    kind: Literal["hash"]
    num_ids: PositiveInt


Categorical = Vocabulary | VocabularyList | VocabularyFile | Identity | Hash
Feature = Annotated[
    Numeric | Vocabulary | VocabularyList | VocabularyFile | Identity | Hash, Field(discriminator="kind")
]


class Cross(_ModelUse):
    """The combination of two or more categorical or bucketized features, hashed to `num_ids` ids."""

    features: Annotated[tuple[str, ...], Field(min_length=2)]
    num_ids: PositiveInt

    @property
    def name(self) -> str:
        """Of the transformed column."""
        return CROSS_SEPARATOR.join(map(safe_name, self.features))


LabelKind = Literal["binary", "multiclass", "regression"]


class _Label(Declaration):
    column: str
    missing_values: MissingValues = ("",)
    """The strings that stand for a missing label; `data.missing_values` is for features only."""
    drop_missing: bool = False
    """Whether rows without a label are left out, and counted; otherwise they are bad rows."""

    @property
    def name(self) -> str:
        """Of the transformed column."""
        return safe_name(self.column)


class BinaryLabel(_Label):
    """A column that holds one of two values; what a label is when no kind is given."""

    kind: Literal["binary"] = "binary"
    positive: str
    """The value whose probability the model predicts. A number or a boolean may be written in any way in the data: 1.0
    is 1, and TRUE is true."""
    negative: str

    @property
    def classes(self) -> tuple[str, ...]:
        """All values, in the order of their ids."""
        return self.negative, self.positive

    @model_validator(mode="after")
    def _two_values(self) -> "BinaryLabel":
        if self.positive == self.negative:
            raise ValueError("positive and negative must differ")
        return self


class MulticlassLabel(_Label):
    """A column that holds one of several values, each of which gets a probability."""

    kind: Literal["multiclass"]
    classes: Annotated[tuple[str, ...], Field(min_length=3)]
    """All values; the served model's probabilities are in this order. A number may be written in any way in the data:
    1.0 is 1."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _without_repeats(value)


class RegressionLabel(_Label):
    """A column of numbers, of which the model predicts the mean."""

    kind: Literal["regression"]

    @property
    def classes(self) -> tuple[str, ...]:
        return ()


def _label_kind(label: object) -> str:
    """Return the kind of a label; one without a kind is binary."""
    kind = label.get("kind", "binary") if isinstance(label, dict) else getattr(label, "kind", None)
    return str(kind)


Label = Annotated[
    Annotated[BinaryLabel, Tag("binary")]
    | Annotated[MulticlassLabel, Tag("multiclass")]
    | Annotated[RegressionLabel, Tag("regression")],
    Discriminator(_label_kind),
]


@dataclass(frozen=True)
class IdColumn:
    """A transformed column of ids in `[0, num_ids)`, and what the model does with them."""

    name: str
    num_ids: int
    wide: bool
    embedding: Embedding


@dataclass(frozen=True)
class NumberColumn:
    """A transformed column of one scaled number."""

    name: str
    wide: bool
    encoding: NumberEncoding | None = None


ColumnType = Literal["float", "int", "string"]
# What a missing value is in a graph, which knows no nulls. For an integer it is the least of them: -1 may be a value.
MISSING: Mapping[ColumnType, bytes | float | int] = {"string": b"", "float": float("nan"), "int": -(2**63)}


def column_type(feature: Feature) -> ColumnType:
    """Return the type a feature's raw values have in tf.Example, in the schema and in a served request."""
    match feature:
        case Numeric():
            return "float"
        case Identity():
            return "int"
        case Vocabulary() | VocabularyList() | VocabularyFile() | Hash():
            return "string"
        case _:
            assert_never(feature)


class FeatureSet(Declaration):
    """All features, crosses and the label of one pipeline."""

    features: Annotated[dict[str, Feature], Field(min_length=1)]
    crosses: tuple[Cross, ...] = ()
    label: Label

    @model_validator(mode="after")
    def _consistent(self) -> "FeatureSet":
        if self.label.column in self.features:
            raise ValueError(f"'{self.label.column}' is the label; it cannot be a feature too")
        for cross in self.crosses:
            for name in cross.features:
                self._check_crossed(cross, name)
        # TensorFlow 2.x rejects a signature whose arguments differ in case only.
        inputs = [safe_name(name).lower() for name in self.features]
        outputs = [*(c.name for c in self.id_columns), *(c.name for c in self.number_columns), self.label.name]
        for what, names in (("inputs of the served model", inputs), ("transformed columns", outputs)):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            if repeated:
                raise ValueError(f"two {what} would both be named {', '.join(map(repr, repeated))}; rename one")
        return self

    def _check_crossed(self, cross: Cross, name: str) -> None:
        feature = self.features.get(name)
        if feature is None:
            hint = did_you_mean(name, list(self.features))
            raise ValueError(f"the cross {cross.name} uses '{name}', which is not a declared feature; {hint}")
        if isinstance(feature, Numeric) and feature.buckets is None:
            raise ValueError(
                f"the cross {cross.name} uses '{name}', a numeric feature without buckets; give it buckets"
            )

    @property
    def id_columns(self) -> tuple[IdColumn, ...]:
        """The transformed id columns: categoricals, buckets, crosses; in the order of declaration."""
        columns = []
        for name, feature in self.features.items():
            if not isinstance(feature, Numeric):
                columns.append(IdColumn(safe_name(name), feature.num_ids, feature.wide, feature.embedding))
            elif feature.buckets is not None:
                columns.append(
                    IdColumn(bucketized_name(name), feature.buckets.num_ids, feature.wide, feature.embedding)
                )
        columns += [IdColumn(c.name, c.num_ids, c.wide, c.embedding) for c in self.crosses]
        return tuple(columns)

    @property
    def number_columns(self) -> tuple[NumberColumn, ...]:
        """The transformed numeric columns, in the order of declaration."""
        return tuple(
            NumberColumn(safe_name(name), feature.wide, feature.encoding)
            for name, feature in self.features.items()
            if isinstance(feature, Numeric) and feature.scale != "none"
        )

    @property
    def column_types(self) -> dict[str, ColumnType]:
        """Raw column names, the label's last, with the type that their values have."""
        label: ColumnType = "float" if isinstance(self.label, RegressionLabel) else "string"
        return {**{n: column_type(f) for n, f in self.features.items()}, self.label.column: label}
