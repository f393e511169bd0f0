"""Text from metadata, logs and configs, made safe to show to others: without control characters and without secrets."""

import re

from oncall.terminal import clean

_HIDDEN = "(hidden)"
# https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1: a URL may hold a name and a password. A Path keeps one slash.
_IN_URL = re.compile(r"(\w:/{1,2})[^/\s@'\"]+@")
_NAME = r"[\w.-]*(?:passw(?:or)?d|secret|token|api_?key|authorization|credentials?)"
_NAMED = re.compile(
    rf"""(["']?\b{_NAME}["']?\s*[=:]\s*)((?:bearer |basic )?(?:"[^"]*"|'[^']*'|[^\s,;}}\]]+))""", re.IGNORECASE
)
_IS_SECRET = re.compile(_NAME, re.IGNORECASE)


def safe(text: object) -> str:
    """Return the text, its lines kept, each control character shown as its escape, what looks like a secret left
    out.
    """
    shown = "\n".join(clean(line) for line in str(text).split("\n"))
    return _NAMED.sub(rf"\1{_HIDDEN}", _IN_URL.sub(rf"\1{_HIDDEN}@", shown))


def value_of(name: str, value: object) -> object:
    """Return a value, unless its name says that it is a secret."""
    return _HIDDEN if _IS_SECRET.fullmatch(name) else value
