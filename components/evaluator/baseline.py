"""Which model a candidate is compared with."""

import ml_metadata as mlmd
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy
from tfx.types import standard_artifacts

# Of a blessing: the name of the pipeline that blessed the model.
PIPELINE_PROPERTY = "pipeline"


class LastBlessedOtherModel(latest_blessed_model_strategy.LatestBlessedModelStrategy):
    """The last blessed model that is not the candidate itself.

    With the stock strategy, a rerun that reuses its cached model would be compared with that very model. It could only
    pass, and Evaluator's own result could never be reused.
    """

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        candidates = {artifact.id for artifact in input_dict["candidate"]}
        others = {
            "model": [artifact for artifact in input_dict["model"] if artifact.id not in candidates],
            "model_blessing": input_dict["model_blessing"],
        }
        return {**super().resolve_artifacts(store, others), "candidate": input_dict["candidate"]}


def build_baseline_resolver(candidate: types.BaseChannel) -> resolver.Resolver:
    """Resolve `model`, the baseline for `candidate`; empty while no other model was blessed."""
    return resolver.Resolver(
        strategy_class=LastBlessedOtherModel,
        model=types.Channel(type=standard_artifacts.Model),
        model_blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        candidate=candidate,
    ).with_id("Baseline")


def build_blessed_resolver(node_id: str) -> resolver.Resolver:
    """Resolve `model` and its `model_blessing`, the last that was blessed; Vertex supports the stock strategy."""
    return resolver.Resolver(
        strategy_class=latest_blessed_model_strategy.LatestBlessedModelStrategy,
        model=types.Channel(type=standard_artifacts.Model),
        model_blessing=types.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id(node_id)
