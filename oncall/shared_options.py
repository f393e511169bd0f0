"""What all commands share: the run root or the project, `--json`, one line for an error, an exit code."""

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cli.errors import ConfigError, PushError, RunRootError
from cli.terminal import flags, refusals
from oncall.evidence import Evidence
from oncall.sources import Source
from oncall.terminal import Answer, show


def answers(command: Callable[..., Answer | int]) -> Callable[..., None]:
    """Give a command its common options, and print its answer or its error."""
    return _asking(command, "")


def answers_here(instead: str) -> Callable[[Callable[..., Answer | int]], Callable[..., None]]:
    """Return the same for a command that needs a run root; `instead` says what there is on Vertex AI, at {place}."""
    return lambda command: _asking(command, instead)


def _asking(command: Callable[..., Answer | int], instead: str) -> Callable[..., None]:
    @functools.wraps(command)
    def run(
        run_root: Path | None,
        project: str | None,
        region: str | None,
        pipeline: str | None,
        api_endpoint: str | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        def answer() -> Answer | int:
            found = _source(run_root, project, region, pipeline, api_endpoint, instead)
            said = command(found, **options)
            return _with_unread(said, found) if isinstance(said, Answer) else said

        with refusals(as_json=as_json):
            code = _answered(answer, as_json)
        sys.exit(code)

    if instead:
        run.__doc__ = f"{command.__doc__}\n\n    On Vertex AI: {instead.format(place='')}."
    for option in _options(with_vertex=not instead):
        run = option(run)
    return run


def _options(*, with_vertex: bool) -> Iterator[Callable[..., Any]]:
    """Yield the common options, the last one first; those of Vertex AI are taken, and refused, where they are of no
    use.
    """
    yield click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    for name, letters, variable, meaning in (
        ("--api-endpoint", "HOST:PORT", "VERTEX_API_ENDPOINT", "Of another API than Google's own."),
        ("--pipeline", "NAME", None, "Only the jobs of this pipeline.  [default: all]"),
        ("--region", "R", "VERTEX_REGION", "Of the project's jobs, such as europe-west4."),
        ("--project", "P", "VERTEX_PROJECT", "The Google Cloud project: its jobs, not this machine's runs."),
    ):
        yield click.option(name, metavar=letters, envvar=variable, help=meaning, hidden=not with_vertex)
    yield click.option(
        "--run-root",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="The folder of the runs.  [default: the only runs/* below the current folder that holds runs]",
    )


def _source(
    run_root: Path | None,
    project: str | None,
    region: str | None,
    pipeline: str | None,
    api_endpoint: str | None,
    instead: str,
) -> Source:
    """Return the run root, or Vertex AI where a project is named; a run root that is named goes over the environment.

    Raises:
      ConfigError: both are named, or the command needs the other.
    """
    given = click.get_current_context().get_parameter_source("project") is ParameterSource.COMMANDLINE
    if run_root is not None and given:
        raise ConfigError("--run-root and --project: give one of them; runs are on this machine, or on Vertex AI")
    if project is None or run_root is not None:
        if pipeline is not None:
            raise ConfigError("--pipeline: is for Vertex AI; name the project, too, with --project")
        return Evidence(run_root)
    if instead:
        said = instead.format(place=flags(project=project, region=region))
        raise ConfigError(f"{click.get_current_context().info_name}: is for runs of this machine; {said}")
    # Google's clients take a second to load.
    from oncall.vertex.evidence import VertexEvidence, Where

    typed = click.get_current_context().get_parameter_source("api_endpoint") is ParameterSource.COMMANDLINE
    return VertexEvidence(Where(project, region, pipeline, api_endpoint, is_endpoint_typed=typed))


def _with_unread(answer: Answer, source: Source) -> Answer:
    """Return the answer, with what could not be looked at."""
    if not source.unread:
        return answer
    error = "; ".join(filter(None, [answer.error, *dict.fromkeys(source.unread)]))
    return replace(answer, error=error, exit_code=answer.exit_code or PushError.exit_code)


def _answered(question: Callable[[], Answer | int], as_json: bool) -> int:
    """Print the answer; return the exit code."""
    try:
        answer = question()
    except BrokenPipeError:
        # Whoever read along has seen enough, as `head` does; click ends quietly then.
        raise
    except OSError as error:
        place = error.filename or "the run root"
        raise RunRootError(f"{place}: cannot be read: {error.strerror or error}") from error
    if isinstance(answer, int):
        # It has printed all there is to say.
        return answer
    show(answer, as_json=as_json)
    return answer.exit_code
