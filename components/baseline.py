"""Which model a candidate is compared with."""

import ml_metadata as mlmd
from tfx import types
from tfx import v1 as tfx
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy


class LastBlessedOtherModel(latest_blessed_model_strategy.LatestBlessedModelStrategy):
    """The last blessed model that is not the candidate itself.

    With the stock strategy a rerun that finds its model in the cache would be compared with that very model: it could
    only pass, and Evaluator could never be answered from the cache.
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


def baseline_resolver(candidate: types.BaseChannel) -> tfx.dsl.Resolver:
    """Resolves `model`, the baseline for `candidate`; empty while no other model was blessed."""
    return tfx.dsl.Resolver(
        strategy_class=LastBlessedOtherModel,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
        candidate=candidate,
    ).with_id("Baseline")


def last_blessed(node_id: str) -> tfx.dsl.Resolver:
    """Resolves `model` and its `model_blessing`, the last that was blessed; the stock strategy, which Vertex knows."""
    return tfx.dsl.Resolver(
        strategy_class=latest_blessed_model_strategy.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id(node_id)
