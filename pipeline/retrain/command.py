"""`python -m pipeline retrain`."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.errors import ConfigError, RunRootError
from cli.strict_json import to_json
from cli.terminal import exit_on_error

if TYPE_CHECKING:
    from pipeline.config.pipeline_config import PipelineConfig
    from pipeline.retrain.attempts import Attempts
    from pipeline.retrain.decision import RetrainDecision
    from pipeline.run.run_root import RunRoot

_LOCK = ".retrain.lock"


class _BusyError(Exception):
    """Another process judges the same conditions, or runs because of them."""


@click.command()
@click.option("--config", "config_file", default="configs/census.yaml", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="As local_runner.py takes it.")
@click.option("--run-root", type=click.Path(path_type=Path), help="[default: runs/NAME]")
@click.option("--dry-run", is_flag=True, help="Judge the conditions and print the decision; start nothing.")
@click.option(
    "--vertex", "on_vertex", is_flag=True, help="Submit the run to Vertex AI, as vertex_runner.py submit does."
)
@click.option(
    "--vertex-file",
    type=click.Path(path_type=Path),
    envvar="VERTEX_FILE",
    help="As vertex_runner.py takes it, with --vertex.  [env: VERTEX_FILE]",
)
@click.option("--quiet", is_flag=True, help="Print nothing unless a run starts or fails; for cron.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def retrain(
    config_file: str,
    settings: tuple[str, ...],
    run_root: Path | None,
    dry_run: bool,
    on_vertex: bool,
    vertex_file: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Judge the conditions of the config's section `retrain`, and start a run if one holds.

    For cron and systemd: it prints why a run starts or not, and ends with 0 if none does, or with the run's exit code.
    It waits after a start, longer after failures, and never runs twice on data that a run was rejected for.
    """
    # As local_runner.py does: it is read when Arrow is loaded.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from pipeline.config import pipeline_config
    from pipeline.run.run_root import RunRoot, get_default_run_root

    with exit_on_error(as_json=as_json):
        shared = pipeline_config.read_vertex_settings(vertex_file) if on_vertex and vertex_file else []
        config = pipeline_config.load(config_file, [*shared, *settings])
        if config.retrain is None:
            raise ConfigError(
                f"{config_file}: retrain: missing; name at least one condition there, such as new_span: true"
            )
        root = RunRoot((run_root or get_default_run_root(config.name)).absolute())
        flags = ["--config", os.path.abspath(config_file), *(part for s in settings for part in ("--set", s))]
        try:
            with _hold_decision(root), config.name_file_in_errors():
                code = _retrain(config, root, flags, on_vertex=on_vertex, dry_run=dry_run, quiet=quiet, as_json=as_json)
        except _BusyError as busy:
            _print({"started": False, "obstacle": str(busy)}, [f"nothing was started: {busy}"], quiet, as_json)
            code = 0
    sys.exit(code)


@contextmanager
def _hold_decision(root: "RunRoot") -> Iterator[None]:
    """Hold the decision of a run root: of two commands at once, one decides.

    Raises:
      _BusyError: Another process holds it.
      RunRootError: The folder cannot be written.
    """
    import filelock

    from pipeline.run import locks

    file = root.path / _LOCK
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(file, timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        holder = locks.describe_processes(locks.find_holders(file))
        raise _BusyError(f"another retraining of {root.path} is active: {holder}") from error
    except OSError as error:
        raise RunRootError(f"{file}: cannot be written: {error.strerror}; give --run-root another folder") from error
    try:
        yield
    finally:
        lock.release()


def _retrain(
    config: "PipelineConfig",
    root: "RunRoot",
    flags: list[str],
    *,
    on_vertex: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Decide, and start a run if the decision is for it; return the exit code."""
    from pipeline.retrain.attempts import Attempt, Attempts
    from pipeline.retrain.decision import decide
    from pipeline.run.registry import open_run_registry

    attempts = Attempts.read(root)
    if on_vertex:
        _update_jobs(config, attempts)
    registry = config.vertex_registry_settings.open() if on_vertex else open_run_registry(config, root)
    now = time.time()
    decision = decide(config, root, registry, attempts.attempts, now)
    document = _build_document(decision)
    if dry_run or not decision.starts:
        _print({**document, "started": False}, decision.lines, quiet and not decision.starts, as_json)
        return 0
    if not as_json:
        _print({}, decision.lines, False, as_json)
    attempt = Attempt(started=now, reason=decision.reason, data_hash=decision.data_hash)
    attempts.attempts.append(attempt)
    # A process that is killed leaves an attempt without an end, which counts as a failure.
    attempts.write(root)
    try:
        code = (
            _submit(config, decision, attempt, as_json)
            if on_vertex
            else _run(config, root, flags, decision, quiet, as_json)
        )
    except BaseException:
        attempt.exit_code = 1
        raise
    finally:
        attempts.write(root)
    if not on_vertex:
        attempt.exit_code = code
        attempts.write(root)
    if as_json:
        _print({**document, "started": True, "exit_code": code, **_describe_run(root, attempt)}, [], quiet, as_json)
    return code


def _build_document(decision: "RetrainDecision") -> dict[str, Any]:
    return {
        "conditions": [{"name": c.name, "holds": c.holds, "text": c.text} for c in decision.conditions],
        "reason": decision.reason,
        "obstacle": decision.obstacle,
    }


def _describe_run(root: "RunRoot", attempt: Any) -> dict[str, Any]:
    """Return the ID of the run or job that was started."""
    from pipeline.run.records import read_newest_records

    if attempt.job_id:
        return {"job_id": attempt.job_id}
    record = next(read_newest_records(root), None)
    is_own = record is not None and record.started >= attempt.started
    return {"run_id": record.run_id if record is not None and is_own else None}


def _run(
    config: "PipelineConfig", root: "RunRoot", flags: list[str], decision: "RetrainDecision", quiet: bool, as_json: bool
) -> int:
    from pipeline.run import local

    output: local.Output = "silent" if as_json else "quiet" if quiet else "normal"
    return local.run(
        config, run_root=root.path, use_cache=True, output=output, config_flags=flags, reason=decision.reason
    )


def _submit(config: "PipelineConfig", decision: "RetrainDecision", attempt: Any, as_json: bool) -> int:
    """Submit the job; its end is read by the next command."""
    from pipeline.vertex import commands, jobs

    attempt.job_id = jobs.generate_job_id(config.name)
    names = [condition.name for condition in decision.conditions if condition.holds]
    return commands.submit_for_reason(config, attempt.job_id, names, prints=not as_json)


def _update_jobs(config: "PipelineConfig", attempts: "Attempts") -> None:
    """Set the exit codes of jobs that have ended since.

    Raises:
      _BusyError: One is still running.
    """
    from pipeline.vertex import commands

    for attempt in attempts.attempts:
        if not attempt.job_id or attempt.exit_code is not None:
            continue
        status = commands.read_status(config, attempt.job_id)
        if not status.ended:
            raise _BusyError(f"job {attempt.job_id} is {status.state}")
        attempt.exit_code = status.exit_code


def _print(document: dict[str, Any], lines: list[str], quiet: bool, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(document))
    elif not quiet:
        click.echo("\n".join(lines))
