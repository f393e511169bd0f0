"""A share of all keys, chosen by a hash, so that all workers, hosts and days agree."""

import hashlib
import math

_HASH_BYTES = 8
# Other decisions by a key, such as a split of traffic, do not depend on that of the request log.
_LOG_HASH = hashlib.blake2b(digest_size=_HASH_BYTES, person=b"request-log")


class KeySample:
    """A share of all keys; a larger share of the same salt has all keys of a smaller one.

    Attributes:
      is_all: Whether it has every key.
    """

    def __init__(self, share: float, salt: str | None = None) -> None:
        """Args:
        share: Share of all keys, in (0, 1].
        salt: Salt of the hash; if omitted, the hash is that of the request log.
        """
        self.is_all = share >= 1
        self._end = b"" if self.is_all else math.ceil(share * 2 ** (8 * _HASH_BYTES)).to_bytes(_HASH_BYTES, "big")
        self._start = _LOG_HASH
        if salt is not None:
            # The salt has a length of its own: "a" and "bc" differ from "ab" and "c".
            self._start = hashlib.blake2b(f"{len(salt)}:{salt}".encode(), digest_size=_HASH_BYTES)

    def has_key(self, key: str) -> bool:
        """Return whether a key of a row, or the ID of a request, is in the sample."""
        if self.is_all:
            return True
        # This runs for every request: a copy takes a third of the time of a new hash, and bytes compare as numbers.
        digest = self._start.copy()
        digest.update(key.encode("utf-8", "surrogatepass"))
        return digest.digest() < self._end
