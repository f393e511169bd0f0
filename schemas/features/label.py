"""Kinds of labels."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from schemas.declaration import Declaration, MissingValues
from schemas.features.base import check_distinct
from schemas.features.columns import ColumnType, safe_name

LabelKind = Literal["binary", "multiclass", "regression"]


class _Label(Declaration):
    column_type: ClassVar[ColumnType] = "string"

    column: str
    missing_values: MissingValues = ("",)
    """The strings that stand for a missing label; `data.missing_values` is for features only."""
    drop_missing: bool = False
    """Whether rows without a label are dropped, and counted; otherwise they are bad rows."""
    sensitive: bool = False
    """Whether the values are masked in messages, logs, alerts, reject files and pages. The names of classes are not."""

    @property
    def name(self) -> str:
        """Name of the transformed column."""
        return safe_name(self.column)


class BinaryLabel(_Label):
    """A column that holds one of two values. It is the default kind."""

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
    def _check_two_values(self) -> "BinaryLabel":
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
    def _check_distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_distinct(value)


class RegressionLabel(_Label):
    """A column of numbers, of which the model predicts the mean."""

    column_type = "float"

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
