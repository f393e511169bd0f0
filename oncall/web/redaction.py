"""Removes control characters and secrets from text of metadata, logs and configs before others see it."""

import re

from cli.terminal import clean

_HIDDEN = "(hidden)"
# https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1: a URL may hold a name and a password. A Path keeps one slash.
_IN_URL = re.compile(r"(\w:/{1,2})[^/\s@'\"]+@")
_NAME = r"[\w.-]*(?:passw(?:or)?d|secret|token|api_?key|authorization|credentials?)"
_NAMED = re.compile(
    rf"""(["']?\b{_NAME}["']?\s*[=:]\s*)((?:bearer |basic )?(?:"[^"]*"|'[^']*'|[^\s,;}}\]]+))""", re.IGNORECASE
)
_IS_SECRET = re.compile(_NAME, re.IGNORECASE)


def redact(text: object) -> str:
    """Return the text with its lines, control characters as escapes, and without parts that look like secrets."""
    cleaned = "\n".join(clean(line) for line in str(text).split("\n"))
    return _NAMED.sub(rf"\1{_HIDDEN}", _IN_URL.sub(rf"\1{_HIDDEN}@", cleaned))


def redact_value(name: str, value: object) -> object:
    """Return a value, unless its name is one of a secret."""
    return _HIDDEN if _IS_SECRET.fullmatch(name) else value
