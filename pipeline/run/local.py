"""One run on this machine, from a config to a summary: checks, run root, log file, view, run, report."""

import importlib
import itertools
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, cast

from rich.console import Console

from cli import progress
from cli.errors import PipelineError, PushError, RunRootError
from cli.interrupts import Interrupts, exit_at_once
from cli.strict_json import to_json
from cli.terminal import INTERRUPTED_EXIT_CODE, is_journal, print_error, quiet_stderr, redirect_output
from pipeline.alerts import notifier
from pipeline.config.nodes import list_nodes
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import read_code
from pipeline.database.binding import examine
from pipeline.database.database import Database
from pipeline.run import preflight
from pipeline.run.console import Mode, RunView, print_summary
from pipeline.run.fast_imports import pause_garbage_collection
from pipeline.run.measures import measure
from pipeline.run.records import RecordFile, create_record, hash_data, read_newest_records
from pipeline.run.registry import open_run_registry
from pipeline.run.rejections import Rejection, RejectionFile
from pipeline.run.run_root import RunRoot, generate_run_id
from pipeline.run.summary import NodeOutcome, RunSummary, describe_push, describe_serving, find_summary, summarize
from serving.beam import servers

if TYPE_CHECKING:
    from components.example_gen.summary import ExampleGenSummary
    from pipeline.run.dag_runner import NodeResult

# `silent` prints nothing, whatever happens: the caller reports.
Output = Literal["normal", "quiet", "verbose", "json", "silent"]


@dataclass
class _Recorder:
    """An observer that draws a run, and keeps the outcomes of its nodes for the summary."""

    view: RunView
    file: RecordFile
    interrupts: Interrupts
    nodes: list[NodeOutcome] = field(default_factory=list)

    def on_node_start(self, node_id: str) -> None:
        self.interrupts.check()
        self.file.on_node_start(node_id)
        self.view.on_node_start(node_id)

    def on_node_end(self, result: "NodeResult") -> None:
        from pipeline.run.node_summaries import read_summary

        self.file.on_node_end(result.node_id, result.state, result.error)
        summary = read_summary(result)
        self.nodes.append(NodeOutcome(result.node_id, result.state, round(result.seconds, 2), summary))
        # A node that failed has no summary.
        reason = result.error.partition("\n")[0].removeprefix(f"{result.node_id}: ")
        headline = summary.headline if summary is not None else reason
        self.view.on_node_end(result.node_id, result.state, result.seconds, headline)


@dataclass(frozen=True)
class _RunRequest:
    """Arguments of `run`."""

    config: PipelineConfig
    root: RunRoot
    output: Output
    use_cache: bool
    resumes: str | None
    until: str | None
    config_flags: Sequence[str]
    reason: str = ""


def run(
    config: PipelineConfig,
    *,
    run_root: Path,
    use_cache: bool,
    output: Output,
    resumes: str | None = None,
    until: str | None = None,
    config_flags: Sequence[str] = (),
    reason: str = "",
) -> int:
    """Run a config, report how that ended, and return the exit code that local_runner.py documents.

    Args:
      config: Config of the run.
      run_root: Folder of the run root.
      use_cache: Whether finished components are reused from earlier runs.
      output: Kind of the printed output.
      resumes: Run that this one continues, for the record.
      until: Last node that is to run; None for all.
      config_flags: Arguments that named the config, where this process was started without them.
      reason: Reason why `pipeline retrain` starts it, for the record and ML Metadata.
    """
    request = _RunRequest(config, RunRoot(run_root), output, use_cache, resumes, until, config_flags, reason)
    prints_alert = output == "quiet" or is_journal(sys.stderr)
    with Interrupts() as interrupts:
        try:
            list_nodes(config, until)
            preflight.check(config, request.root)
            with request.root.lock(config.metadata) as database, request.root.redirect_temporary_files():
                _report_crash(request)
                file, summary = _run_locked(request, database, interrupts)
        except PipelineError as error:
            interrupts.release()
            _report_rejection(request, error, prints_alert=prints_alert)
            return error.exit_code
        missed = summary.evaluator.failures if summary.evaluator is not None else ()
        notifier.report_end(config.alerts, request.root, file, missed=missed, prints=prints_alert)
    return summary.exit_code


def run_silently(config: PipelineConfig, *, run_root: Path, until: str | None = None) -> RunSummary:
    """Run a config without output and alerts, and return its summary; for commands of several runs.

    Args:
      config: Config of the run.
      run_root: Folder of the run root.
      until: Last node that is to run; None for all.

    Raises:
      PipelineError: No run was started.
    """
    request = _RunRequest(config, RunRoot(run_root), "silent", True, None, until, ())
    with Interrupts() as interrupts:
        list_nodes(config, until)
        preflight.check(config, request.root)
        with request.root.lock(config.metadata) as database, request.root.redirect_temporary_files():
            return _run_locked(request, database, interrupts)[1]


def _report_rejection(request: _RunRequest, error: PipelineError, *, prints_alert: bool) -> None:
    """Report why no run was started."""
    config, as_json = request.config, request.output == "json"
    if as_json or not prints_alert:
        print_error(error, as_json=as_json)
    # A remote registry may have been asked just now, for minutes, and have rejected the push.
    has_rejected = isinstance(error, PushError) and open_run_registry(config, request.root).is_remote
    serving = "" if has_rejected else describe_serving(config, request.root)
    rejection = record_rejection(request.root, config.name, error, sys.argv)
    notifier.report_rejection(config.alerts, request.root, rejection, serving=serving, prints=prints_alert)


def record_rejection(root: RunRoot, pipeline: str, error: PipelineError, command: list[str]) -> Rejection:
    """Record in the run root, if that exists, that a run was not started."""
    file = RejectionFile(root)
    rejection = file.create(pipeline, error, command)
    notifier.try_write("that no run was started", lambda: file.write(rejection))
    return rejection


def _report_crash(request: _RunRequest) -> None:
    """Report an earlier run that was killed and could not report it itself."""
    last = next(read_newest_records(request.root), None)
    if last is not None and last.ended is None and last.run_id != request.resumes:
        serving = describe_serving(request.config, request.root)
        notifier.report_crash(
            request.config.alerts, request.root, last, serving=serving, prints=request.output != "json"
        )


def plan_run(config: PipelineConfig, *, run_root: Path, output: Output, until: str | None = None) -> int:
    """Check all that can be checked without running, print the plan of a run, and return the exit code."""
    root = RunRoot(run_root)
    planned_nodes = list_nodes(config, until)
    findings = preflight.check(config, root, needs_rows=False)
    if read_code(config):
        # Imports TensorFlow and TFX, for these configs only.
        with quiet_stderr(), config.name_file_in_errors():
            importlib.import_module("pipeline.run.code_trace").trace_code(config)
    database = examine(root.path, root.artifacts, config.metadata)
    plan = {
        "pipeline": config.name,
        "nodes": list(planned_nodes),
        **asdict(findings),
        "run_root": str(root.path),
        "database": database.label,
        "push": describe_push(config, root) if "Pusher" in planned_nodes else f"nothing: it would stop after {until}",
        "serving": describe_serving(config, root),
        "alerts": notifier.describe_plan(config.alerts),
    }
    if output == "json":
        print(to_json(plan))
    elif output != "quiet":
        files = "" if findings.unchecked else ", the files"
        print(f"{config.name}: the config, the schema{files} and the registry are in order; nothing was run")
        for label, text in findings.format_lines():
            print(f"{label:<10} {text}")
        print(f"would run  {' > '.join(planned_nodes)}")
        print(f"in         {plan['run_root']}")
        for label in ("database", "push", "serving", "alerts"):
            print(f"{label:<10} {plan[label]}")
    return 0


def _run_locked(request: _RunRequest, database: Database, interrupts: Interrupts) -> tuple[RecordFile, RunSummary]:
    """Run, with the run root held; return the record and the summary."""
    config, root, run_id = request.config, request.root, generate_run_id()
    log = None if request.output == "verbose" else root.locate_log(run_id)
    with redirect_output(log) as terminal:
        # A record that was started is ended in any case.
        interrupts.hold()
        record = create_record(
            config,
            run_id,
            log=log,
            expected=list_nodes(config),
            resumes=request.resumes,
            until=request.until,
            typed_flags=request.config_flags,
            reason_to_run=request.reason,
            last_execution=database.read_contents().last_execution,
        )
        file = RecordFile(root, record)
        console = Console(file=terminal, width=None if terminal.isatty() else 120)
        modes: dict[Output, Mode] = {"normal": "live" if terminal.isatty() else "plain", "verbose": "plain"}
        view = RunView(console, modes.get(request.output, "silent"), list_nodes(config, request.until), log)
        recorder = _Recorder(view, file, interrupts)
        interrupts.end_process = partial(_end_process, request, recorder, console, terminal)
        error = _run_recorded(request, database, run_id, recorder, interrupts)
        interrupts.end_process = None
        summary = summarize(config, root, file.record, recorder.nodes, error)
        _end(request, file, summary, interrupts.received if isinstance(error, KeyboardInterrupt) else "")
        interrupts.release()
        try:
            summary.serving = describe_serving(config, root)
            _print(request.output, console, terminal, summary)
        except (KeyboardInterrupt, OSError):
            # The terminal is closed, or the user does not wait; the record has the end of the run already.
            traceback.print_exc()
    notifier.try_write(
        "the serving version", lambda: file.update(summary={**summary.recorded_texts, "serving": summary.serving})
    )
    return file, summary


def _end_process(request: _RunRequest, recorder: _Recorder, console: Console, terminal: TextIO) -> None:
    """End a run that was interrupted while the main thread is in native code: its record, the summary, the process.

    The next run settles what is open in ML Metadata, as it does after a process that was killed.
    """
    try:
        reason = recorder.interrupts.received
        error = KeyboardInterrupt(reason)
        summary = summarize(request.config, request.root, recorder.file.record, recorder.nodes, error)
        _end(request, recorder.file, summary, reason)
        _print(request.output, console, terminal, summary)
    finally:
        exit_at_once(INTERRUPTED_EXIT_CODE)


def _run_recorded(
    request: _RunRequest, database: Database, run_id: str, recorder: _Recorder, interrupts: Interrupts
) -> BaseException | None:
    """Run the nodes; return the error that ended them early. Afterwards, signals are held."""
    try:
        with recorder.view:
            interrupts.release()
            interrupts.check()
            _run_pipeline(request, database, run_id, recorder)
            interrupts.hold()
    except (Exception, KeyboardInterrupt) as caught:
        interrupts.hold()
        request.root.release_reserve()
        # The traceback goes to the log, one line to the terminal.
        traceback.print_exc()
        return interrupts.translate_error(caught)
    return None


def _end(request: _RunRequest, file: RecordFile, summary: RunSummary, reason: str) -> None:
    """Write the end to the record; if the disk is full, the summary has the error."""
    code, error = summary.exit_code, summary.error or ""
    examples = cast("ExampleGenSummary | None", find_summary(summary.nodes, "ExampleGen"))
    try:
        file.end(
            exit_code=code,
            error=error,
            reason=reason,
            summary=summary.recorded_texts,
            push=summary.push,
            metrics=summary.evaluator.metrics if summary.evaluator is not None else {},
            intervals=summary.evaluator.intervals if summary.evaluator is not None else {},
            warnings=summary.warnings,
            measures=summary.measures,
            data_hash=hash_data(request.config, examples.fingerprint if examples is not None else ""),
        )
    except OSError as problem:
        traceback.print_exc()
        summary.error = f"{error}\nthe record cannot be written: {problem.strerror}".strip()
        summary.exit_code = code or RunRootError.exit_code


def _print(output: Output, console: Console, terminal: TextIO, summary: RunSummary) -> None:
    if output == "json":
        terminal.write(to_json(summary.as_json()) + "\n")
    elif output not in ("quiet", "silent"):
        print_summary(console, summary)
    terminal.flush()


def _run_pipeline(request: _RunRequest, database: Database, run_id: str, recorder: _Recorder) -> None:
    # Seconds of imports, which the view is already showing.
    with pause_garbage_collection():
        from pipeline.create_pipeline import create_pipeline
        from pipeline.run import dag_runner

    config, root = request.config, request.root
    with config.name_file_in_errors():
        pipeline = create_pipeline(
            config,
            pipeline_root=str(root.artifacts),
            registry=config.build_registry_settings(root.locate_registry(config)),
            run_id=run_id,
            enable_cache=request.use_cache,
        )
    _settle_unfinished(root, database)
    if recorder.file.record.reason_to_run:
        dag_runner.describe_run(database, run_id, {dag_runner.REASON_PROPERTY: recorder.file.record.reason_to_run})
    progress.listeners.append(recorder.view.show_progress)
    try:
        dag_runner.run(
            pipeline,
            database,
            run_id=run_id,
            nodes=list_nodes(config, request.until),
            observer=recorder,
            on_failure=root.release_reserve,
        )
        measures = measure(recorder.nodes)
        dag_runner.describe_run(database, run_id, {dag_runner.MEASURES_PROPERTY: json.dumps(measures)})
    finally:
        progress.listeners.remove(recorder.view.show_progress)
        # Before the folder of temporary files is removed, in which they keep theirs.
        servers.stop_all()


def _settle_unfinished(root: RunRoot, database: Database) -> None:
    """End the executions in ML Metadata that killed runs have left open; the lock proves that none is active."""
    from pipeline.run import dag_runner

    # The first record is this run's own. A run that succeeded has settled the runs before it.
    for record in itertools.islice(read_newest_records(root), 1, None):
        if record.exit_code == 0:
            break
        node = record.running_node
        killed = f"the process was killed{f' in {node}' if node else ''}"
        dag_runner.settle_run(database, record.run_id, root.artifacts, record.error or killed)
