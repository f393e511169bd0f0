"""The nodes of the DAG of a config by name, for whoever shows or runs it. Imports no TensorFlow."""

from cli.errors import ConfigError
from pipeline.config.node_names import NODES
from pipeline.config.pipeline_config import PipelineConfig


def nodes(config: PipelineConfig, until: str | None = None) -> tuple[str, ...]:
    """Return the nodes of a config's pipeline, in order: a node that only some configs need is there if this one does.

    Args:
      config: config of the pipeline.
      until: the last one; None for all.

    Raises:
      ConfigError: there is no node of that name.
    """
    left_out = {
        *(() if config.data.example_gen is not None else ("SourceExampleGen",)),
        *(() if config.training.search is not None else ("Tuner",)),
        *(() if config.training.warm_start else ("WarmStart",)),
    }
    names = tuple(node for node in NODES if node not in left_out)
    if until is None:
        return names
    if until not in names:
        raise ConfigError(f"--until {until}: {config.name} has no such node; it has {', '.join(names)}")
    return names[: names.index(until) + 1]
