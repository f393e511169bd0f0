"""List filters (https://google.aip.dev/160): comparisons joined by AND and OR, of which OR binds closer, and NOT.

display_name="census" AND (labels.pipeline=census AND metadata.blessed.number_value=1 OR state=LIVE)
create_time<"2026-11-24T12:00:00Z" AND pipeline_job_user_id:"census-*" AND in_context("projects/...")
"""

import datetime
import re
from typing import Any

from emulators.vertex.errors import InvalidArgumentError

_COMPARISON = r"""([\w.\-]+)\s*(=|!=|:|<=|>=|<|>)\s*("(?:[^"\\]|\\.)*"|[^\s()]+)"""
_TERM = re.compile(_COMPARISON)
_TOKEN = re.compile(rf"""\s*(\(|\)|AND\b|OR\b|NOT\b|in_context\("[^"]+"\)|{_COMPARISON})\s*""")
_IN_CONTEXT = re.compile(r"""^in_context\("([^"]+)"\)$""")


def is_match(resource: dict[str, Any], expression: str) -> bool:
    """Return whether a resource, as a dict of snake_case fields, meets a filter: https://google.aip.dev/160."""
    tokens, place = [], 0
    while place < len(expression.rstrip()):
        match = _TOKEN.match(expression, place)
        if match is None:
            raise InvalidArgumentError(f"Invalid filter: {expression[place:]}")
        tokens.append(match[1])
        place = match.end()
    value = _read_all(resource, tokens)
    if tokens:
        raise InvalidArgumentError(f"Invalid filter: {' '.join(tokens)}")
    return value


def _read_all(resource: dict[str, Any], tokens: list[str]) -> bool:
    """Return the value of terms joined by AND, and take them off the tokens."""
    value = _read_any(resource, tokens)
    while tokens and tokens[0] == "AND":
        del tokens[0]
        # Both sides are read, whatever the first is.
        value = _read_any(resource, tokens) and value
    return value


def _read_any(resource: dict[str, Any], tokens: list[str]) -> bool:
    value = _read_term(resource, tokens)
    while tokens and tokens[0] == "OR":
        del tokens[0]
        value = _read_term(resource, tokens) or value
    return value


def _read_term(resource: dict[str, Any], tokens: list[str]) -> bool:
    """Return the value of one term: https://google.aip.dev/160#logical-operators."""
    if not tokens:
        raise InvalidArgumentError("Invalid filter: it ends too early.")
    token = tokens.pop(0)
    if token == "NOT":
        return not _read_term(resource, tokens)
    if token != "(":
        return _is_true(resource, token)
    value = _read_all(resource, tokens)
    if not tokens or tokens.pop(0) != ")":
        raise InvalidArgumentError("Invalid filter: a parenthesis is not closed.")
    return value


def _is_true(resource: dict[str, Any], term: str) -> bool:
    """Return whether a comparison holds: https://google.aip.dev/160#comparison-operators.

    in_context is a function of ListExecutionsRequest.filter and ListArtifactsRequest.filter.
    """
    member = _IN_CONTEXT.match(term)
    if member is not None:
        return member[1] in resource.get("in_context", ())
    comparison = _TERM.fullmatch(term)
    if comparison is None:
        raise InvalidArgumentError(f"Invalid filter: {term}")
    path, operator, raw = comparison.groups()
    expected = raw[1:-1].replace('\\"', '"') if raw.startswith('"') else raw
    value: Any = resource
    for part in path.split("."):
        if part in ("number_value", "string_value", "bool_value"):
            continue
        value = value.get(part) if isinstance(value, dict) else None
    if operator == ":":
        return _has_entry(value, expected)
    if value is None:
        return operator == "!="
    if isinstance(value, int | float) and not isinstance(value, bool):
        expected = float(expected)
    elif isinstance(value, bool):
        value = str(value).lower()
    elif path.endswith("_time"):
        value, expected = datetime.datetime.fromisoformat(value), datetime.datetime.fromisoformat(expected)
    return bool(
        {
            "=": value == expected,
            "!=": value != expected,
            "<": value < expected,
            ">": value > expected,
            "<=": value <= expected,
            ">=": value >= expected,
        }[operator]
    )


def _has_entry(value: Any, expected: str) -> bool:
    """Return whether the operator `:` holds: a string matches a pattern with `*`, a list or a map has an entry."""
    if isinstance(value, str):
        return bool(re.fullmatch(".*".join(map(re.escape, expected.split("*"))), value))
    return value is not None if expected == "*" else expected in (value or ())
