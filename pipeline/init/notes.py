"""What the user should look at, the most important first."""

from dataclasses import dataclass, field
from enum import IntEnum


class Rank(IntEnum):
    """How important a note is; the least number comes first."""

    LEAK = 0
    ROWS = 1
    MISSING = 2
    COLUMN = 3
    CHOICE = 4


@dataclass
class Notes:
    """Notes in the order of their rank, and of their arrival within a rank."""

    _ranked: list[tuple[Rank, str]] = field(default_factory=list)

    def add(self, rank: Rank, text: str) -> None:
        """Add a note."""
        self._ranked.append((rank, text))

    def texts(self) -> list[str]:
        """Return all notes, the most important first."""
        return [text for _, text in sorted(self._ranked, key=lambda note: note[0])]
