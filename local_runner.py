"""Command that runs the pipeline on this machine: from a table of data to a validated model in the registry.

python local_runner.py --config configs/census.yaml
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from cli.errors import PipelineError

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "census.yaml"

EPILOG = """\
\b
Exit codes:
  0    the model is in the registry: pushed, or there already; with --until, that component is done
  1    a component failed; the log has the traceback
  2    the config or a flag is wrong; nothing was started
  3    the data cannot be read or does not fit its schema
  4    the model missed a threshold, or was not served as it should be; it was not pushed
  5    the push was rejected: the name or version is taken, or the registry cannot be written
  6    the run root cannot be used: not writable, full, locked, in use, or damaged; or its database cannot, with why
  130  interrupted (Ctrl-C or SIGTERM)

Whatever the exit code, the serving version is unchanged unless a new version is named as pushed.
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--config",
    "config_file",
    type=click.Path(),
    default=DEFAULT_CONFIG,
    show_default="configs/census.yaml",
    help="The pipeline's config; docs/config.md explains every key.",
)
@click.option(
    "--run-root",
    type=click.Path(path_type=Path),
    help="Folder for metadata, artifacts, logs and the registry.  [default: runs/NAME]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key, such as training.epochs=3. May be repeated.",
)
@click.option("--no-cache", is_flag=True, help="Run every component, whatever earlier runs left.")
@click.option(
    "--until", metavar="NODE", help="Stop after this component: Gate to check data, Evaluator to push nothing."
)
@click.option(
    "--dry-run", is_flag=True, help="Check the config, the schema, the files' headers and the registry, and stop."
)
@click.option("--quiet", "output", flag_value="quiet", help="Print nothing when all is well; for cron.")
@click.option(
    "--verbose",
    "output",
    flag_value="verbose",
    help="Print TFX's and TensorFlow's own log here instead of to the log file.",
)
@click.option("--json", "output", flag_value="json", help="Print nothing but the summary, as one JSON document.")
def main(
    config_file: Path,
    run_root: Path | None,
    settings: tuple[str, ...],
    no_cache: bool,
    until: str | None,
    dry_run: bool,
    output: Literal["quiet", "verbose", "json"] | None,
) -> None:
    """Run the pipeline of a config on this machine: read and validate the data, transform it, train and evaluate.

    A model that meets its thresholds, also beside the last blessed model, is blessed and pushed as a new version.

    Components whose inputs, parameters and code did not change are reused from earlier runs in the same run root.
    """
    # Arrow's own pools keep what the files took, 140 MB for a million rows; read when Arrow is loaded.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Here, not above: --help should not wait for them.
    from cli.errors import ConfigError
    from cli.terminal import exit_on_error
    from pipeline.config import pipeline_config
    from pipeline.run import local
    from pipeline.run.run_root import get_default_run_root

    with exit_on_error(as_json=output == "json", interrupted="interrupted before anything was started"):
        try:
            loaded = pipeline_config.load(config_file, settings)
        except ConfigError as error:
            if not dry_run:
                _record_rejection(config_file, settings, run_root, error)
            raise
        root = run_root or get_default_run_root(loaded.name)
        if dry_run:
            code = local.plan_run(loaded, run_root=root.absolute(), output=output or "normal", until=until)
        else:
            code = local.run(
                loaded, run_root=root.absolute(), use_cache=not no_cache, output=output or "normal", until=until
            )
    sys.exit(code)


def _record_rejection(
    config_file: Path, settings: tuple[str, ...], run_root: Path | None, error: "PipelineError"
) -> None:
    """Record that a config was rejected, in the run root that is named, or that of the config's name."""
    from cli.terminal import get_runner
    from pipeline.config import pipeline_config
    from pipeline.run import local
    from pipeline.run.run_root import RunRoot, get_default_run_root

    name = pipeline_config.read_name(config_file, settings) or (run_root.name if run_root else None)
    if name is not None:
        # Without the settings: one that is rejected may be a secret in the wrong place.
        place = ["--run-root", str(run_root)] if run_root else []
        command = [get_runner("local_runner.py")[-1], "--config", str(config_file), *place]
        local.record_rejection(RunRoot(run_root or get_default_run_root(name)), name, error, command)


def run_program() -> None:
    """Run the command, and leave at once."""
    from cli.interrupts import skip_teardown

    with skip_teardown():
        main()


if __name__ == "__main__":
    run_program()
