"""The registry that a run pushes to."""

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.run_root import RunRoot
from serving.registry.protocol import Candidate, ModelRegistry, PushPlan


def open_run_registry(config: PipelineConfig, root: RunRoot) -> ModelRegistry:
    """Return the registry that `push.target` names.

    Raises:
      ConfigError: a section of the config is missing.
    """
    return config.build_registry_settings(root.locate_registry(config)).open()


def plan_push(config: PipelineConfig, registry: ModelRegistry) -> PushPlan:
    """Return the effect of the push of a model that is not trained yet.

    Raises:
      PushError: it would clash or fail.
    """
    return registry.plan(Candidate(pipeline=config.name, version=config.push.version))
