"""The style sheet of all pages: `oncall web`, `pipeline stats` and the model server's."""

import functools
from importlib import resources


@functools.cache
def read_style() -> str:
    """Return the style sheet."""
    return (resources.files("cli") / "templates" / "style.css").read_text(encoding="utf-8")
