"""A share of the requests for a labelled version, and the hash that decides which requests belong to it.

The hash is a pure function of a salt and a key, so that all workers, hosts and restarts agree.
"""

import functools
import hashlib
from dataclasses import dataclass

from cli.errors import ConfigError

# The champion answers all other requests.
LABELS = ("candidate", "previous")
_HASH_BYTES = 8
_HASHES = 1 << (8 * _HASH_BYTES)


@dataclass(frozen=True)
class LabelShare:
    """A share of the requests.

    Attributes:
      label: Label of the version that gets them.
      share: Share, above 0 and at most 1.
    """

    label: str
    share: float

    @classmethod
    def parse(cls, flag: str, text: str) -> "LabelShare":
        """Parse a string such as `candidate=0.2`.

        Args:
          flag: Flag that has the string, for messages.
          text: The string.

        Raises:
          ConfigError: The label is unknown, or the share is not a number in that range.
        """
        label, _, number = text.partition("=")
        if label not in LABELS:
            raise ConfigError(
                f"{flag}: expected {' or '.join(LABELS)} and a share, such as candidate=0.2; found '{text}'"
            )
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise ConfigError(f"{flag}: expected a share above 0 and at most 1, such as {label}=0.2; found '{text}'")
        return cls(label, share)

    def __str__(self) -> str:
        return f"{self.label}={self.share!r}"

    def has_key(self, salt: str, key: str) -> bool:
        """Return whether a key belongs to the share; a larger share of the same salt has all keys of a smaller one."""
        # This runs for every request: a copy takes a third of the time of a new hash.
        digest = _start_hash(salt).copy()
        digest.update(key.encode("utf-8", "surrogatepass"))
        return int.from_bytes(digest.digest(), "big") < self.share * _HASHES


@functools.cache
def _start_hash(salt: str) -> "hashlib.blake2b":
    """Return the hash of a salt, which a key follows."""
    # The salt has a length of its own: "a" and "bc" differ from "ab" and "c".
    return hashlib.blake2b(f"{len(salt)}:{salt}".encode(), digest_size=_HASH_BYTES)
