"""The sample of a request log: a hash of the key decides, so that all workers and all days agree."""

import hashlib
import math

# Other decisions by a key, such as a split of traffic, do not depend on this one.
_HASH = hashlib.blake2b(digest_size=8, person=b"request-log")


class KeySample:
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

    def has_key(self, key: str) -> bool:
        """Return whether a key of a row, or the ID of a request, is in the sample."""
        if self.is_all:
            return True
        # This runs for every request: a copy takes a third of the time of a new hash, and bytes compare as numbers.
        digest = _HASH.copy()
        digest.update(key.encode("utf-8", "surrogatepass"))
        return digest.digest() < self._end
