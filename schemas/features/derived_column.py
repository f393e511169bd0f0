"""A derived feature as a column: its expression, and the type of its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.expressions import Expression
from schemas.features.columns import ColumnType


@dataclass(frozen=True)
class DerivedColumn:
    """A column that no file has, and whose values are computed from the columns of a row.

    Attributes:
      expression: Expression of the values.
      column_type: Type of the values, as that of a raw column.
    """

    expression: Expression
    column_type: ColumnType

    def as_json(self) -> dict[str, Any]:
        """Return the argument that `from_json` takes, all of JSON's types."""
        return {
            "expression": self.expression.text,
            "operands": dict(self.expression.operand_types),
            "column_type": self.column_type,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DerivedColumn":
        """Return the column that `as_json` wrote."""
        return cls(Expression.parse(values["expression"], values["operands"]), values["column_type"])
