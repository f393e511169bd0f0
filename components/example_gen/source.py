"""Another TFX ExampleGen in front of this one, built from its dotted path. Imports TFX only when there is one."""

import importlib
from typing import Any

from cli.errors import ConfigError, get_first_line
from schemas.data import SourceExampleGen
from schemas.declaration import suggest_name

# TFX's messages among the arguments of its components, each with the module that has it.
_MESSAGES = {
    "input_config": ("tfx.proto.example_gen_pb2", "Input"),
    "output_config": ("tfx.proto.example_gen_pb2", "Output"),
    "range_config": ("tfx.proto.range_config_pb2", "RangeConfig"),
}
_KEY = "data.example_gen"


def build_source(declared: SourceExampleGen) -> Any:
    """Return the component that a config declares, as the node SourceExampleGen.

    Raises:
      ConfigError: It cannot be imported, is not an ExampleGen, or does not take the arguments.
    """
    component = _find_class(declared.component)
    arguments = {name: _convert_argument(name, value) for name, value in declared.arguments.items()}
    try:
        return component(**arguments).with_id("SourceExampleGen")
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{_KEY}.arguments: {declared.component} does not take them: {get_first_line(error)}"
        ) from error


def _find_class(path: str) -> Any:
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{_KEY}.component: {path} cannot be imported: {get_first_line(error)}") from error
    if not hasattr(module, name):
        hint = suggest_name(name, [other for other in vars(module) if other.endswith("ExampleGen")])
        raise ConfigError(f"{_KEY}.component: {module_name} has no {name}; {hint}")
    component = getattr(module, name)
    outputs = getattr(getattr(component, "SPEC_CLASS", None), "OUTPUTS", {})
    type_name = getattr(getattr(outputs.get("examples"), "type", None), "TYPE_NAME", None)
    if type_name != "Examples":
        raise ConfigError(
            f"{_KEY}.component: {path} is not an ExampleGen; expected a TFX component whose output `examples` is of "
            "type Examples"
        )
    return component


def _convert_argument(name: str, value: Any) -> Any:
    """Return a mapping as the message of TFX that it stands for, and any other value as it is."""
    if name not in _MESSAGES or not isinstance(value, dict):
        return value
    from google.protobuf import json_format

    module, message = _MESSAGES[name]
    try:
        return json_format.ParseDict(value, getattr(importlib.import_module(module), message)())
    except json_format.ParseError as error:
        raise ConfigError(f"{_KEY}.arguments.{name}: {get_first_line(error)}") from error
