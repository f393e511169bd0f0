"""Writes docs/config.md from the config's own models: `make docs`. A test compares the file with it."""

import datetime
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.config.pipeline_config import PipelineConfig
from schemas.declaration import Declaration

INTRODUCTION = """\
# The config

One YAML file describes one pipeline; [configs/census.yaml](../configs/census.yaml) is a whole one. Relative paths
start at the file's own folder. Any key can be set for one run: `python local_runner.py --set training.epochs=3 --set
crosses.0.num_ids=500`. An unknown key is an error, which suggests the nearest
one.

This page is written by `make docs` from the models that check the file.
"""


def render_page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for model in _list_models(PipelineConfig):
        title = "The file" if model is PipelineConfig else model.__name__
        parts.append(
            f"## {title}\n\n{_format_paragraph(model.__doc__)}\n\n| key | value | default | |\n|---|---|---|---|"
        )
        parts[-1] += "".join(f"\n{_format_row(name, field)}" for name, field in model.model_fields.items())
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _list_models(model: type[Declaration], seen: set[type] | None = None) -> Iterator[type[Declaration]]:
    """Yield a model and all it is made of, each once, in the order in which a reader meets them."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for inner in _find_declarations(field.annotation):
            yield from _list_models(inner, seen)


def _find_declarations(annotation: Any) -> Iterator[type[Declaration]]:
    if isinstance(annotation, type) and issubclass(annotation, Declaration):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _find_declarations(argument)


def _format_row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else _format_default(field.get_default(call_default_factory=True))
    cells = (f"`{name}`", _format_type(field.annotation), default, _format_paragraph(field.description))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _format_default(value: Any) -> str:
    if value is None or value == "" or value is PydanticUndefined:
        return "none"
    if isinstance(value, Declaration):
        entries = ", ".join(f"{k}: {v}" for k, v in value.model_dump(exclude_unset=True).items())
        return f"`{{{entries}}}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(repr(v) if v == '' else str(v) for v in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _format_type(annotation: Any) -> str:
    """Return the name of a type in the words of YAML."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _format_type(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_format_type(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_format_type(arguments[0])}"
    if origin is dict:
        return f"mapping of name to {_format_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Declaration):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {str: "string", int: "integer", float: "number", bool: "true or false", datetime.date: "date", Any: "any"}[
        annotation
    ]


def _format_paragraph(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    sys.stdout.write(render_page())
