"""What a run says at its end, as plain values: what `--json` prints, and what the summary is drawn from."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.errors import DataError, PipelineError
from cli.terminal import INTERRUPTED_EXIT_CODE, command, flags
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run import preflight
from pipeline.run.advice import schema_diff
from pipeline.run.records import RunRecord
from pipeline.run.run_root import RunRoot
from serving.registry import LocalRegistry, State


def summarize(
    config: PipelineConfig,
    root: RunRoot,
    record: RunRecord,
    nodes: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    error: BaseException | None,
) -> dict[str, Any]:
    """Everything about a finished run, but the serving version, which others have to be asked for.

    Args:
      config: config of the run.
      root: run root of the run.
      record: record of the run.
      nodes: that ran: id, state, seconds.
      facts: facts of each node that users want to know.
      error: that ended it.
    """
    pusher = facts.get("Pusher")
    steps = next_steps(config, root, record.run_id, pusher, error)
    if isinstance(error, DataError) and config.data.schema_file and nodes and nodes[-1]["id"] == "Gate":
        steps.insert(1, schema_diff(record, root.path))
    return {
        "pipeline": config.name,
        "run_id": record.run_id,
        "exit_code": _exit_code(error),
        "error": _error_text(error),
        "until": record.until,
        "nodes": nodes,
        "facts": facts,
        "schema": config.data.schema_file or "inferred from train",
        "evaluated_split": config.evaluation.split,
        "min_rows_per_slice": config.evaluation.min_rows_per_slice,
        "pushed": _pushed_text(pusher),
        "serving": "unknown: was not asked for",
        "run_root": str(root.path),
        "log": record.log,
        "next": steps,
    }


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_EXIT_CODE
    return error.exit_code if isinstance(error, PipelineError) else PipelineError.exit_code


def _error_text(error: BaseException | None) -> str | None:
    if error is None or isinstance(error, PipelineError):
        return str(error) if error else None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command continues from the cache"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def _pushed_text(pusher: Mapping[str, Any] | None) -> str:
    if pusher is None:
        return "nothing"
    if not pusher["pushed"]:
        return f"nothing: version {pusher['version']} holds this very model already"
    return f"version {pusher['version']} to {pusher['path']}"


def push_text(config: PipelineConfig, root: RunRoot) -> str:
    """Return what a push would do, if the model were blessed."""
    if config.push.target == "vertex":
        return preflight.vertex_plan(config).summary()
    registry = _registry(config, root)
    number = registry.next_version() if config.push.version is None else config.push.version
    return f"version {number} to {registry.folder}" + ("" if config.push.promote else ", as the candidate")


def serving_text(config: PipelineConfig, root: RunRoot) -> str:
    """Return the serving version."""
    if config.push.target == "vertex":
        return _vertex_serving_text(config)
    registry = _registry(config, root)
    try:
        champion = registry.champion()
        if champion is None:
            return f"nothing: {registry.folder} holds no version that serves"
        release = registry.release(champion)
    except PipelineError as error:
        return f"unknown: {error}"
    return f"version {champion} of {registry.name}" + (f", pushed by run {release.run_id}" if release else "")


def _registry(config: PipelineConfig, root: RunRoot) -> LocalRegistry:
    return LocalRegistry(root.registry(config), config.push.model_name)


def _vertex_serving_text(config: PipelineConfig) -> str:
    try:
        plan = preflight.vertex_plan(config)
    except PipelineError as error:
        return f"unknown: {error}"
    shares = [f"version {v.number} with {plan.endpoint.share_of(v.id)} %" for v in plan.serving()]
    endpoint = plan.endpoint.resource.rpartition("/")[2]
    return f"{' and '.join(shares) or 'nothing'} of {config.push.model_name} on endpoint {endpoint}"


def next_steps(
    config: PipelineConfig,
    root: RunRoot,
    run_id: str,
    pusher: Mapping[str, Any] | None,
    error: BaseException | None,
) -> list[str]:
    """Return what to do after a run."""
    # As `make run` starts them: the environment need not be activated.
    tools = Path(sys.executable).parent
    if tools.is_relative_to(Path.cwd()):
        tools = tools.relative_to(Path.cwd())
    python = tools / "python"
    if error is not None:
        return [
            command(python, "-m", "oncall", "why", run_id, "--run-root", root.path),
            "fix what the error says and run the same command again: finished components are reused from the cache",
        ]
    if pusher is None:
        return [command(python, "-m", "oncall", "resume", run_id, "--run-root", root.path)]
    steps = [command(tools / "tensorboard", "--logdir", root.artifacts / "Trainer" / "model_run")]
    if config.push.target == "vertex":
        place = flags(project=config.place.project, region=config.place.region, model=config.push.model_name)
        return [*steps, command(python, "-m", "serving.registry.vertex", "list") + place]
    registry = _registry(config, root)
    steps.append(command(python, "-m", "serving", "--model-dir", registry.folder))
    if registry.state(pusher["version"]) is State.CANDIDATE:
        place = flags(registry=registry.folder.parent, model=registry.name)
        steps.append(command(python, "-m", "serving.registry", "promote") + f"{place} --yes")
    return steps
