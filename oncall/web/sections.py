"""A part of a page: its content, or the reason why that cannot be read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.errors import PipelineError
from oncall.results import CommandResult


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
      content: values that the template shows; None if there are none yet, or if there is a problem.
      problem: reason why the content is missing or incomplete.
    """

    content: Any = None
    problem: str = ""


def read_section(read: Callable[[], Any]) -> Section:
    """Return the value as a section; for a command's result, its document."""
    try:
        value = read()
    except PipelineError as error:
        return Section(problem=str(error))
    except OSError as error:
        return Section(problem=f"{error.filename or 'a file'}: cannot be read: {error.strerror or error}")
    if isinstance(value, CommandResult):
        return Section(value.document, value.error)
    return Section(value)
