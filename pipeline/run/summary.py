"""The summary of a run, which `--json` prints and the console draws. Imports no TensorFlow."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cli.errors import DataError, PipelineError
from cli.node_summary import NodeSummary
from cli.terminal import INTERRUPTED_EXIT_CODE, format_command
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.run.advice import suggest_schema_diff
from pipeline.run.measures import compare_measures, measure
from pipeline.run.records import PushResult, RunRecord
from pipeline.run.registry import open_run_registry, plan_push
from pipeline.run.run_root import RunRoot

if TYPE_CHECKING:
    from components.evaluator.summary import EvaluatorSummary
    from components.gate.summary import GateSummary
    from components.infra_validator.summary import InfraValidatorSummary
    from components.pusher.summary import PusherSummary


@dataclass(frozen=True)
class NodeOutcome:
    """One node that has ended.

    Attributes:
      id: Name of the node.
      state: `complete`, `cached` or `failed`.
      seconds: Wall time in seconds.
      summary: Summary that its component reports; None if it failed.
    """

    id: str
    state: str
    seconds: float
    summary: NodeSummary | None = None


@dataclass
class RunSummary:
    """Summary of a run that has ended, which `--json` prints and the console draws.

    Attributes:
      pipeline: Name of the pipeline.
      run_id: ID of the run.
      exit_code: Exit code of the command.
      error: Error that ended the run; None if it succeeded.
      until: Node after which it was to stop; None for the last.
      nodes: Nodes that have ended, in order.
      schema: Path of the schema, or its origin.
      evaluated_split: Split that the metrics are measured on.
      min_rows_per_slice: Rows that a slice needs to be listed.
      pushed: Result of the push.
      run_root: Run root of the run.
      log: Log file of the run; None if the log was printed.
      next: Commands to type next.
      measures: Seconds and rates of the nodes, and the size of the push, by name.
      worse: Lines about measures that are clearly worse than those of the last good run.
      serving: Serving version.
    """

    pipeline: str
    run_id: str
    exit_code: int
    error: str | None
    until: str | None
    nodes: Sequence[NodeOutcome]
    schema: str
    evaluated_split: str
    min_rows_per_slice: int
    push: PushResult
    run_root: str
    log: str | None
    next: Sequence[str]
    measures: Mapping[str, float]
    worse: Sequence[str]
    serving: str = "unknown: was not asked for"

    @property
    def evaluator(self) -> "EvaluatorSummary | None":
        """Summary of Evaluator, if it succeeded."""
        return cast("EvaluatorSummary | None", find_summary(self.nodes, "Evaluator"))

    @property
    def warnings(self) -> list[str]:
        """Warnings of the gate, of Evaluator and of the measures, which stop no run."""
        gate = cast("GateSummary | None", find_summary(self.nodes, "Gate"))
        return [
            *(gate.warnings if gate is not None else ()),
            *(self.evaluator.warnings if self.evaluator is not None else ()),
            *self.worse,
        ]

    @property
    def recorded_texts(self) -> dict[str, str]:
        """The results that the run's record keeps as text, by name."""
        validator = cast("InfraValidatorSummary | None", find_summary(self.nodes, "InfraValidator"))
        replay = validator.replay_text if validator is not None else ""
        return {"replay": replay.removeprefix("replay: ")} if replay else {}

    def as_json(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        return {
            "pipeline": self.pipeline,
            "run_id": self.run_id,
            "exit_code": self.exit_code,
            "error": self.error,
            "until": self.until,
            "nodes": [{"id": node.id, "state": node.state, "seconds": node.seconds} for node in self.nodes],
            "facts": {node.id: asdict(node.summary) for node in self.nodes if node.summary is not None},
            "schema": self.schema,
            "evaluated_split": self.evaluated_split,
            "min_rows_per_slice": self.min_rows_per_slice,
            "measures": dict(self.measures),
            "worse": list(self.worse),
            "pushed": str(self.push),
            "serving": self.serving,
            "run_root": self.run_root,
            "log": self.log,
            "next": list(self.next),
        }


def find_summary(nodes: Sequence[NodeOutcome], name: str) -> NodeSummary | None:
    """Return the summary of a node; None if it has not ended, or failed."""
    return next((node.summary for node in nodes if node.id == name), None)


def summarize(
    config: PipelineConfig,
    root: RunRoot,
    record: RunRecord,
    nodes: Sequence[NodeOutcome],
    error: BaseException | None,
) -> RunSummary:
    """Return the summary of a run, without the serving version, which a registry has to be asked for.

    Args:
      config: Config of the run.
      root: Run root of the run.
      record: Record of the run.
      nodes: Nodes that have ended.
      error: Error that ended the run; None if it succeeded.
    """
    pusher = cast("PusherSummary | None", find_summary(nodes, "Pusher"))
    steps = list_next_steps(config, root, record.run_id, pusher, error)
    if isinstance(error, DataError) and config.data.schema_file and nodes and nodes[-1].id == "Gate":
        steps.insert(1, suggest_schema_diff(record, root.path))
    measures = measure(nodes)
    return RunSummary(
        pipeline=config.name,
        run_id=record.run_id,
        exit_code=_get_exit_code(error),
        error=_format_error(error),
        until=record.until,
        nodes=nodes,
        schema=config.data.schema_file or "inferred from train",
        evaluated_split=config.evaluation.split,
        min_rows_per_slice=config.evaluation.min_rows_per_slice,
        push=_read_push(pusher),
        run_root=str(root.path),
        log=record.log,
        next=steps,
        measures=measures,
        worse=compare_measures(root, record, measures) if error is None else (),
    )


def _get_exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_EXIT_CODE
    return error.exit_code if isinstance(error, PipelineError) else PipelineError.exit_code


def _format_error(error: BaseException | None) -> str | None:
    if error is None or isinstance(error, PipelineError):
        return str(error) if error else None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command continues from the cache"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def _read_push(pusher: "PusherSummary | None") -> PushResult:
    if pusher is None:
        return PushResult()
    return PushResult(version=pusher.version, wrote=pusher.pushed, destination=pusher.path, note=pusher.note)


def describe_push(config: PipelineConfig, root: RunRoot) -> str:
    """Return the effect of a push, if the model were blessed."""
    return plan_push(config, open_run_registry(config, root)).summary


def describe_serving(config: PipelineConfig, root: RunRoot) -> str:
    """Return the serving version."""
    try:
        return open_run_registry(config, root).read_serving().text
    except PipelineError as error:
        return f"unknown: {error}"


def list_next_steps(
    config: PipelineConfig,
    root: RunRoot,
    run_id: str,
    pusher: "PusherSummary | None",
    error: BaseException | None,
) -> list[str]:
    """Return the commands to type after a run."""
    # As `make run` starts them: the environment need not be activated.
    tools = Path(sys.executable).parent
    if tools.is_relative_to(Path.cwd()):
        tools = tools.relative_to(Path.cwd())
    python = tools / "python"
    if error is not None:
        return [
            format_command(python, "-m", "oncall", "why", run_id, "--run-root", root.path),
            "fix the cause of the error and run the same command again: finished components are reused from the cache",
        ]
    if pusher is None:
        return [format_command(python, "-m", "oncall", "resume", run_id, "--run-root", root.path)]
    steps = [format_command(tools / "tensorboard", "--logdir", root.artifacts / "Trainer" / "model_run")]
    return [
        *steps,
        *(
            f"{format_command(python)} {line}"
            for line in open_run_registry(config, root).list_next_commands(pusher.version)
        ),
    ]
