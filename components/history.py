"""What the model that was pushed last was trained on."""

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.types import standard_artifacts

from components.pusher import DESTINATION_PROPERTY, PUSHED_PROPERTY

_RUN_CONTEXT_TYPE = "pipeline_run"


class LastPushedStatistics(resolver.ResolverStrategy):
    """The statistics of the run whose push was the last that wrote a version.

    Runs that pushed nothing are left out: drift is counted from what serves, however many runs were stopped since.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        statistics = {artifact.id: artifact for artifact in input_dict["statistics"]}
        for pushed in _written(input_dict["pushed_model"]):
            for context in store.get_contexts_by_artifact(pushed.id):
                if context.type == _RUN_CONTEXT_TYPE:
                    found = sorted(a.id for a in store.get_artifacts_by_context(context.id) if a.id in statistics)
                    if found:
                        return {"statistics": [statistics[found[-1]]], "pushed_model": [pushed]}
        return {"statistics": [], "pushed_model": []}


def _written(pushed: list[types.Artifact]) -> list[types.Artifact]:
    """Those that wrote a version, the newest first.

    A push that was killed after the version and before it could say so is told by the first that found the version.
    """
    written, known = [], set()
    for artifact in sorted(pushed, key=lambda artifact: artifact.id):
        place = artifact.get_string_custom_property(DESTINATION_PROPERTY)
        if artifact.get_int_custom_property(PUSHED_PROPERTY) or place not in known:
            written.append(artifact)
        known.add(place)
    return written[::-1]


def last_pushed() -> resolver.Resolver:
    """Resolves `statistics` and `pushed_model`; both empty before the first push."""
    return resolver.Resolver(
        strategy_class=LastPushedStatistics,
        statistics=types.Channel(type=standard_artifacts.ExampleStatistics),
        pushed_model=types.Channel(type=standard_artifacts.PushedModel),
    ).with_id("History")
