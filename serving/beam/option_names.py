"""A check of Beam's command-line options by name, which Beam itself does not do."""

import argparse
from collections.abc import Sequence
from typing import Any

from apache_beam.options import pipeline_options, pipeline_options_validator
from apache_beam.runners.dataflow import dataflow_runner

from cli.errors import ConfigError
from schemas.declaration import suggest_name
from serving.beam.arguments import RUNNER_CLASSES


def check_beam_args(arguments: Sequence[str], prefix: str = "beam.options.") -> None:
    """Reject options that Beam, or the runner, would silently ignore, and those that Dataflow would reject.

    Args:
      arguments: arguments of a command line.
      prefix: text before the name of an option in a message.

    Raises:
      ConfigError: an option is unknown or invalid; names it.
    """
    # A dry run, since Beam would read the retention of the bucket otherwise.
    options = pipeline_options.PipelineOptions([*arguments, "--dry_run=True"])
    names = {*options.get_all_options(drop_default=False)}
    classes = {
        "direct": pipeline_options.DirectOptions,
        "prism": pipeline_options.PrismRunnerOptions,
        "flink": pipeline_options.FlinkRunnerOptions,
        "spark": pipeline_options.SparkRunnerOptions,
    }
    owners = {name: runner for runner, kind in classes.items() for name in _list_option_names(kind)}
    class_name = options.view_as(pipeline_options.StandardOptions).runner
    runner = next((name for name, kind in RUNNER_CLASSES.items() if kind == class_name), None)
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        # A flag that turns an option off has its name after `no_`.
        if name not in names and name.removeprefix("no_") not in names:
            raise ConfigError(f"{prefix}{name}: is not an option of Beam; {suggest_name(name, sorted(names))}")
        owner = owners.get(name, runner)
        # Any job server may stand behind the runner `portable`.
        if runner not in (None, "portable", owner):
            raise ConfigError(f"{prefix}{name}: is an option of the runner {owner}, and the runner is {runner}")
    if class_name == RUNNER_CLASSES["dataflow"]:
        validator = pipeline_options_validator.PipelineOptionsValidator(options, dataflow_runner.DataflowRunner())
        problems = validator.validate()
        if problems:
            raise ConfigError("\n".join(f"beam: {' '.join(problem.split())}" for problem in problems))


def _list_option_names(kind: Any) -> set[str]:
    """Return the names of the options that a class of Beam's options adds."""
    parser = argparse.ArgumentParser(add_help=False)
    kind._add_argparse_args(parser)
    return {action.dest for action in parser._actions}
