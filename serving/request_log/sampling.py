"""The sample of a request log: a hash of the key decides, so that all workers and all days agree."""

import hashlib
from typing import Any

# Other decisions by a key, such as a split of traffic, do not depend on this one.
_HASH = hashlib.blake2b(digest_size=8, person=b"request-log")


def is_sampled(key: str, share: float) -> bool:
    """Return whether a key is in the sample.

    Args:
      key: Key of a row, or ID of a request.
      share: Share of all keys that are, in (0, 1].
    """
    if share >= 1:
        return True
    # A copy takes a third of the time of a new hash; this runs for every request.
    digest = _HASH.copy()
    digest.update(key.encode(errors="surrogatepass"))
    return int.from_bytes(digest.digest(), "big") < share * 2**64


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
