"""The list filters the product uses (https://google.aip.dev/160): comparisons joined by AND.

display_name="census" AND labels.pipeline=census AND metadata.blessed.number_value=1
create_time<"2026-11-24T12:00:00Z" AND pipeline_job_user_id:"census-*" AND in_context("projects/...")
"""

import datetime
import re
from typing import Any

from emulators.vertex.errors import invalid

_TERM = re.compile(r"""^\(*\s*([\w.\-]+)\s*(=|!=|:|<=|>=|<|>)\s*("(?:[^"\\]|\\.)*"|[^\s()]+)\s*\)*$""")
_IN_CONTEXT = re.compile(r"""^in_context\("([^"]+)"\)$""")


def matches(resource: dict[str, Any], expression: str) -> bool:
    """Whether a resource, as a dict of snake_case fields, fits."""
    return all(_holds(resource, term) for term in _terms(expression))


def _terms(expression: str) -> list[str]:
    return [term.strip() for term in re.split(r"\s+AND\s+", expression.strip()) if term.strip()]


def _holds(resource: dict[str, Any], term: str) -> bool:
    member = _IN_CONTEXT.match(term)
    if member is not None:
        return member[1] in resource.get("in_context", ())
    found = _TERM.match(term)
    if found is None:
        raise invalid(f"Invalid filter: {term}")
    path, operator, raw = found.groups()
    expected = raw[1:-1].replace('\\"', '"') if raw.startswith('"') else raw
    value: Any = resource
    for part in path.split("."):
        if part in ("number_value", "string_value", "bool_value"):
            continue
        value = value.get(part) if isinstance(value, dict) else None
    if operator == ":":
        return _has(value, expected)
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


def _has(value: Any, expected: str) -> bool:
    """Return the operator `:`: a text fits a pattern with `*`, a list or a map has an entry."""
    if isinstance(value, str):
        return bool(re.fullmatch(".*".join(map(re.escape, expected.split("*"))), value))
    return value is not None if expected == "*" else expected in (value or ())
