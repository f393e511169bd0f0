"""Beam's command-line options, checked by name, which Beam itself does not do."""

from cli.errors import ConfigError
from schemas.declaration import did_you_mean


def check_beam_args(arguments: list[str], called: str = "beam.options.") -> None:
    """Refuses options that Beam does not know, which it would silently ignore, and what Dataflow would refuse.

    Args:
      arguments: as on a command line.
      called: what the user calls an option, before its name.

    Raises:
      ConfigError: naming the option.
    """
    from apache_beam.options import pipeline_options, pipeline_options_validator
    from apache_beam.runners.dataflow import dataflow_runner

    # As a dry run: without one, Beam would ask the bucket for its retention.
    options = pipeline_options.PipelineOptions([*arguments, "--dry_run=True"])
    known = {*options.get_all_options(drop_default=False)}
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        # Flags that turn something off have the name of what they turn off.
        if name not in known and name.removeprefix("no_") not in known:
            raise ConfigError(f"{called}{name}: is not an option of Beam; {did_you_mean(name, sorted(known))}")
    if options.view_as(pipeline_options.StandardOptions).runner == "DataflowRunner":
        validator = pipeline_options_validator.PipelineOptionsValidator(options, dataflow_runner.DataflowRunner())
        problems = validator.validate()
        if problems:
            raise ConfigError("\n".join(f"beam: {' '.join(problem.split())}" for problem in problems))
