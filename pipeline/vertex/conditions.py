"""The conditions and the artifact queries in a compiled job, evaluated as Vertex does, as far as TFX writes them.

https://github.com/google/cel-spec is the language of conditions, https://google.aip.dev/160 that of queries.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

from cli.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.artifacts\['(\w+)'\]\.metadata\['(\w+)'\]\}\}")
_TERM = re.compile(r"^([\w.]+)=(\"[^\"]*\"|[^\s\"]+)$")


def is_condition_met(condition: str, inputs: Mapping[str, Any]) -> bool:
    """Return whether a task runs.

    Args:
      condition: CEL as TFX's compiler writes it.
      inputs: inputs of the task, as in its ExecutorInput.

    Raises:
      ConfigError: the condition uses something that TFX does not write, or reads a missing value.
    """
    # Within what TFX writes, CEL is Python but for three operators.
    text = condition.replace("&&", " and ").replace("||", " or ").replace("!(", " not (")
    try:
        return bool(_evaluate(ast.parse(text.strip(), mode="eval").body, inputs))
    except (SyntaxError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"condition {condition}: cannot be evaluated: {type(error).__name__}: {error}") from error


def _evaluate(node: ast.expr, inputs: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name(id="inputs"):
            return inputs
        case ast.Attribute():
            return _evaluate(node.value, inputs)[node.attr]
        case ast.Subscript():
            return _evaluate(node.value, inputs)[_evaluate(node.slice, inputs)]
        case ast.UnaryOp(op=ast.Not()):
            return not _evaluate(node.operand, inputs)
        case ast.BinOp(op=ast.Add()):
            return _evaluate(node.left, inputs) + _evaluate(node.right, inputs)
        case ast.BoolOp(op=ast.And()):
            return all(_evaluate(part, inputs) for part in node.values)
        case ast.BoolOp(op=ast.Or()):
            return any(_evaluate(part, inputs) for part in node.values)
        case ast.Compare(ops=[ast.Eq() | ast.Lt() | ast.Gt() as operator]):
            left, right = _evaluate(node.left, inputs), _evaluate(node.comparators[0], inputs)
            if isinstance(operator, ast.Eq):
                return left == right
            return left < right if isinstance(operator, ast.Lt) else left > right
        case _:
            raise TypeError(f"{type(node).__name__} is not known here")


def is_query_met(query: str, artifact: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Return whether an artifact fits a resolver's query.

    Args:
      query: such as `schema_title="tfx.Model" AND state=LIVE AND name="{{$.inputs.artifacts['input']...}}"`.
      artifact: with `schema_title`, `state`, `name` and `metadata`.
      inputs: inputs of the resolver, for its placeholders; an absent one matches nothing.
    """

    def fill(match: re.Match[str]) -> str:
        artifacts = inputs.get("artifacts", {}).get(match[1], {}).get("artifacts", [])
        return str(artifacts[0]["metadata"].get(match[2], "")) if artifacts else ""

    for term in re.split(r"\s+AND\s+", _PLACEHOLDER.sub(fill, query)):
        parts = _TERM.match(term)
        if parts is None:
            raise ConfigError(f"resolver query {query}: '{term}' is not known here")
        value: Any = artifact
        for part in parts[1].split("."):
            if part not in ("number_value", "string_value"):
                value = value.get(part) if isinstance(value, Mapping) else None
        expected = parts[2].strip('"')
        if value is None or (float(expected) != value if isinstance(value, int | float) else expected != value):
            return False
    return True
