"""The nodes of the DAG of a config by name, for whoever shows or runs it. Imports no TensorFlow."""

from pipeline.config import PipelineConfig
from pipeline.node_names import NODES


def nodes(config: PipelineConfig) -> tuple[str, ...]:
    """The nodes of a config's pipeline: a search and a warm start are there only if it asks for them."""
    left_out = {
        *(() if config.training.search is not None else ("Tuner",)),
        *(() if config.training.warm_start else ("WarmStart",)),
    }
    return tuple(node for node in NODES if node not in left_out)
