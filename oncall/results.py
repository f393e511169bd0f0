"""The result of a command, for people and as a JSON document, and that of one check."""

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


@dataclass(frozen=True)
class Check:
    """One expectation and its result.

    Attributes:
      name: name of the check.
      ok: whether the expectation holds.
      message: actual state.
      todo: command to try if it does not hold.
      about: run or version that the check is about.
      run: run that the message names.
      trained_by: run that trained the version; ML Metadata keeps an alert of the check there.
      parts: parts of the subject, such as features; a further one is news, one that recovers is not.
    """

    name: str
    ok: bool
    message: str
    todo: str = ""
    about: str = ""
    run: str = ""
    trained_by: str = ""
    parts: tuple[str, ...] = ()
