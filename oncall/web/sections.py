"""A part of a page: what was found, or why it could not be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.errors import PipelineError
from oncall.terminal import Answer


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Attributes:
      found: what is shown; None where there is nothing yet, or a problem.
      problem: why that is not all.
    """

    found: Any = None
    problem: str = ""


def section(question: Callable[[], Any]) -> Section:
    """Asks; of an Answer, the document is what was found."""
    try:
        found = question()
    except PipelineError as error:
        return Section(problem=str(error))
    except OSError as error:
        return Section(problem=f"{error.filename or 'a file'}: cannot be read: {error.strerror or error}")
    if isinstance(found, Answer):
        return Section(found.document, found.error)
    return Section(found)
