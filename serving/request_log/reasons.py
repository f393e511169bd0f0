"""Reasons of rejected requests that can be counted: messages without the values of a row."""

import re

_MAX_CHARS = 120
_PLACE = re.compile(r"^(?:instances|examples|inputs)\[\d+\]: ")
# What comes behind quotes a value, a remedy, or the words of another program.
_DETAILS = re.compile(r", found |; |(?<=not JSON): |(?<=rejects the values): |(?<=damaged): ")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,.]*(?![\w])")


def find_reason(message: str) -> str:
    """Return the message of a rejected request without what differs from row to row.

    >>> find_reason("instances[3]: age: expected a finite number, found 'old'")
    'age: expected a finite number'
    >>> find_reason("the request has 5,000 rows; at most 4,096 are taken")
    'the request has N rows'
    """
    text = _DETAILS.split(_PLACE.sub("", message), maxsplit=1)[0]
    return _NUMBER.sub("N", _QUOTED.sub("'...'", text))[:_MAX_CHARS]


class Reasons:
    """Bounds the number of different reasons, since a client chooses what is wrong."""

    OTHER = "other"

    def __init__(self, most: int = 200) -> None:
        self._most = most
        self._reasons: set[str] = set()

    def find(self, message: str) -> str:
        """Return the reason in a message; `OTHER` once there are too many."""
        reason = find_reason(message)
        if reason not in self._reasons:
            if len(self._reasons) >= self._most:
                return self.OTHER
            self._reasons.add(reason)
        return reason
