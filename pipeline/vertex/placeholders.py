"""Placeholders in a container's command, as pipeline_spec.proto of Kubeflow Pipelines describes them.

    {{$}}                                       the whole request, as JSON
    {{$.inputs.parameters['epochs']}}           a parameter
    {{$.outputs.artifacts['model'].uri}}        the uri or path of an artifact
    {"IfPresent": {"InputName": "epochs", "Then": [...], "Else": [...]}}
    {"Concat": [...]}

https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto (PipelineContainerSpec)
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from cli.errors import PipelineError

_PLACEHOLDER = re.compile(r"\{\{\$(?:\.(\w+)\.(parameters|artifacts)\['([^']+)'\](?:\.(\w+))?)?\}\}")


def fill(parts: list[str], request: Mapping[str, Any]) -> list[str]:
    """Return a command with its placeholders filled in.

    Args:
      parts: Words of the command.
      request: ExecutorInput: inputs with their parameterValues and artifacts, and outputs.

    Raises:
      PipelineError: a placeholder names what the task does not have.
    """
    return [word for part in parts for word in _expand(part, request)]


def _expand(part: Any, request: Mapping[str, Any]) -> list[str]:
    structure = _read_structure(part)
    if "IfPresent" in structure:
        condition = structure["IfPresent"]
        inputs = request["inputs"]
        is_present = condition["InputName"] in {**inputs["parameterValues"], **inputs["artifacts"]}
        chosen = condition.get("Then" if is_present else "Else", [])
        return [word for inner in _to_list(chosen) for word in _expand(inner, request)]
    if "Concat" in structure:
        return ["".join(word for inner in structure["Concat"] for word in _expand(inner, request))]
    return [_PLACEHOLDER.sub(lambda match: _get_value(match, request), part)]


def _read_structure(part: Any) -> Mapping[str, Any]:
    """Return a placeholder with a structure, which stands in a string as JSON; else nothing."""
    if isinstance(part, str) and part.startswith(('{"IfPresent"', '{"Concat"')):
        part = json.loads(part)
    return part if isinstance(part, dict) else {}


def _to_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _get_value(match: re.Match[str], request: Mapping[str, Any]) -> str:
    side, kind, name, attribute = match.groups()
    if side is None:
        return json.dumps(request)
    try:
        if kind == "parameters" and attribute is None:
            value = request[side]["parameterValues"][name]
            # Numbers of a Struct are floats.
            value = int(value) if isinstance(value, float) and value.is_integer() else value
            return value if isinstance(value, str) else json.dumps(value)
        if kind == "artifacts" and attribute in ("uri", "path"):
            return str(request[side]["artifacts"][name]["artifacts"][0]["uri"])
    except (KeyError, IndexError) as error:
        raise PipelineError(f"{match[0]}: the task has no such value") from error
    raise PipelineError(f"{match[0]}: cannot be rehearsed")
