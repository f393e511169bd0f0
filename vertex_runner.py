"""Runs the pipeline on Vertex AI: compiles, submits, rehearses, watches, cancels.

python vertex_runner.py submit --config configs/census.yaml --project my-project --wait
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "census.yaml"

EPILOG = """\
\b
Exit codes:
  0    done; with --wait, the job succeeded
  1    a task failed, or the job cannot be compiled
  2    the config or a flag is wrong; nothing was sent
  3    the data does not fit its schema
  4    the model missed a threshold, or was not served as it should be; it was not pushed
  5    Vertex AI rejected it: no permission, no quota, the name is taken, another push is under way
  6    another rehearsal uses the folder
  130  interrupted (Ctrl-C or SIGTERM), or the job was cancelled

\b
From an empty project to a served model: docs/vertex.md.
"""
# Flag, environment variable, key of the config's section `vertex`, help.
_OVERRIDES = [
    ("project", "The Google Cloud project."),
    ("region", "Such as europe-west4."),
    ("pipeline_root", "gs:// folder of the artifacts."),
    ("input_base", "gs:// folder of the data."),
    ("image", "The container image of the components."),
    ("service_account", "That the job runs as."),
    ("network", "VPC network of the job."),
    ("api_endpoint", "HOST:PORT of another API, such as an emulator's."),
]


def _with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config, --set and the flags over its `vertex` section; print errors as one line, and exit with the code."""

    @functools.wraps(command)
    def run(
        config_file: Path, vertex_file: Path | None, settings: tuple[str, ...], as_json: bool, **options: Any
    ) -> None:
        from cli.terminal import exit_on_error, get_runner
        from pipeline.config import pipeline_config

        flags = {key: options.pop(key) for key, _ in _OVERRIDES}
        overrides = [f"vertex.{key}={json.dumps(value)}" for key, value in flags.items() if value]
        note = f"; a job that was submitted continues: {' '.join(get_runner('vertex_runner.py'))} status, cancel"
        with exit_on_error(as_json=as_json, interrupted="interrupted" + (note if command.__name__ == "submit" else "")):
            shared = pipeline_config.read_vertex_settings(vertex_file) if vertex_file else []
            config = pipeline_config.load(config_file, [*shared, *settings, *overrides])
            command(config, as_json=as_json, **options)

    for key, text in reversed(_OVERRIDES):
        flag = f"--{key.replace('_', '-')}"
        run = click.option(flag, key, envvar=f"VERTEX_{key.upper()}", help=f"{text}  [env: VERTEX_{key.upper()}]")(run)
    run = click.option(
        "--vertex-file",
        type=click.Path(path_type=Path),
        envvar="VERTEX_FILE",
        help="YAML file with the sections `vertex` and `push.vertex` of several configs.  [env: VERTEX_FILE]",
    )(run)
    run = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(run)
    run = click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one key. May be repeated."
    )(run)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(),
        default=DEFAULT_CONFIG,
        show_default="configs/census.yaml",
        help="The pipeline's config; docs/config.md explains every key.",
    )(run)


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Run the pipeline of a config on Vertex AI.

    compile and rehearse need no cloud; submit sends the same job that they checked.
    """


@main.command(name="compile")
@click.option("--output", type=click.Path(path_type=Path), help="Where the job is written.  [default: NAME.json]")
@_with_config
def compile_command(config: Any, *, output: Path | None, as_json: bool) -> None:
    """Write the PipelineJob as JSON, checked: the same config gives the same file."""
    from pipeline.vertex import commands

    commands.write(config, output or Path(f"{config.name}.json"), as_json=as_json)


@main.command()
@click.option("--job-id", help="ID of the job; an existing one is not submitted again.  [default: NAME-TIME]")
@click.option("--wait", is_flag=True, help="Follow the tasks; end with the job's exit code.")
@click.option("--no-cache", is_flag=True, help="Run every task, whatever earlier runs left.")
@click.option("--dry-run", is_flag=True, help="Compile, check and print the effect of the push; submit nothing.")
@click.option(
    "--cron", help="Run it by the clock instead: '0 3 * * *', or 'TZ=Europe/Berlin 0 3 * * *' (CRON_TZ= is the same)."
)
@_with_config
def submit(
    config: Any, *, job_id: str | None, wait: bool, no_cache: bool, dry_run: bool, cron: str | None, as_json: bool
) -> None:
    """Compile, check and submit; print the link to the console."""
    from cli.errors import ConfigError
    from pipeline.vertex import commands, jobs

    if job_id is not None:
        jobs.check_job_id(job_id)
    if cron is not None:
        jobs.check_cron(cron)
        if wait or job_id is not None:
            raise ConfigError(
                "--cron: a schedule names its runs itself, and nobody waits for them; leave out --wait and --job-id"
            )
    if dry_run:
        commands.show_plan(config, as_json=as_json)
        return
    sys.exit(commands.submit(config, job_id=job_id, wait=wait, use_cache=not no_cache, cron=cron, as_json=as_json))


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), help="State and logs.  [default: runs/rehearsal/NAME]")
@click.option("--no-cache", is_flag=True, help="Run every task, whatever earlier rehearsals left.")
@click.option(
    "--run-as",
    type=int,
    metavar="UID",
    help="User of the image (its build argument RUN_AS): 0 may write /gcs. Another takes root.  [default: your own]",
)
@_with_config
def rehearse(config: Any, *, folder: Path | None, no_cache: bool, run_as: int | None, as_json: bool) -> None:
    """Run the compiled job on this machine, each task as its container would, against an emulator of Vertex AI.

    Nothing is sent to the cloud. Without --api-endpoint an emulator is started for as long as the rehearsal lasts.
    """
    from pipeline.vertex import commands

    where = folder or Path("runs") / "rehearsal" / config.name
    sys.exit(commands.rehearse(config, where.absolute(), use_cache=not no_cache, run_as=run_as, as_json=as_json))


@main.command()
@click.argument("job_id", required=False)
@_with_config
def status(config: Any, *, job_id: str | None, as_json: bool) -> None:
    """Show a job's tasks, or the latest jobs."""
    from pipeline.vertex import commands

    commands.show_status(config, job_id, as_json=as_json)


@main.command()
@click.argument("job_id")
@_with_config
def cancel(config: Any, *, job_id: str, as_json: bool) -> None:
    """End a job. The serving version is unchanged."""
    from pipeline.vertex import commands

    commands.cancel(config, job_id, as_json=as_json)


@main.command()
@click.argument("action", type=click.Choice(["list", "pause", "resume", "delete"]), default="list")
@_with_config
def schedules(config: Any, *, action: str, as_json: bool) -> None:
    """List, pause, resume or delete the schedules of the pipeline. The default is to list them."""
    from pipeline.vertex import commands

    commands.show_schedules(config, action, as_json=as_json)


def run_program() -> None:
    """Run the command, and leave at once."""
    from cli.interrupts import skip_teardown

    with skip_teardown():
        main()


if __name__ == "__main__":
    run_program()
