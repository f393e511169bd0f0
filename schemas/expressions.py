"""A small, typed language for columns that are computed from others, such as `tips > 0.2 * fare`.

The syntax is that of Python's expressions, parsed by the standard library's `ast`; nothing is ever evaluated by Python.
`Expression.parse` checks names and types against the columns. An expression has one meaning and two evaluations: over
Arrow, for labels (schemas/tables/expression_values.py), and over TensorFlow in the Transform graph
(components/transform/expressions.py).

A result is missing where an operand is missing; `coalesce`, `is_missing` and the branch of a condition that is not
taken are the exceptions. It is missing, too, where it is not defined: a division by zero, or the logarithm of a number
below 0. Imports neither NumPy nor TensorFlow.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from schemas.declaration import suggest_name
from schemas.tables.time_format import TIME_OF_DAY
from schemas.tables.time_parts import DATE_PARTS, PARTS

# A list is the type of columns with several values in each row, which no expression takes.
Type = Literal["number", "string", "time", "time of day", "boolean", "list"]
# Types whose values are seconds.
TIMES: tuple[Type, ...] = ("time", "time of day")

# Degrees.
MAX_LATITUDE = 90.0
# The mean radius of the Earth by the IUGG, in kilometres.
EARTH_RADIUS_KM = 6_371.0088
MAX_CHARS = 2_000
_MAX_DEPTH = 50
# The column of a name that Python cannot write: column("monthly charge").
_COLUMN_FUNCTION = "column"


class ExpressionError(ValueError):
    """An expression that is not in the language, or whose types do not fit; with its place."""


@dataclass(frozen=True)
class Constant:
    """A number, a string or a boolean that stands in the expression."""

    value: float | str | bool
    type: Type


@dataclass(frozen=True)
class ColumnReference:
    """The value of a column."""

    name: str
    type: Type


@dataclass(frozen=True)
class Call:
    """An operation or a function of its operands.

    Attributes:
      function: Name in FUNCTIONS.
      operands: Expressions of the types that the function takes.
      type: Type of the result.
    """

    function: str
    operands: tuple["Node", ...]
    type: Type


Node = Constant | ColumnReference | Call


@dataclass(frozen=True)
class Signature:
    """The operands that a function takes.

    Attributes:
      operands: Types of the operands; `same` stands for one type that they share.
      result: Type of the result; `same` for that type.
      repeats: Whether the last operand may be repeated.
      constants: Indices of the operands that must be constants.
      help: One phrase for the reference.
    """

    operands: tuple[Type | Literal["same"], ...]
    result: Type | Literal["same"]
    repeats: bool = False
    constants: tuple[int, ...] = ()
    help: str = ""


def _declare_numbers(count: int, help: str, *, repeats: bool = False) -> Signature:
    number: Type = "number"
    return Signature((number,) * count, number, repeats, help=help)


_ORDERED: tuple[Type, ...] = ("number", *TIMES)


def choose_time_type(format_: str) -> Type:
    """Return the type of times that are written in a format."""
    return "time of day" if format_ == TIME_OF_DAY else "time"


FUNCTIONS: Mapping[str, tuple[Signature, ...]] = {
    "+": (_declare_numbers(2, "sum"), Signature(("string", "string"), "string", help="strings joined")),
    "-": (
        _declare_numbers(2, "difference"),
        *(Signature((time, time), "number", help="seconds from the second time to the first") for time in TIMES),
    ),
    "*": (_declare_numbers(2, "product"),),
    "/": (_declare_numbers(2, "quotient; missing if the divisor is 0"),),
    "//": (_declare_numbers(2, "quotient, rounded down"),),
    "%": (_declare_numbers(2, "remainder, with the sign of the divisor"),),
    "**": (_declare_numbers(2, "power"),),
    "negative": (_declare_numbers(1, "-x"),),
    "==": (Signature(("same", "same"), "boolean", help="equal"),),
    "!=": (Signature(("same", "same"), "boolean", help="not equal"),),
    **{sign: tuple(Signature((type_, type_), "boolean") for type_ in _ORDERED) for sign in ("<", "<=", ">", ">=")},
    "and": (Signature(("boolean", "boolean"), "boolean", repeats=True),),
    "or": (Signature(("boolean", "boolean"), "boolean", repeats=True),),
    "not": (Signature(("boolean",), "boolean"),),
    "if": (Signature(("boolean", "same", "same"), "same", help="a if condition else b"),),
    "abs": (_declare_numbers(1, "absolute value"),),
    "exp": (_declare_numbers(1, "e to the power of x"),),
    "log": (_declare_numbers(1, "natural logarithm; missing for numbers up to 0"),),
    "log1p": (_declare_numbers(1, "logarithm of 1 + x; missing for numbers up to -1"),),
    "sqrt": (_declare_numbers(1, "square root; missing for numbers below 0"),),
    "floor": (_declare_numbers(1, "rounded down"),),
    "ceil": (_declare_numbers(1, "rounded up"),),
    "round": (_declare_numbers(1, "rounded to the nearest whole number, halves to the even one"),),
    "min": (_declare_numbers(2, "least of the numbers", repeats=True),),
    "max": (_declare_numbers(2, "largest of the numbers", repeats=True),),
    "coalesce": (Signature(("same", "same"), "same", repeats=True, help="first value that is not missing"),),
    "is_missing": (Signature(("same",), "boolean", help="whether the value is missing"),),
    "lower": (Signature(("string",), "string", help="in lower case (ASCII)"),),
    "upper": (Signature(("string",), "string", help="in upper case (ASCII)"),),
    "strip": (Signature(("string",), "string", help="without spaces around it"),),
    "length": (Signature(("string",), "number", help="number of characters"),),
    "contains": (
        Signature(("string", "string"), "boolean", constants=(1,), help="whether the first string has the second"),
    ),
    "substring": (
        Signature(
            ("string", "number", "number"),
            "string",
            constants=(1, 2),
            help="characters from a position, counted from 0, and how many",
        ),
    ),
    "split_part": (
        Signature(
            ("string", "string", "number"),
            "string",
            constants=(1, 2),
            help="a part of the string between separators, counted from 0; missing if there are fewer",
        ),
    ),
    "sin": (_declare_numbers(1, "sine of an angle in radians"),),
    "cos": (_declare_numbers(1, "cosine of an angle in radians"),),
    **{
        part: tuple(
            Signature((time,), "number", help=f"{part.replace('_', ' ')} of a {time}")
            for time in (("time",) if part in DATE_PARTS else TIMES)
        )
        for part in PARTS
    },
    "haversine": (
        _declare_numbers(
            4, "kilometres between two points: latitude and longitude of each in degrees (radius 6371.0088 km)"
        ),
    ),
}
"""The signatures of each operation and function by name."""

_BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
_COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_OPERATORS = {*_BINARY.values(), *_COMPARE.values(), "negative", "and", "or", "not", "if"}
_NAMED = sorted({*FUNCTIONS} - _OPERATORS)


@dataclass(frozen=True)
class Expression:
    """A parsed expression, whose names and types fit.

    Attributes:
      text: The expression as it was written.
      root: Its outermost node.
    """

    text: str
    root: Node

    @classmethod
    def parse(cls, text: str, columns: Mapping[str, Type]) -> "Expression":
        """Parse an expression over columns.

        Args:
          text: Expression, in the syntax of Python.
          columns: Types of the columns that it may use, by name.

        Raises:
          ExpressionError: The text is not in the language; the message names the place, what was expected and found.
        """
        if len(text) > MAX_CHARS:
            raise ExpressionError(f"the expression has {len(text):,} characters; at most {MAX_CHARS:,} are allowed")
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            place = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
            raise ExpressionError(f"'{text}' is not an expression{place}: {getattr(error, 'msg', error)}") from error
        return cls(text, _Parser(text.strip(), columns).parse(tree.body))

    @property
    def type(self) -> Type:
        """Type of the values."""
        return self.root.type

    @cached_property
    def operand_types(self) -> Mapping[str, Type]:
        """Types of the columns that it uses, by name, in order of their first use."""
        return {column.name: column.type for column in _find_columns(self.root)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it uses, in order of their first use."""
        return tuple(self.operand_types)


def _find_columns(node: Node) -> list[ColumnReference]:
    match node:
        case ColumnReference():
            return [node]
        case Call():
            return [column for operand in node.operands for column in _find_columns(operand)]
        case _:
            return []


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, Type]) -> None:
        self._text = text
        self._columns = columns

    def parse(self, node: ast.expr, depth: int = 0) -> Node:
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"the expression is nested deeper than {_MAX_DEPTH} operations")
        match node:
            case ast.Constant():
                return self._parse_constant(node)
            case ast.Name(id=name):
                return self._parse_column(name)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if not isinstance(
                value, bool
            ):
                return Constant(-float(value), "number")
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not()):
                operand = self.parse(node.operand, depth + 1)
                if isinstance(node.op, ast.UAdd):
                    return operand
                return self._build_call("not" if isinstance(node.op, ast.Not) else "negative", [operand], node)
            case ast.BinOp() if type(node.op) in _BINARY:
                operands = [self.parse(node.left, depth + 1), self.parse(node.right, depth + 1)]
                return self._build_call(_BINARY[type(node.op)], operands, node)
            case ast.BoolOp():
                function = "and" if isinstance(node.op, ast.And) else "or"
                return self._build_call(function, [self.parse(value, depth + 1) for value in node.values], node)
            case ast.Compare() if all(type(operator) in _COMPARE for operator in node.ops):
                return self._parse_comparison(node, depth)
            case ast.IfExp():
                parts = [node.test, node.body, node.orelse]
                return self._build_call("if", [self.parse(part, depth + 1) for part in parts], node)
            case ast.Call(func=ast.Name(id=name)) if not node.keywords:
                return self._parse_function(name, node, depth)
        raise ExpressionError(
            f"{self._quote(node)} is not in the language; it has columns, numbers, strings, + - * / // % **, "
            f"comparisons, and, or, not, a if c else b, and the functions {', '.join(_NAMED)}"
        )

    def _parse_constant(self, node: ast.Constant) -> Constant:
        match node.value:
            case bool():
                return Constant(node.value, "boolean")
            case int() | float():
                if not abs(node.value) < 3.4e38:
                    raise ExpressionError(f"{self._quote(node)} is beyond float32, in which numbers are computed")
                return Constant(float(node.value), "number")
            case str():
                return Constant(node.value, "string")
        raise ExpressionError(f"{self._quote(node)}: expected a number, a string, True or False")

    def _parse_column(self, name: str) -> ColumnReference:
        if name not in self._columns:
            if name in _NAMED:
                raise ExpressionError(f"'{name}' is a function; expected {name}(...)")
            raise ExpressionError(f"there is no column '{name}'; {suggest_name(name, list(self._columns))}")
        if self._columns[name] == "list":
            raise ExpressionError(
                f"'{name}' has several values in each row; expected a column of one value, such as an input of strings"
            )
        return ColumnReference(name, self._columns[name])

    def _parse_comparison(self, node: ast.Compare, depth: int) -> Node:
        values = [self.parse(value, depth + 1) for value in [node.left, *node.comparators]]
        pairs = [
            self._build_call(_COMPARE[type(operator)], [left, right], node)
            for operator, left, right in zip(node.ops, values, values[1:], strict=False)
        ]
        return pairs[0] if len(pairs) == 1 else self._build_call("and", pairs, node)

    def _parse_function(self, name: str, node: ast.Call, depth: int) -> Node:
        if name == _COLUMN_FUNCTION:
            match node.args:
                case [ast.Constant(value=str() as column)]:
                    return self._parse_column(column)
            raise ExpressionError(f'{self._quote(node)}: expected one name in quotes, as in column("monthly charge")')
        if name not in _NAMED:
            raise ExpressionError(f"there is no function '{name}'; {suggest_name(name, [*_NAMED, _COLUMN_FUNCTION])}")
        return self._build_call(name, [self.parse(operand, depth + 1) for operand in node.args], node)

    def _build_call(self, function: str, operands: Sequence[Node], node: ast.expr) -> Call:
        for signature in FUNCTIONS[function]:
            result = _find_result_type(signature, operands)
            if result is not None:
                for index in signature.constants:
                    if not isinstance(operands[index], Constant):
                        raise ExpressionError(f"{self._quote(node)}: operand {index + 1} must be a constant")
                return Call(function, tuple(operands), result)
        expected = " or ".join(_describe(signature) for signature in FUNCTIONS[function])
        types = f"({', '.join(operand.type for operand in operands)})"
        raise ExpressionError(f"{self._quote(node)}: {function} takes {expected}, found {types}")

    def _quote(self, node: ast.expr) -> str:
        return f"'{ast.get_source_segment(self._text, node) or self._text}'"


def _find_result_type(signature: Signature, operands: Sequence[Node]) -> Type | None:
    """Return the type of a call's result; None if the operands do not fit."""
    expected = list(signature.operands)
    if signature.repeats:
        expected += expected[-1:] * (len(operands) - len(expected))
    if len(expected) != len(operands):
        return None
    shared = {operand.type for operand, type_ in zip(operands, expected, strict=True) if type_ == "same"}
    fits = all(type_ in ("same", operand.type) for operand, type_ in zip(operands, expected, strict=True))
    if not fits or len(shared) > 1:
        return None
    return next(iter(shared)) if signature.result == "same" else signature.result


def _describe(signature: Signature) -> str:
    names = ["one type" if type_ == "same" else type_ for type_ in signature.operands]
    return f"({', '.join(names)}{', ...' if signature.repeats else ''})"
