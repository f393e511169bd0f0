"""The protocol of a kind of feature, and the parts that kinds share.

A kind is a subclass of `BaseFeature` in a file of its own, with a `kind` of its own in YAML. `schemas.features.Feature`
registers it, and `components.transform.preprocessing.ENCODERS` names its TensorFlow code. All else derives from the
methods and properties here.
"""

import datetime
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from schemas.declaration import Declaration, MissingValues
from schemas.expressions import Type
from schemas.features.columns import ColumnType, Embedding, IdColumn, NumberColumn


class ModelUse(Declaration):
    """How the model uses the ids of a feature or of a cross."""

    wide: bool = True
    """Whether the wide part learns one weight for each id (for a numeric feature: each bucket, and a slope)."""
    embedding: Embedding = "none"
    """Input of the deep part for an id: a learned vector of this many dimensions, `one_hot`, or `none`."""

    def build_column(self, name: str, num_ids: int, table: str | None = None) -> IdColumn:
        """Return a transformed column of ids that the model uses in this way."""
        return IdColumn(name, num_ids, self.wide, self.embedding, table=table)


class BaseFeature(ModelUse):
    """A feature of any kind.

    Attributes:
      column_type: type of the raw values in tf.Example, in the schema and in a served request.
      expression_type: type of the values in expressions.
      learns_categories: whether Transform learns the categories, and writes them to a file named by `escape_name`.
    """

    column_type: ClassVar[ColumnType]
    expression_type: ClassVar[Type]
    learns_categories: ClassVar[bool] = False

    expression: str | None = None
    """The value, computed from other columns, as in `fare / miles`; docs/how-to/derived-columns.md has the language. If
    omitted, the value is the column of the feature's name. A value may be undefined (a division by 0), so `missing` is
    required."""

    missing_values: MissingValues | None = None
    """The strings that stand for a missing value in this column, in place of `data.missing_values`; list "" too if an
    empty value is missing. In a column of numbers, a number among them stands for its value, however that is written
    (-999 for -999.0), and NaN for every NaN. If omitted, `data.missing_values`."""
    missing: str | float | None = None
    """The replacement of a missing value. If omitted, a missing value is an error."""
    description: Annotated[str, Field(min_length=1)] | None = None
    """Meaning of the values, for readers of the pages and of the served model's API."""
    owner: Annotated[str, Field(min_length=1)] | None = None
    """The person or team to ask about the feature; shown on pages and in warnings."""
    expires: datetime.date | None = None
    """The last day on which the feature is to be used, such as 2026-12-31. After it, `FEATURE_EXPIRED` warns."""
    sensitive: bool = False
    """Whether the values are masked in messages, logs, alerts, reject files and pages:
    docs/how-to/sensitive-columns.md"""

    def list_id_columns(self, name: str) -> tuple[IdColumn, ...]:
        """Return the transformed columns of ids that the feature of this name gives."""
        return ()

    def list_number_columns(self, name: str) -> tuple[NumberColumn, ...]:
        """Return the transformed columns of numbers that the feature of this name gives."""
        return ()

    def expand(self, name: str) -> "Mapping[str, BaseFeature]":
        """Return the features that Transform encodes for the feature of this name: itself, but for a few kinds."""
        return {name: self}

    @model_validator(mode="after")
    def _check_undefined(self) -> "BaseFeature":
        if self.expression is not None and self.missing is None:
            raise ValueError("an expression may be undefined; declare under `missing` what the value is then")
        return self

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that the config declares, in order of their ids."""
        return ()

    @property
    def raw_num_ids(self) -> int | None:
        """Number of ids that raw values may be; None if raw values are not ids."""
        return None

    @property
    def cross_problem(self) -> str | None:
        """The reason why the feature cannot be crossed, with a remedy; None if it can."""
        return None


class SharedIds(BaseFeature):
    """A feature whose ids may mean the same as those of other features."""

    shared: str | None = None
    """A name of your own, the same for features whose values mean the same, such as origin and destination. They share
    one embedding, as Keras's shared layers do, and one learned vocabulary. All else that they declare of ids and the
    embedding must be equal. The wide part keeps weights of its own for each."""


class CategoricalFeature(SharedIds):
    """A feature whose raw values are strings."""

    column_type = "string"
    expression_type = "string"

    missing: str | None = None
    """The category that a missing value becomes. If omitted, a missing value is an error."""

    @model_validator(mode="after")
    def _check_empty_is_missing(self) -> "CategoricalFeature":
        if self.missing is not None and self.missing_values is not None and "" not in self.missing_values:
            raise ValueError("missing_values needs '' where `missing` is given: the model takes '' for a missing value")
        return self


def check_distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values.

    Raises:
      ValueError: a value is a duplicate.
    """
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"repeated: {', '.join(repeated)}")
    return values
