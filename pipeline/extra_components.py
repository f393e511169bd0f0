"""Builds the components of the user's own and wires them into the DAG. Imports TFX."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_node

from cli.errors import ConfigError, get_first_line
from pipeline.config.extra_components import ExtraComponent
from pipeline.config.pipeline_config import PipelineConfig
from schemas.declaration import suggest_name
from schemas.user_code import UserCode


def build_extra_components(config: PipelineConfig, nodes: Mapping[str, base_node.BaseNode]) -> dict[str, Any]:
    """Return the components of the user's own by their names, wired to the other nodes.

    Args:
      config: Config of the pipeline.
      nodes: All other nodes by name.

    Raises:
      ConfigError: A class cannot be imported, or does not take its inputs and parameters.
    """
    places = {component.name: number for number, component in enumerate(config.extra_components)}
    declared = {component.name: component for component in config.extra_components}
    built: dict[str, Any] = {}
    for name in config.node_names:
        if name in declared:
            built[name] = _build(f"extra_components.{places[name]}", declared[name], {**nodes, **built})
    for name, component in declared.items():
        everything = {**nodes, **built}
        if component.after is not None:
            built[name].add_upstream_node(everything[component.after])
        if component.before is not None:
            everything[component.before].add_upstream_node(built[name])
    return built


def _build(key: str, declared: ExtraComponent, nodes: Mapping[str, Any]) -> Any:
    code = UserCode.read(f"{key}.component", declared.component.rpartition(".")[0])
    component = _find_component(code, declared.component)
    channels = {}
    for name, (node, output) in declared.channels.items():
        outputs = nodes[node].outputs
        if output not in outputs:
            hint = suggest_name(output, list(outputs))
            raise ConfigError(f"{key}.inputs.{name}: '{node}' has no output '{output}'; {hint}")
        channels[name] = outputs[output]
    both = sorted(channels.keys() & declared.parameters.keys())
    if both:
        raise ConfigError(f"{key}.parameters: {', '.join(both)}: an input has the same name; remove one of the two")
    _check_arguments(key, declared, component)
    _check_types(key, declared, component, channels, nodes)
    try:
        node = component(**channels, **declared.parameters)
    except Exception as error:
        raise ConfigError(
            f"{key}: {declared.component} does not take its inputs and parameters: {get_first_line(error)}"
        ) from error
    if not isinstance(node, base_node.BaseNode):
        raise ConfigError(f"{key}.component: {declared.component} is not a TFX component but {type(node).__name__}")
    node = node.with_id(declared.name)
    # TFX's cache follows the parameters and the executor's specification, and not the code.
    spec: Any = getattr(node, "executor_spec", None)
    if hasattr(spec, "add_extra_flags"):
        spec.add_extra_flags([f"--code_fingerprint={code.fingerprint}"])
    return node


def _check_arguments(key: str, declared: ExtraComponent, component: Any) -> None:
    """Check that a component has the arguments that the config names.

    Raises:
      ConfigError: It has no such argument.
    """
    arguments = inspect.signature(component).parameters
    names = [*arguments]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [
        name
        for name, argument in arguments.items()
        if argument.default is inspect.Parameter.empty and argument.kind not in variadic
    ]
    if any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in arguments.values()):
        # The class that `@component` makes takes any; its specification has the names.
        spec = _find_spec(component)
        if spec is None:
            return
        specified = {**spec.INPUTS, **spec.PARAMETERS}
        names = [*specified]
        required = required or [name for name, argument in specified.items() if not argument.optional]
    for section in ("inputs", "parameters"):
        for name in getattr(declared, section):
            if name not in names:
                hint = suggest_name(name, names)
                raise ConfigError(f"{key}.{section}.{name}: {declared.component} has no argument '{name}'; {hint}")
    missing = [name for name in required if name not in {**declared.inputs, **declared.parameters}]
    if missing:
        raise ConfigError(
            f"{key}: {declared.component} needs {', '.join(missing)}; give channels in inputs and values in parameters"
        )


def _check_types(
    key: str, declared: ExtraComponent, component: Any, channels: Mapping[str, Any], nodes: Mapping[str, Any]
) -> None:
    """Check that the channels have the types that a component takes.

    Raises:
      ConfigError: One has another.
    """
    spec = _find_spec(component)
    for name, channel in channels.items() if spec is not None else ():
        expected = spec.INPUTS[name].type if name in spec.INPUTS else channel.type
        if channel.type.TYPE_NAME == expected.TYPE_NAME:
            continue
        others = [
            f"{node}.{output}"
            for node, other in nodes.items()
            for output, candidate in other.outputs.items()
            if candidate.type.TYPE_NAME == expected.TYPE_NAME
        ]
        remedy = f"expected {' or '.join(others)}" if others else "the pipeline has no channel of this type"
        raise ConfigError(
            f"{key}.inputs.{name}: {declared.inputs[name]} has the type {channel.type.TYPE_NAME}, and "
            f"{declared.component} takes {expected.TYPE_NAME}; {remedy}"
        )


def _find_spec(component: Any) -> Any:
    """Return the specification of a component's class; None for another function or class."""
    spec = getattr(component, "SPEC_CLASS", None)
    return spec if isinstance(spec, type) else None


def _find_component(code: UserCode, path: str) -> Any:
    """Return the class, or the function that `@component` has made a class of."""
    module_name, _, name = path.rpartition(".")
    code.check_import()
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        hint = suggest_name(name, [other for other in vars(module) if not other.startswith("_")])
        raise ConfigError(f"{code.key}: {module_name} has no {name}; {hint}")
    component = getattr(module, name)
    if not callable(component):
        raise ConfigError(f"{code.key}: {path} is not a TFX component but of type {type(component).__name__}")
    return component
