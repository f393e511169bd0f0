"""The list filters the product uses (https://google.aip.dev/160): comparisons joined by AND.

display_name="census" AND labels.pipeline=census AND metadata.blessed.number_value=1
create_time<"2026-11-24T12:00:00Z" AND pipeline_job_user_id:"census-*" AND in_context("projects/...")
"""

import datetime
import re
from typing import Any

from emulators.vertex.errors import InvalidArgumentError

_TERM = re.compile(r"""^\(*\s*([\w.\-]+)\s*(=|!=|:|<=|>=|<|>)\s*("(?:[^"\\]|\\.)*"|[^\s()]+)\s*\)*$""")
_IN_CONTEXT = re.compile(r"""^in_context\("([^"]+)"\)$""")


def is_match(resource: dict[str, Any], expression: str) -> bool:
    """Return whether a resource, as a dict of snake_case fields, meets a filter."""
    return all(_is_true(resource, term) for term in _split_terms(expression))


def _split_terms(expression: str) -> list[str]:
    return [term.strip() for term in re.split(r"\s+AND\s+", expression.strip()) if term.strip()]


def _is_true(resource: dict[str, Any], term: str) -> bool:
    member = _IN_CONTEXT.match(term)
    if member is not None:
        return member[1] in resource.get("in_context", ())
    comparison = _TERM.match(term)
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
