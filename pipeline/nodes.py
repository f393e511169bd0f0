"""The nodes of the DAG by name, for whoever shows or runs it. Imports no TensorFlow."""

# Node ids, in the order in which they run.
NODES = (
    "ExampleGen",
    "StatisticsGen",
    "Schema",
    "ExampleValidator",
    "History",
    "Gate",
    "Transform",
    "Trainer",
    "Baseline",
    "Evaluator",
    "Pusher",
)
# Nodes whose answer is never taken from the cache: they judge or act on what is there now.
NEVER_CACHED = ("Gate", "Pusher")
