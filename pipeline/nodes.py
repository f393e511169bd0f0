"""The nodes of the DAG by name, for whoever shows or runs it. Imports no TensorFlow."""

from pipeline.config import PipelineConfig

# All node ids, in the order in which they run.
_NODES = (
    "ExampleGen",
    "StatisticsGen",
    "Schema",
    "ExampleValidator",
    "History",
    "Gate",
    "Transform",
    "Tuner",
    "WarmStart",
    "Trainer",
    "Baseline",
    "Evaluator",
    "Pusher",
)


def nodes(config: PipelineConfig) -> tuple[str, ...]:
    """The nodes of a config's pipeline: a search and a warm start are there only if it asks for them."""
    left_out = {
        *(() if config.training.search is not None else ("Tuner",)),
        *(() if config.training.warm_start else ("WarmStart",)),
    }
    return tuple(node for node in _NODES if node not in left_out)


# Nodes whose answer is never taken from the cache: they judge or act on what is there now.
NEVER_CACHED = ("Gate", "Pusher")
