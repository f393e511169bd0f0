"""A check of Beam's command-line options by name, which Beam itself does not do."""

from cli.errors import ConfigError
from schemas.declaration import did_you_mean


def check_beam_args(arguments: list[str], prefix: str = "beam.options.") -> None:
    """Reject options that Beam would silently ignore, and those that Dataflow would reject.

    Args:
      arguments: arguments of a command line.
      prefix: text before the name of an option in a message.

    Raises:
      ConfigError: an option is unknown or invalid; names it.
    """
    from apache_beam.options import pipeline_options, pipeline_options_validator
    from apache_beam.runners.dataflow import dataflow_runner

    # A dry run, since Beam would read the retention of the bucket otherwise.
    options = pipeline_options.PipelineOptions([*arguments, "--dry_run=True"])
    names = {*options.get_all_options(drop_default=False)}
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        # A flag that turns an option off has its name after `no_`.
        if name not in names and name.removeprefix("no_") not in names:
            raise ConfigError(f"{prefix}{name}: is not an option of Beam; {did_you_mean(name, sorted(names))}")
    if options.view_as(pipeline_options.StandardOptions).runner == "DataflowRunner":
        validator = pipeline_options_validator.PipelineOptionsValidator(options, dataflow_runner.DataflowRunner())
        problems = validator.validate()
        if problems:
            raise ConfigError("\n".join(f"beam: {' '.join(problem.split())}" for problem in problems))
