"""Commands of vertex_runner.py."""

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.errors import ConfigError, PipelineError
from cli.terminal import quiet_stderr
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.user_code import check_code, describe_code
from pipeline.run.fast_imports import pause_garbage_collection
from pipeline.run.run_root import RunRoot
from pipeline.vertex import jobs, rehearsal, rehearsal_record
from serving.registry.vertex.connection import VertexClient

_COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "CACHED": "cyan", "SKIPPED": "cyan", "RUNNING": "yellow"}


def write(config: PipelineConfig, output: Path, *, as_json: bool) -> None:
    """Compile and write the job."""
    text, job = _compile(config)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error
    tasks = list(job["pipelineSpec"]["root"]["dag"]["tasks"])
    if as_json:
        click.echo(json.dumps({"file": str(output), "bytes": len(text), "tasks": tasks}))
    else:
        click.echo(f"wrote {output}: {len(tasks)} tasks, {len(text):,} bytes, checked")


def _compile(config: PipelineConfig) -> tuple[str, dict[str, Any]]:
    if config.metadata.kind != "sqlite":
        _print_message("metadata: not used: Vertex Pipelines keeps an ML Metadata of its own")
    # Ten seconds of imports.
    _print_message("compiling ...")
    with quiet_stderr(), config.name_file_in_errors():
        with pause_garbage_collection():
            from pipeline.vertex import compiler

        check_code(config)
        job = compiler.compile_job(config)
    for line in describe_code(config):
        _print_message(line)
    return compiler.to_text(job), job


def _print_message(line: str) -> None:
    click.echo(line, err=True)


def _create_client(config: PipelineConfig) -> VertexClient:
    return VertexClient(config.place, report=_print_message)


def submit(
    config: PipelineConfig, *, job_id: str | None, wait: bool, use_cache: bool, cron: str | None, as_json: bool
) -> int:
    """Submit or schedule the job; return the exit code."""
    _, job = _compile(config)
    if not use_cache:
        job = jobs.without_cache(job)
    vertex = _create_client(config)
    if cron is not None:
        name, is_new = jobs.submit_schedule(vertex, job, cron=cron, name=config.name)
        summary = {"schedule": name, "cron": cron, "created": is_new}
        _print(summary, f"{'created' if is_new else 'changed'} the schedule {name}: {cron}", as_json=as_json)
        return 0
    job["labels"] = {**job["labels"], **jobs.collect_origin(config)}
    job_id = job_id or jobs.generate_job_id(config.name)
    _, is_new = jobs.submit(vertex, job, job_id)
    now = jobs.read_status(vertex, job_id)
    if not wait:
        summary = {"job_id": job_id, "submitted": is_new, "state": now.state, "link": now.link}
        text = (
            f"submitted {job_id}" if is_new else f"{job_id} is there already, {now.state}; it was not submitted again"
        )
        _print(summary, f"{text}\n{now.link}", as_json=as_json)
        return 0
    if not as_json:
        click.echo(f"submitted {job_id}\n{now.link}" if is_new else f"{job_id} is there already\n{now.link}")
    final = jobs.follow(
        vertex, job_id, (lambda task: None) if as_json else _show_task, seconds=_get_poll_seconds(config)
    )
    _print({**asdict(final), "exit_code": final.exit_code}, _format_outcome(final), as_json=as_json)
    return final.exit_code


def submit_for_reason(config: PipelineConfig, job_id: str, conditions: Sequence[str], *, prints: bool) -> int:
    """Submit the job of a retraining, with the names of the conditions in its label; return the exit code.

    Args:
      config: config of the pipeline.
      job_id: ID of the job.
      conditions: names of the conditions that hold.
      prints: whether the link to the console is printed.
    """
    _, job = _compile(config)
    vertex = _create_client(config)
    labels = {**job["labels"], **jobs.collect_origin(config), jobs.REASON_LABEL: jobs.format_reason(conditions)}
    jobs.submit(vertex, {**job, "labels": labels}, job_id)
    if prints:
        click.echo(f"submitted {job_id}\n{jobs.read_status(vertex, job_id).link}")
    return 0


def read_status(config: PipelineConfig, job_id: str) -> jobs.Status:
    """Return a job as it is now."""
    return jobs.read_status(_create_client(config), job_id)


def show_plan(config: PipelineConfig, *, as_json: bool) -> None:
    """Compile and check the job, and print what a push would do now."""
    from pipeline.run.registry import plan_push

    _, job = _compile(config)
    plan = plan_push(config, config.vertex_registry_settings.open(_print_message))
    tasks = list(job["pipelineSpec"]["root"]["dag"]["tasks"])
    values = {"tasks": tasks, "push": plan.summary, "plan": list(plan.lines)}
    _print(values, "\n".join([plan.summary, *(f"  {line}" for line in plan.lines)]), as_json=as_json)


def _get_poll_seconds(config: PipelineConfig) -> float:
    # An emulator answers at once and charges nothing.
    return 1.0 if (config.place.api_endpoint or "").startswith(("localhost:", "127.0.0.1:")) else 10.0


def _show_task(task: jobs.Task) -> None:
    if task.state == "PENDING":
        return
    seconds = f"{task.seconds:6.1f} s" if task.seconds is not None else "        "
    state = click.style(f"{task.state:<10}", fg=_COLOURS.get(task.state))
    click.echo(
        f"{time.strftime('%H:%M:%S')}  {state} {seconds}  {task.name}" + (f": {task.error}" if task.error else "")
    )


def _format_outcome(final: jobs.Status) -> str:
    failed = [f"{task.name}: {task.error}" for task in final.tasks if task.state == "FAILED"]
    return "\n  ".join([f"{final.name}: {final.state}", *(failed or filter(None, [final.error]))])


def _print(values: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(json.dumps(values, indent=2) if as_json else text)


def show_status(config: PipelineConfig, job_id: str | None, *, as_json: bool) -> None:
    """Show one job, or the latest."""
    vertex = _create_client(config)
    if job_id is None:
        latest_jobs = jobs.list_latest(vertex, 10, config.name)
        if as_json:
            click.echo(
                json.dumps([{"name": job.name, "state": job.state, "link": job.link} for job in latest_jobs], indent=2)
            )
            return
        for job in latest_jobs:
            click.echo(f"{job.state:<10} {job.name}")
        if not latest_jobs:
            click.echo(f"no job of {config.name} in {vertex.place.parent}")
        return
    now = jobs.read_status(vertex, job_id)
    if as_json:
        click.echo(json.dumps(asdict(now), indent=2))
        return
    table = Table(title=f"{now.name}: {now.state}", title_justify="left")
    for heading in ("task", "state", "seconds", "error"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for task in now.tasks:
        seconds = f"{task.seconds:.1f}" if task.seconds is not None else ""
        table.add_row(task.name, task.state, seconds, escape(task.error), style=_COLOURS.get(task.state))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    click.echo(now.link)


def cancel(config: PipelineConfig, job_id: str, *, as_json: bool) -> None:
    """Cancel a job."""
    now = jobs.cancel(_create_client(config), job_id)
    _print({"job_id": now.name, "state": now.state}, f"{now.name}: {now.state}", as_json=as_json)


def show_schedules(config: PipelineConfig, action: str, *, as_json: bool) -> None:
    """Print the schedules of the pipeline, after a change of their state if the action is one."""
    vertex = _create_client(config)
    if action == "list":
        listed = jobs.list_schedules(vertex, config.name)
    else:
        listed = jobs.update_schedules(vertex, config.name, action)
    values = [{"schedule": s.name, "cron": s.cron, "state": s.state.name} for s in listed]
    lines = [f"{entry['state']:<10} {entry['cron']:<30} {entry['schedule']}" for entry in values]
    if as_json:
        click.echo(json.dumps(values, indent=2))
    else:
        click.echo("\n".join(lines) or f"no schedule of {config.name} in {vertex.place.parent}")


def rehearse(config: PipelineConfig, folder: Path, *, use_cache: bool, run_as: int | None, as_json: bool) -> int:
    """Run the compiled job here, and keep a record of it; return the exit code.

    Args:
      config: config of the pipeline.
      folder: folder of the state and the logs.
      use_cache: whether results of earlier rehearsals are reused.
      run_as: ID of the image's user, as in Rehearsal.
      as_json: whether one JSON document is printed.
    """
    config.check_vertex_sections()
    folder.mkdir(parents=True, exist_ok=True)
    with RunRoot(folder).hold("--folder"), _run_emulator(config, folder) as (place, environment):
        assert config.vertex is not None
        local = config.model_copy(update={"vertex": config.vertex.model_copy(update={"api_endpoint": place})})
        _, job = _compile(local)
        storage = folder / "vertex" / "storage"
        _stage_data(config, storage)
        run = rehearsal_record.Recorded(
            local,
            job if use_cache else jobs.without_cache(job),
            folder,
            storage=storage,
            environment=environment,
            run_as=run_as,
            started=lambda task: None if as_json else _print_start(task),
            finished=lambda task: None if as_json else _show_task(task),
        )
        results = run.run()
    final = run.build_status(results)
    failed = [result for result in results.values() if result.state == rehearsal.FAILED]
    summary = {"state": final.state, "exit_code": final.exit_code, "tasks": [asdict(r) for r in results.values()]}
    text = f"rehearsal {final.state.lower()}; logs and artifacts in {folder}"
    notes = [*run.describe_challengers(results), *run.describe_request_log(results, config.deployment.request_log)]
    lines = [*notes, text, *(f"  {result.task}: see {result.log}" for result in failed)]
    _print({**summary, "run": final.name}, "\n".join(lines), as_json=as_json)
    return final.exit_code


def _print_start(task: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  RUNNING              {task}")


def _stage_data(config: PipelineConfig, storage: Path) -> None:
    """Put this machine's data where the bucket's would be, and make the dataset of the request log."""
    assert config.vertex is not None
    if config.deployment.request_log is not None:
        project, dataset, _ = config.deployment.request_log.table.rsplit(".", 2)
        (storage.parent / "bigquery" / project / dataset).mkdir(parents=True, exist_ok=True)
    (storage / config.vertex.pipeline_root.removeprefix("gs://").split("/")[0]).mkdir(parents=True, exist_ok=True)
    if not config.data.reads_files:
        return
    assert config.vertex.input_base is not None
    target = storage / config.vertex.input_base.removeprefix("gs://").rstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    if not target.exists():
        target.symlink_to(config.data.base)


@contextmanager
def _run_emulator(config: PipelineConfig, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield an emulator that runs, or one of our own; its address and what clients need in their environment.

    Raises:
      ConfigError: the API named is not on this machine, where a rehearsal would push for real.
    """
    address = config.vertex.api_endpoint if config.vertex else None
    if address is not None:
        if not address.startswith(("localhost:", "127.0.0.1:")):
            raise ConfigError(
                f"--api-endpoint {address}: a rehearsal pushes, so only an emulator on this machine will do"
            )
        yield address, {}
        return
    state = folder / "vertex"
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "emulators.vertex", "--state", str(state), "--operation-seconds", "0.2"]
    # In a session of its own: Ctrl-C ends the tasks first, which may be talking to it.
    with (state / "emulator.log").open("ab") as log:
        running = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        assert running.stdout is not None
        exports: dict[str, str] = {}
        for line in running.stdout:
            if line.startswith("# ready"):
                break
            (assignment,) = shlex.split(line.removeprefix("export "))
            key, _, value = assignment.partition("=")
            exports[key] = value
        else:
            last_line = (state / "emulator.log").read_text().strip().rpartition("\n")[2]
            raise PipelineError(f"the emulator did not start: {last_line}; see {state / 'emulator.log'}")
        yield exports["VERTEX_API_ENDPOINT"], exports
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
