"""History of a local run: the statistics that the model pushed last was trained on."""

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.types import standard_artifacts

from components.pusher.last_push import find_last_push


class LastPushedStatistics(resolver.ResolverStrategy):
    """The statistics of the run that pushed a model last.

    Runs that pushed nothing are left out: drift is counted from what was pushed, however many runs were stopped since.
    """

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        last = find_last_push(store, self._model_name)
        ids = (last.statistics.id, last.pushed_model.id) if last is not None and last.statistics is not None else ()
        # Without the statistics there is nothing to compare with, and an older run's are not those of the last.
        return {key: [a for a in input_dict[key] if a.id in ids] for key in ("statistics", "pushed_model")}


def build_history_resolver(model_name: str) -> resolver.Resolver:
    """Return the node that finds `statistics` and `pushed_model` of a model's last push; empty before the first."""
    return resolver.Resolver(
        strategy_class=LastPushedStatistics,
        config={"model_name": model_name},
        statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        pushed_model=types.Channel(type=standard_artifacts.PushedModel),
    ).with_id("History")
