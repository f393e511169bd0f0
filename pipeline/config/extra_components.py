"""TFX components of the user's own, which a config adds to the DAG. Imports no TensorFlow and no TFX."""

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.config.node_names import NODES, OUTPUTS
from schemas.declaration import Declaration, suggest_name

NodeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]


class ExtraComponent(Declaration):
    """A TFX component of your own."""

    component: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
    """Dotted path of its class or of its function with `@component`, such as `my_package.notify.Notify`."""
    name: NodeName = ""
    """Name of the node. If omitted, that of the class."""
    inputs: dict[str, Annotated[str, Field(pattern=r"^\w+\.\w+$")]] = Field(default_factory=dict)
    """Channels by the names of the component's inputs, such as `model: Trainer.model`."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the class."""
    after: NodeName | None = None
    """Node that it waits for, beside those of its inputs."""
    before: NodeName | None = None
    """Node that waits for it: if the component fails, that node does not run."""

    @model_validator(mode="before")
    @classmethod
    def _set_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and "name" not in values and isinstance(values.get("component"), str):
            values = {**values, "name": values["component"].rpartition(".")[2]}
        return values

    @property
    def channels(self) -> dict[str, tuple[str, str]]:
        """The node and the output of each input."""
        return {key: (channel.split(".")[0], channel.split(".")[1]) for key, channel in self.inputs.items()}

    @property
    def upstream(self) -> tuple[str, ...]:
        """The nodes that it waits for."""
        return tuple(
            dict.fromkeys([*(node for node, _ in self.channels.values()), *([self.after] if self.after else [])])
        )


def add_extra_nodes(names: Sequence[str], extra: Sequence[ExtraComponent]) -> tuple[str, ...]:
    """Return the nodes of a DAG with those of the user's own: each as soon as all that it waits for has run.

    Args:
      names: Nodes of the DAG, in order.
      extra: Components of the user's own.

    Raises:
      ValueError: A node or an output does not exist, two nodes have one name, or nodes wait for each other.
    """
    all_names = [*names, *(component.name for component in extra)]
    for number, component in enumerate(extra):
        where = f"extra_components.{number}"
        if all_names.count(component.name) > 1 or component.name in NODES:
            raise ValueError(f"{where}.name: '{component.name}' is another node; give it another name")
        for key, node in _find_named_nodes(component):
            if node not in all_names:
                raise ValueError(f"{where}.{key}: there is no node '{node}'; {suggest_name(node, all_names)}")
        for key, (node, output) in component.channels.items():
            outputs = OUTPUTS.get(node)
            if outputs is not None and output not in outputs:
                raise ValueError(
                    f"{where}.inputs.{key}: '{node}' has no output '{output}'; {suggest_name(output, list(outputs))}"
                )
    return _sort(names, extra)


def _find_named_nodes(component: ExtraComponent) -> Iterator[tuple[str, str]]:
    for key, (node, _) in component.channels.items():
        yield f"inputs.{key}", node
    for key in ("after", "before"):
        node = getattr(component, key)
        if node is not None:
            yield key, node


def _sort(names: Sequence[str], extra: Sequence[ExtraComponent]) -> tuple[str, ...]:
    upstream: dict[str, set[str]] = {name: {*names[:place][-1:]} for place, name in enumerate(names)}
    for component in extra:
        upstream.setdefault(component.name, set()).update(component.upstream)
        if component.before is not None:
            upstream.setdefault(component.before, set()).add(component.name)
    sorter = TopologicalSorter(upstream)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " > ".join(reversed(error.args[1]))
        raise ValueError(
            f"extra_components: nodes wait for each other: {circle}; change the inputs, `after` or `before`"
        ) from error
    ordered: list[str] = []
    waiting: list[str] = []
    while sorter.is_active():
        waiting += sorter.get_ready()
        # Those of the user's own first, right behind what they wait for.
        waiting.sort(key=lambda name: name in names)
        ordered.append(waiting.pop(0))
        sorter.done(ordered[-1])
    return tuple(ordered)
