"""Text from metadata, logs and configs, made safe to show to others: without control characters and without secrets."""

import re

from oncall.terminal import clean

_HIDDEN = "(hidden)"
# https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1: a URL may hold a user's name and password.
_IN_URL = re.compile(r"(://)[^/\s@'\"]+@")
_NAMED = re.compile(
    r"""(["']?\b[\w.-]*(?:passw(?:or)?d|secret|token|api_?key|authorization|credentials?)["']?\s*[=:]\s*)"""
    r"""((?:bearer |basic )?(?:"[^"]*"|'[^']*'|[^\s,;}\]]+))""",
    re.IGNORECASE,
)


def safe(text: object) -> str:
    """The text, its lines kept, each control character shown as its escape, what looks like a secret left out."""
    shown = "\n".join(clean(line) for line in str(text).split("\n"))
    return _NAMED.sub(rf"\1{_HIDDEN}", _IN_URL.sub(rf"\1{_HIDDEN}@", shown))
