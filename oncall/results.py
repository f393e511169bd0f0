"""The result of a command, for people and as a JSON document."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ResultTable:
    """A table.

    Attributes:
      headings: headings of the columns.
      cells: plain text, by row and column.
      sentences: columns whose text may take several lines; the others are never broken.
      least: columns that are omitted first if a terminal is too narrow.
    """

    headings: Sequence[str]
    cells: Sequence[Sequence[object]]
    sentences: Collection[str]
    least: Sequence[str] = ()


@dataclass(frozen=True)
class CommandResult:
    """The result of a command.

    Attributes:
      document: document for `--json`.
      parts: lines and tables, for people.
      exit_code: exit code of the process.
      error: reason why something could not be read, though the rest is right.
    """

    document: dict[str, Any]
    parts: Sequence[str | ResultTable]
    exit_code: int = 0
    error: str = ""
