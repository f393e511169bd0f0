"""A share of the requests for a labelled version."""

import functools
from dataclasses import dataclass

from cli.errors import ConfigError
from serving.request_log.sampling import KeySample

# The champion answers all other requests.
LABELS = ("candidate", "previous")


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
        """Return whether a key belongs to the share of a salt."""
        return self.build_sample(salt).has_key(key)

    @functools.lru_cache(maxsize=16)  # noqa: B019
    def build_sample(self, salt: str) -> KeySample:
        """Return the keys that belong to the share of a salt."""
        return KeySample(self.share, salt)
