"""The names of all nodes of the DAG, in the order in which they run; a config may leave some out."""

NODES = (
    "SourceExampleGen",
    "ExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "History",
    "Gate",
    "Transform",
    "Tuner",
    "WarmStart",
    "Trainer",
    "Baseline",
    "Evaluator",
    "InfraValidator",
    "Pusher",
)

# Nodes whose answer is never taken from the cache: they judge or act on what is there now.
NEVER_CACHED = ("History", "Gate", "Pusher")
