"""The sample of a request log: a hash of the key decides, so that all workers and all days agree."""

import hashlib
import math
from typing import Any

# Other decisions by a key, such as a split of traffic, do not depend on this one.
_HASH = hashlib.blake2b(digest_size=8, person=b"request-log")


class Sample:
    """A share of all keys.

    Attributes:
      is_all: Whether it has every key.
    """

    def __init__(self, share: float) -> None:
        """Args:
        share: share of all keys, in (0, 1].
        """
        self.is_all = share >= 1
        self._end = b"" if self.is_all else math.ceil(share * 2**64).to_bytes(_HASH.digest_size, "big")

    def has(self, key: str) -> bool:
        """Return whether a key of a row, or the ID of a request, is in the sample."""
        if self.is_all:
            return True
        # This runs for every request: a copy takes a third of the time of a new hash, and bytes compare as numbers.
        digest = _HASH.copy()
        digest.update(key.encode("utf-8", "surrogatepass"))
        return digest.digest() < self._end


def write_key(value: Any) -> str | None:
    """Return a key of a request as a string; None for a value that is not a key."""
    if isinstance(value, list) and len(value) == 1:
        # Columns of shape [rows, 1].
        (value,) = value
    match value:
        case str():
            return value or None
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            # 42.0 is the 42 of another client.
            return str(int(value)) if value.is_integer() else repr(value)
        case bytes():
            return value.decode(errors="replace") or None
    return None
