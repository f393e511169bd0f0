"""Kinds of labels."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from schemas.declaration import Declaration, MissingValues
from schemas.expressions import Expression, ExpressionError, Type, choose_time_type
from schemas.features.base import check_distinct
from schemas.features.columns import ColumnType, escape_name
from schemas.tables.time_format import check_format

_TYPES: Mapping[str, Type] = {"number": "number", "string": "string"}

LabelKind = Literal["binary", "multiclass", "regression"]


class _Label(Declaration):
    column_type: ClassVar[ColumnType] = "string"

    column: str
    missing_values: MissingValues = ("",)
    """The strings that stand for a missing label; `data.missing_values` is for features only."""
    expression: str | None = None
    """The label, computed when the rows are read, as in `tips > 0.2 * fare` (a boolean is `true` or `false`).
    `column` is then its name, and no column of the data. docs/how-to/derived-columns.md has the language."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """The columns that only the expression uses, which a request for a prediction does not have: their types, `number`,
    `string`, or a format of times such as `iso8601`."""
    drop_missing: bool = False
    """Whether rows without a label are dropped, and counted; otherwise they are bad rows."""
    sensitive: bool = False
    """Whether the values are masked in messages, logs, alerts, reject files and pages. The names of classes are not."""

    @field_validator("inputs")
    @classmethod
    def _check_inputs(cls, value: dict[str, str]) -> dict[str, str]:
        for name, type_ in value.items():
            if type_ not in ("number", "string"):
                try:
                    check_format(type_)
                except ValueError as error:
                    raise ValueError(f"{name}: expected number, string, or a format of times; {error}") from error
        return value

    @model_validator(mode="after")
    def _check_inputs_are_used(self) -> "_Label":
        if self.inputs and self.expression is None:
            raise ValueError("inputs: needs an expression that uses them")
        return self

    @property
    def name(self) -> str:
        """Name of the transformed column."""
        return escape_name(self.column)

    @property
    def input_types(self) -> dict[str, Type]:
        """Types of the columns that only the label's expression uses, as the expression sees them."""
        return {name: _TYPES.get(type_) or choose_time_type(type_) for name, type_ in self.inputs.items()}

    def parse(self, columns: Mapping[str, Type]) -> Expression:
        """Parse the label's expression over its inputs and these columns.

        Raises:
          ValueError: There is no such expression; the message names the key.
        """
        assert self.expression is not None
        try:
            expression = Expression.parse(self.expression, {**columns, **self.input_types})
        except ExpressionError as error:
            raise ValueError(f"label.expression: {error}; a column that is not a feature needs label.inputs") from error
        expected: tuple[Type, ...] = ("number",) if self.column_type == "float" else ("boolean", "string", "number")
        if expression.type not in expected:
            raise ValueError(f"label.expression: expected a {' or a '.join(expected)}, found a {expression.type}")
        return expression

    def list_inputs(self, columns: Mapping[str, Type]) -> tuple[str, ...]:
        """Return the columns that the label's expression uses.

        Raises:
          ValueError: The expression is wrong, or does not use a declared input.
        """
        used = self.parse(columns).columns
        for name in self.inputs:
            if name in columns:
                raise ValueError(f"label.inputs: '{name}' is a feature already; remove it here")
            if name not in used:
                raise ValueError(f"label.inputs: the expression does not use '{name}'; remove it")
        return used


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


def _find_label_kind(label: object) -> str:
    """Return the kind of a label; one without a kind is binary."""
    kind = label.get("kind", "binary") if isinstance(label, dict) else getattr(label, "kind", None)
    return str(kind)


Label = Annotated[
    Annotated[BinaryLabel, Tag("binary")]
    | Annotated[MulticlassLabel, Tag("multiclass")]
    | Annotated[RegressionLabel, Tag("regression")],
    Discriminator(_find_label_kind),
]
