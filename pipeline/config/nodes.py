"""The nodes of the DAG of a config by name, for whoever shows or runs it. Imports no TensorFlow."""

from cli.errors import ConfigError
from pipeline.config.pipeline_config import PipelineConfig


def list_nodes(config: PipelineConfig, until: str | None = None) -> tuple[str, ...]:
    """Return the nodes of a config's pipeline, in order.

    Args:
      config: config of the pipeline.
      until: the last one; None for all.

    Raises:
      ConfigError: there is no node of that name.
    """
    names = config.node_names
    if until is None:
        return names
    if until not in names:
        raise ConfigError(f"--until {until}: {config.name} has no such node; it has {', '.join(names)}")
    return names[: names.index(until) + 1]
