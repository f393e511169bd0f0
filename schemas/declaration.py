"""The base of everything a user writes in a config: frozen, strict, and clear about mistakes."""

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


def did_you_mean(name: str, known: list[str]) -> str:
    """A suggestion for a misspelt name, or what may be written instead.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    "did you mean 'epochs'?"
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"expected one of: {', '.join(known) or 'nothing'}"


class Declaration(BaseModel):
    """A frozen section of a config that refuses unknown keys and suggests the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key '{key}', {suggestion}",
                        {"key": str(key), "suggestion": did_you_mean(str(key), list(cls.model_fields))},
                    )
        return data
