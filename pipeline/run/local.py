"""One run on this machine, from a config to a summary: checks, run root, log file, view, run, report."""

import itertools
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from rich.console import Console

from cli import progress
from cli.errors import PipelineError, PushError, RunRootError
from cli.interrupts import Interrupts, leave_at_once
from cli.strict_json import to_json
from cli.terminal import INTERRUPTED_EXIT_CODE, is_journal, own_terminal, say_refusal
from pipeline.alerts import notifier
from pipeline.config.nodes import nodes
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.database.binding import examine
from pipeline.database.database import Database
from pipeline.run import preflight
from pipeline.run.console import Mode, RunView, print_summary
from pipeline.run.fast_imports import imported_for_good
from pipeline.run.records import RecordFile, begun, newest_records
from pipeline.run.registry import open_registry
from pipeline.run.rejections import Refusal, Refusals
from pipeline.run.run_root import RunRoot, new_run_id
from pipeline.run.summary import NodeOutcome, RunSummary, push_text, serving_text, summarize

if TYPE_CHECKING:
    from pipeline.run.dag_runner import NodeResult

Output = Literal["normal", "quiet", "verbose", "json"]


@dataclass
class _Recorder:
    """Observes a run: draws it, and keeps what the summary needs."""

    view: RunView
    file: RecordFile
    interrupts: Interrupts
    nodes: list[NodeOutcome] = field(default_factory=list)

    def node_started(self, node_id: str) -> None:
        self.interrupts.check()
        self.file.node_started(node_id)
        self.view.node_started(node_id)

    def node_finished(self, result: "NodeResult") -> None:
        from pipeline.run.node_summaries import read_summary

        self.file.node_finished(result.node_id, result.state, result.error)
        summary = read_summary(result)
        self.nodes.append(NodeOutcome(result.node_id, result.state, round(result.seconds, 2), summary))
        headline = summary.headline if summary is not None else ""
        self.view.node_finished(result.node_id, result.state, result.seconds, headline)


@dataclass(frozen=True)
class _Asked:
    """What a run is to do."""

    config: PipelineConfig
    root: RunRoot
    output: Output
    use_cache: bool
    resumes: str | None
    until: str | None
    config_flags: Sequence[str]


def run(
    config: PipelineConfig,
    *,
    run_root: Path,
    use_cache: bool,
    output: Output,
    resumes: str | None = None,
    until: str | None = None,
    config_flags: Sequence[str] = (),
) -> int:
    """Run a config, report how that ended, and return the exit code that local_runner.py documents.

    Args:
      config: what to run.
      run_root: where.
      use_cache: whether finished components are reused from earlier runs.
      output: what is printed.
      resumes: the run that this one continues with, for the record.
      until: the last node that is to run; None for all.
      config_flags: Arguments that named the config, where this process was started without them.
    """
    asked = _Asked(config, RunRoot(run_root), output, use_cache, resumes, until, config_flags)
    shown = output == "quiet" or is_journal(sys.stderr)
    with Interrupts() as interrupts:
        try:
            nodes(config, until)
            preflight.check(config, asked.root)
            with asked.root.locked(config.metadata) as database, asked.root.temporary_files():
                _tell_of_crash(asked)
                file, summary = _run_locked(asked, database, interrupts)
        except PipelineError as error:
            interrupts.release()
            _refused(asked, error, shown=shown)
            return error.exit_code
        missed = summary.evaluator.failures if summary.evaluator is not None else ()
        notifier.ended(config.alerts, asked.root, file, missed=missed, shown=shown)
    return summary.exit_code


def _refused(asked: _Asked, error: PipelineError, *, shown: bool) -> None:
    """Tells why no run was started."""
    config, as_json = asked.config, asked.output == "json"
    if as_json or not shown:
        say_refusal(error, as_json=as_json)
    # A remote registry may have been asked just now, for minutes, and have refused.
    has_refused = isinstance(error, PushError) and open_registry(config, asked.root).is_remote
    serving = "" if has_refused else serving_text(config, asked.root)
    refusal = put_on_record(asked.root, config.name, error, sys.argv)
    notifier.refused(config.alerts, asked.root, refusal, serving=serving, shown=shown)


def put_on_record(root: RunRoot, pipeline: str, error: PipelineError, command: list[str]) -> Refusal:
    """Keep that a run was not started, in the run root that it was for, if that is there."""
    refusals = Refusals(root)
    refusal = refusals.another(pipeline, error, command)
    notifier.kept("that no run was started", lambda: refusals.keep(refusal))
    return refusal


def _tell_of_crash(asked: _Asked) -> None:
    """Report an earlier run that was killed and could not report it itself."""
    last = next(newest_records(asked.root), None)
    if last is not None and last.ended is None and last.run_id != asked.resumes:
        serving = serving_text(asked.config, asked.root)
        notifier.crashed(asked.config.alerts, asked.root, last, serving=serving, shown=asked.output != "json")


def dry_run(config: PipelineConfig, *, run_root: Path, output: Output, until: str | None = None) -> int:
    """Check all that can be checked without running, and say what a run would do; return the exit code."""
    root = RunRoot(run_root)
    wanted = nodes(config, until)
    findings = preflight.check(config, root)
    database = examine(root.path, root.artifacts, config.metadata)
    plan = {
        "pipeline": config.name,
        "nodes": list(wanted),
        **asdict(findings),
        "run_root": str(root.path),
        "database": database.label,
        "push": push_text(config, root) if "Pusher" in wanted else f"nothing: it would stop after {until}",
        "serving": serving_text(config, root),
        "alerts": notifier.plan(config.alerts),
    }
    if output == "json":
        print(to_json(plan))
    elif output != "quiet":
        print(f"{config.name}: the config, the schema, the files and the registry are in order; nothing was run")
        for label, text in findings.lines():
            print(f"{label:<10} {text}")
        print(f"would run  {' > '.join(wanted)}")
        print(f"in         {plan['run_root']}")
        for label in ("database", "push", "serving", "alerts"):
            print(f"{label:<10} {plan[label]}")
    return 0


def _run_locked(asked: _Asked, database: Database, interrupts: Interrupts) -> tuple[RecordFile, RunSummary]:
    """Run, with the run root held; return the record and the summary."""
    config, root, run_id = asked.config, asked.root, new_run_id()
    log = None if asked.output == "verbose" else root.log(run_id)
    with own_terminal(log) as terminal:
        # A record that has begun is ended, whatever comes.
        interrupts.hold()
        known = begun(
            config,
            run_id,
            log=log,
            expected=nodes(config),
            resumes=asked.resumes,
            until=asked.until,
            named=asked.config_flags,
        )
        file = RecordFile(root, known)
        console = Console(file=terminal, width=None if terminal.isatty() else 120)
        modes: dict[Output, Mode] = {"normal": "live" if terminal.isatty() else "plain", "verbose": "plain"}
        view = RunView(console, modes.get(asked.output, "silent"), nodes(config, asked.until), log)
        recorder = _Recorder(view, file, interrupts)
        interrupts.end_process = partial(_end_process, asked, recorder, console, terminal)
        error = _run_recorded(asked, database, run_id, recorder, interrupts)
        interrupts.end_process = None
        summary = summarize(config, root, file.record, recorder.nodes, error)
        _end(file, summary, interrupts.received if isinstance(error, KeyboardInterrupt) else "")
        interrupts.release()
        try:
            summary.serving = serving_text(config, root)
            _print(asked.output, console, terminal, summary)
        except (KeyboardInterrupt, OSError):
            # Nobody reads the terminal any more, or wants to wait; how the run ended is on record, and stays so.
            traceback.print_exc()
    notifier.kept(
        "the serving version", lambda: file.noted(summary={"pushed": summary.pushed, "serving": summary.serving})
    )
    return file, summary


def _end_process(asked: _Asked, recorder: _Recorder, console: Console, terminal: TextIO) -> None:
    """End a run that was interrupted while the main thread is in native code: its record, the summary, the process.

    The next run settles what is open in ML Metadata, as it does after a process that was killed.
    """
    try:
        reason = recorder.interrupts.received
        error = KeyboardInterrupt(reason)
        summary = summarize(asked.config, asked.root, recorder.file.record, recorder.nodes, error)
        _end(recorder.file, summary, reason)
        _print(asked.output, console, terminal, summary)
    finally:
        leave_at_once(INTERRUPTED_EXIT_CODE)


def _run_recorded(
    asked: _Asked, database: Database, run_id: str, recorder: _Recorder, interrupts: Interrupts
) -> BaseException | None:
    """Run the nodes; return what ended them early. Afterwards, signals are held."""
    try:
        with recorder.view:
            interrupts.release()
            interrupts.check()
            _run_pipeline(asked, database, run_id, recorder)
            interrupts.hold()
    except (Exception, KeyboardInterrupt) as caught:
        interrupts.hold()
        asked.root.release_reserve()
        # The log has the whole story; the terminal gets the line that matters.
        traceback.print_exc()
        return interrupts.instead_of(caught)
    return None


def _end(file: RecordFile, summary: RunSummary, reason: str) -> None:
    """Put the end on record. A disk that is full keeps no run from ending."""
    code, error = summary.exit_code, summary.error or ""
    try:
        file.ended(exit_code=code, error=error, reason=reason, summary={"pushed": summary.pushed})
    except OSError as problem:
        traceback.print_exc()
        summary.error = f"{error}\nthe record cannot be written: {problem.strerror}".strip()
        summary.exit_code = code or RunRootError.exit_code


def _print(output: Output, console: Console, terminal: TextIO, summary: RunSummary) -> None:
    if output == "json":
        terminal.write(to_json(summary.as_json()) + "\n")
    elif output != "quiet":
        print_summary(console, summary)
    terminal.flush()


def _run_pipeline(asked: _Asked, database: Database, run_id: str, recorder: _Recorder) -> None:
    # Seconds of imports, which the view is already showing.
    with imported_for_good():
        from pipeline.create_pipeline import create_pipeline
        from pipeline.run import dag_runner

    config, root = asked.config, asked.root
    pipeline = create_pipeline(
        config,
        pipeline_root=str(root.artifacts),
        registry=config.registry_settings(root.registry(config)),
        run_id=run_id,
        enable_cache=asked.use_cache,
    )
    _settle_unfinished(root, database)
    progress.listeners.append(recorder.view.progressed)
    try:
        dag_runner.run(
            pipeline,
            database,
            run_id=run_id,
            nodes=nodes(config, asked.until),
            observer=recorder,
            on_failure=root.release_reserve,
        )
    finally:
        progress.listeners.remove(recorder.view.progressed)


def _settle_unfinished(root: RunRoot, database: Database) -> None:
    """End in ML Metadata what runs have left open there that were killed, or could not write to it at their end.

    The lock proves that none of them is active.
    """
    from pipeline.run import dag_runner

    # The first is this run's own. What was before one that succeeded, was settled then.
    for record in itertools.islice(newest_records(root), 1, None):
        if record.exit_code == 0:
            break
        node = record.running_node
        killed = f"the process was killed{f' in {node}' if node else ''}"
        dag_runner.settle_run(database, record.run_id, root.artifacts, record.error or killed)
