"""Notes for the user, the most important first."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum

# More notes than this are not read; the config has all of them.
MAX_SHOWN_NOTES = 5


class Rank(IntEnum):
    """How important a note is; the least number comes first."""

    LABEL = 0
    LEAK = 1
    ROWS = 2
    MISSING = 3
    COLUMN = 4
    CHOICE = 5


@dataclass
class Notes:
    """Notes in the order of their rank, and of their arrival within a rank.

    Attributes:
      mask: Returns what is shown of a note.
    """

    mask: Callable[[str], str] = str
    _ranked: list[tuple[Rank, str]] = field(default_factory=list)

    def add(self, rank: Rank, text: str) -> None:
        """Add a note."""
        self._ranked.append((rank, self.mask(text)))

    def add_all(self, rank: Rank, texts: Iterable[str]) -> None:
        """Add notes of one rank."""
        for text in texts:
            self.add(rank, text)

    @property
    def texts(self) -> list[str]:
        """All notes, the most important first."""
        return [text for _, text in sorted(self._ranked, key=lambda note: note[0])]
