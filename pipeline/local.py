"""One run on this machine, from a config to a summary: checks, run root, log file, view, run, report."""

import json
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console

from pipeline import preflight
from pipeline.config import PipelineConfig
from pipeline.console import Mode, RunView, print_summary
from pipeline.importing import imported_for_good
from pipeline.nodes import nodes
from pipeline.records import RecordFile, begun, read_records
from pipeline.run_root import RunRoot, new_run_id
from schemas.errors import PipelineError
from serving.registry import Registry, State
from serving.terminal import own_terminal
from trainer import progress

INTERRUPTED_EXIT_CODE = 130

Output = Literal["normal", "quiet", "verbose", "json"]


@dataclass
class _Recorder:
    """Observes a run: draws it, and keeps what the summary needs."""

    view: RunView
    file: RecordFile
    facts: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)

    def node_started(self, node_id: str) -> None:
        self.file.node_started(node_id)
        self.view.node_started(node_id)

    def node_finished(self, result: Any) -> None:
        from pipeline import report

        self.file.node_finished(result.node_id, result.state, result.error)
        known = report.facts(result)
        text = report.headline(result.node_id, known) if known else ""
        if known:
            self.facts[result.node_id] = known
        self.nodes.append({"id": result.node_id, "state": result.state, "seconds": round(result.seconds, 2)})
        self.view.node_finished(result.node_id, result.state, result.seconds, text)


def run(config: PipelineConfig, *, run_root: Path, use_cache: bool, output: Output, resumes: str | None = None) -> int:
    """Runs a config end to end and returns the exit code that local_runner.py documents.

    Args:
      config: what to run.
      run_root: where.
      use_cache: whether finished components are answered from earlier runs.
      output: what is printed.
      resumes: the run that this one goes on with, for the record.
    """
    root = RunRoot(run_root)
    preflight.check(config, root)
    signal.signal(signal.SIGTERM, _interrupt)
    with root.locked():
        run_id = new_run_id()
        log = None if output == "verbose" else root.log(run_id)
        with own_terminal(log) as terminal:
            file = RecordFile(root, begun(config, run_id, log=log, expected=nodes(config), resumes=resumes))
            summary = _run_locked(config, root, run_id, log, terminal, file, use_cache=use_cache, output=output)
    if output == "quiet" and summary["error"]:
        missed = summary["facts"].get("Evaluator", {}).get("failures", ())
        print("\n  ".join([f"error: {summary['error']}", *missed]), file=sys.stderr)
    return int(summary["exit_code"])


def dry_run(config: PipelineConfig, *, run_root: Path, output: Output) -> int:
    """Checks all that can be checked without running, and says what a run would do; returns the exit code."""
    root = RunRoot(run_root)
    findings = preflight.check(config, root)
    plan = {
        "pipeline": config.name,
        "nodes": list(nodes(config)),
        **asdict(findings),
        "run_root": str(root.path),
        "push": _push_text(config, root),
        "serving": _serving_text(config, root),
    }
    if output == "json":
        print(json.dumps(plan, indent=2))
    elif output != "quiet":
        print(f"{config.name}: the config, the schema, the files and the registry are in order; nothing was run")
        for label, text in findings.lines():
            print(f"{label:<10} {text}")
        print(f"would run  {' > '.join(nodes(config))}")
        print(f"in         {plan['run_root']}")
        print(f"push       {plan['push']}")
        print(f"serving    {plan['serving']}")
    return 0


def refusal(error: PipelineError, output: Output) -> str:
    """What is printed when nothing was started."""
    return (
        json.dumps({"exit_code": error.exit_code, "error": str(error)}, indent=2)
        if output == "json"
        else f"error: {error}"
    )


def _run_locked(
    config: PipelineConfig,
    root: RunRoot,
    run_id: str,
    log: Path | None,
    terminal: TextIO,
    file: RecordFile,
    *,
    use_cache: bool,
    output: Output,
) -> dict[str, Any]:
    console = Console(file=terminal, width=None if terminal.isatty() else 120)
    modes: dict[Output, Mode] = {"normal": "live" if terminal.isatty() else "plain", "verbose": "plain"}
    view = RunView(console, modes.get(output, "silent"), nodes(config), log)
    recorder = _Recorder(view, file)
    error: BaseException | None = None
    try:
        with view:
            _run_pipeline(config, root, run_id, recorder, use_cache=use_cache)
    except (Exception, KeyboardInterrupt) as caught:
        # The log has the whole story; the terminal gets the line that matters.
        traceback.print_exc()
        error = caught
    summary = _summary(config, root, run_id, log, recorder, error)
    file.ended(
        exit_code=summary["exit_code"],
        error=summary["error"] or "",
        reason=(str(error) or "SIGINT") if isinstance(error, KeyboardInterrupt) else "",
        summary={"pushed": summary["pushed"], "serving": summary["serving"]},
    )
    if output == "json":
        terminal.write(json.dumps(summary, indent=2) + "\n")
    elif output != "quiet":
        print_summary(console, summary)
    terminal.flush()
    return summary


def _run_pipeline(config: PipelineConfig, root: RunRoot, run_id: str, recorder: _Recorder, *, use_cache: bool) -> None:
    # Seconds of imports, which the view is already showing.
    with imported_for_good():
        from tfx.orchestration import metadata

        from pipeline import runner
        from pipeline.dag import create_pipeline

    pipeline = create_pipeline(
        config,
        pipeline_root=str(root.artifacts),
        registry=str(root.registry(config)),
        run_id=run_id,
        metadata=metadata.sqlite_metadata_connection_config(str(root.metadata)),
        enable_cache=use_cache,
    )
    _settle_crashed(root, pipeline.metadata_connection_config)
    progress.listeners.append(recorder.view.progressed)
    try:
        runner.run(pipeline, run_id=run_id, observer=recorder)
    finally:
        progress.listeners.remove(recorder.view.progressed)


def _settle_crashed(root: RunRoot, connection: Any) -> None:
    """Ends in ML Metadata what runs that were killed have left open there; the lock says that none of them goes on."""
    from pipeline import runner

    records, _ = read_records(root)
    # The first is this run's own.
    for record in records[1:]:
        if record.ended is not None:
            break
        node = record.running_node
        runner.settle_run(
            connection, record.run_id, root.artifacts, f"the process was killed{f' in {node}' if node else ''}"
        )


def _interrupt(signal_number: int, frame: object) -> None:
    """Lets SIGTERM end a run as Ctrl-C does."""
    raise KeyboardInterrupt(signal.Signals(signal_number).name)


def _summary(
    config: PipelineConfig,
    root: RunRoot,
    run_id: str,
    log: Path | None,
    recorder: _Recorder,
    error: BaseException | None,
) -> dict[str, Any]:
    """Everything about a finished run as plain values: what `--json` prints, and what the summary is drawn from."""
    pusher = recorder.facts.get("Pusher")
    return {
        "pipeline": config.name,
        "run_id": run_id,
        "exit_code": _exit_code(error),
        "error": _error_text(error),
        "nodes": recorder.nodes,
        "facts": recorder.facts,
        "schema": config.data.schema_file or "inferred from train",
        "evaluated_split": config.evaluation.split,
        "min_examples": config.evaluation.min_examples,
        "pushed": _pushed_text(pusher),
        "serving": _serving_text(config, root),
        "run_root": str(root.path),
        "log": str(log) if log else None,
        "next": _next_steps(config, root, pusher, error),
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
        return "interrupted; the same command goes on from the cache"
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def _pushed_text(pusher: dict[str, Any] | None) -> str:
    if pusher is None:
        return "nothing"
    if not pusher["pushed"]:
        return f"nothing: version {pusher['version']} holds this very model already"
    return f"version {pusher['version']} to {pusher['path']}"


def _push_text(config: PipelineConfig, root: RunRoot) -> str:
    """What a push would do, if the model were blessed."""
    if config.push.to == "vertex":
        return preflight.vertex_plan(config).summary()
    registry = _registry(config, root)
    number = registry.next_version() if config.push.version is None else config.push.version
    return f"version {number} to {registry.folder}" + ("" if config.push.promote else ", as the candidate")


def _serving_text(config: PipelineConfig, root: RunRoot) -> str:
    if config.push.to == "vertex":
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


def _registry(config: PipelineConfig, root: RunRoot) -> Registry:
    return Registry(root.registry(config), config.push.model_name)


def _vertex_serving_text(config: PipelineConfig) -> str:
    try:
        plan = preflight.vertex_plan(config)
    except PipelineError as error:
        return f"unknown: {error}"
    shares = [f"version {v.number} with {plan.endpoint.share_of(v.id)} %" for v in plan.serving()]
    endpoint = plan.endpoint.resource.rpartition("/")[2]
    return f"{' and '.join(shares) or 'nothing'} of {config.push.model_name} on endpoint {endpoint}"


def _next_steps(
    config: PipelineConfig, root: RunRoot, pusher: dict[str, Any] | None, error: BaseException | None
) -> list[str]:
    if error is not None or pusher is None:
        return [
            "mend what the error says and run the same command again: finished components are answered from the cache"
        ]
    # As `make run` starts them: the environment need not be activated.
    tools = Path(sys.executable).parent
    if tools.is_relative_to(Path.cwd()):
        tools = tools.relative_to(Path.cwd())
    steps = [f"{tools}/tensorboard --logdir {root.artifacts / 'Trainer' / 'model_run'}"]
    if config.push.to == "vertex":
        place = f"--project {config.place.project} --region {config.place.region}"
        return [*steps, f"{tools}/python -m serving.vertex list {place} --model {config.push.model_name}"]
    registry = _registry(config, root)
    steps.append(f"{tools}/python -m serving --model-dir {registry.folder}")
    if registry.state(pusher["version"]) is State.CANDIDATE:
        place = f"--registry {registry.folder.parent} --model {registry.name}"
        steps.append(f"{tools}/python -m serving.registry promote {place} --yes")
    return steps
