"""The base of everything a user writes in a config: frozen, strict, and clear about mistakes."""

import difflib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

_MAX_SUGGESTED = 12


def suggest_name(name: str, names: list[str]) -> str:
    """Return a suggestion for a misspelt name, or the first of the names that may be written instead.

    >>> suggest_name("epoch", ["epochs", "seed"])
    "did you mean 'epochs'?"
    """
    close = find_close_match(name, names)
    if close:
        return f"did you mean '{close}'?"
    if not names:
        return "there are no names to choose from"
    more = f" and {len(names) - _MAX_SUGGESTED} more" if len(names) > _MAX_SUGGESTED else ""
    return f"expected one of: {', '.join(names[:_MAX_SUGGESTED])}{more}"


def find_close_match(name: str, names: list[str]) -> str | None:
    """Return the name that was probably meant; None if no name is close."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), None)


def _as_strings(values: Any) -> Any:
    """Return a list with its numbers as strings: YAML reads -999 and .nan as numbers."""
    if not isinstance(values, list | tuple):
        return values
    is_number = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    return [str(value) if number else value for value, number in zip(values, is_number, strict=True)]


MissingValues = Annotated[tuple[str, ...], BeforeValidator(_as_strings)]


class Declaration(BaseModel):
    """A frozen section of a config that rejects unknown keys and suggests declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _reject_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}', {suggestion}",
                        {"key": str(key), "suggestion": suggest_name(str(key), list(cls.model_fields))},
                    )
        return data
