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

# Outputs of each node, which components of the user's own may read.
OUTPUTS = {
    "SourceExampleGen": ("examples",),
    "ExampleGen": ("examples",),
    "StatisticsGen": ("statistics",),
    "SchemaGen": ("schema",),
    "ExampleValidator": ("anomalies",),
    "History": ("statistics",),
    "Gate": ("report",),
    "Transform": ("transform_graph", "transformed_examples"),
    "Tuner": ("best_hyperparameters", "tuner_results"),
    "WarmStart": ("model",),
    "Trainer": ("model", "model_run"),
    "Baseline": ("model",),
    "Evaluator": ("evaluation", "blessing"),
    "InfraValidator": ("blessing",),
    "Pusher": ("pushed_model",),
}

# Nodes that are never reused from the cache: they judge or act on the present state.
NEVER_CACHED = ("History", "Gate", "Pusher")
