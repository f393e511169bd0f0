"""The options of all commands: the run root or the project, and `--json`; their errors and exit codes."""

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cli.errors import ConfigError, PushError, RunRootError
from cli.terminal import exit_on_error, format_flags, name_scripts
from oncall.local.run_store import LocalRunStore
from oncall.printing import print_result
from oncall.results import CommandResult
from oncall.run_store import RunStore

Command = Callable[..., CommandResult | int]
# Commands that print a line or two, or all that they are asked for.
_WITHOUT_LINES = ("log", "resume", "rollback", "web", "report")


def add_store(command: Command) -> Callable[..., None]:
    """Give a command the shared options and a run store; print its result or its error."""
    return _wrap(command, "")


def add_local_store(alternative: str) -> Callable[[Command], Callable[..., None]]:
    """Return the decorator for a command that needs a run root.

    Args:
      alternative: sentence that names the equivalent on Vertex AI, with `{flags}` for the flags of the project.
    """
    return lambda command: _wrap(command, alternative)


def _wrap(command: Command, alternative: str) -> Callable[..., None]:
    @functools.wraps(command)
    def run(
        run_root: Path | None,
        project: str | None,
        region: str | None,
        pipeline: str | None,
        api_endpoint: str | None,
        as_json: bool,
        show_all: bool = True,
        **options: Any,
    ) -> None:
        def execute() -> CommandResult | int:
            store = _open_store(run_root, project, region, pipeline, api_endpoint, alternative)
            result = command(store, **options)
            return _add_read_errors(result, store) if isinstance(result, CommandResult) else result

        with exit_on_error(as_json=as_json):
            code = _execute_and_print(execute, as_json, show_all)
        sys.exit(code)

    if alternative:
        run.__doc__ = f"{command.__doc__}\n\n    On Vertex AI: {alternative.format(flags='')}."
    for option in _create_options(with_vertex=not alternative, has_lines=command.__name__ not in _WITHOUT_LINES):
        run = option(run)
    return run


def _create_options(*, with_vertex: bool, has_lines: bool) -> Iterator[Callable[..., Any]]:
    """Yield the shared options, the last one first.

    A local command has hidden options for Vertex AI, so that it can reject them with a message.
    """
    if has_lines:
        yield click.option("--all", "show_all", is_flag=True, help="Print all lines.  [default: the first 25]")
    yield click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    for name, letters, variable, meaning in (
        ("--api-endpoint", "HOST:PORT", "VERTEX_API_ENDPOINT", "Address of another API than Google's own."),
        ("--pipeline", "NAME", None, "Only the jobs of this pipeline.  [default: all]"),
        ("--region", "R", "VERTEX_REGION", "Region of the project's jobs, such as europe-west4."),
        ("--project", "P", "VERTEX_PROJECT", "Google Cloud project, whose jobs replace this machine's runs."),
    ):
        yield click.option(name, metavar=letters, envvar=variable, help=meaning, hidden=not with_vertex)
    yield click.option(
        "--run-root",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Folder of the runs.  [default: the only runs/* below the current folder that holds runs]",
    )


def _open_store(
    run_root: Path | None,
    project: str | None,
    region: str | None,
    pipeline: str | None,
    api_endpoint: str | None,
    alternative: str,
) -> RunStore:
    """Return the runs of Vertex AI if a project is named, or of the run root; --run-root overrides VERTEX_PROJECT.

    Raises:
      ConfigError: both are named, or the command needs the other.
    """
    context = click.get_current_context()
    is_project_typed = context.get_parameter_source("project") is ParameterSource.COMMANDLINE
    if run_root is not None and is_project_typed:
        raise ConfigError("--run-root and --project: give one of them; runs are on this machine, or on Vertex AI")
    if project is None or run_root is not None:
        if pipeline is not None:
            raise ConfigError("--pipeline: is for Vertex AI; name the project, too, with --project")
        return LocalRunStore(run_root)
    if alternative:
        remedy = name_scripts(alternative).format(flags=format_flags(project=project, region=region))
        raise ConfigError(f"{context.info_name}: is for runs of this machine; {remedy}")
    # Google's clients take a second to load.
    from oncall.vertex.location import VertexLocation
    from oncall.vertex.run_store import VertexRunStore

    is_endpoint_typed = context.get_parameter_source("api_endpoint") is ParameterSource.COMMANDLINE
    return VertexRunStore(VertexLocation(project, region, pipeline, api_endpoint, is_endpoint_typed=is_endpoint_typed))


def _add_read_errors(result: CommandResult, store: RunStore) -> CommandResult:
    """Return the result with the errors of files that could not be read."""
    if not store.read_errors:
        return result
    error = "; ".join(filter(None, [result.error, *dict.fromkeys(store.read_errors)]))
    return replace(result, error=error, exit_code=result.exit_code or PushError.exit_code)


def _execute_and_print(execute: Callable[[], CommandResult | int], as_json: bool, show_all: bool) -> int:
    """Print the result; return the exit code."""
    try:
        result = execute()
    except BrokenPipeError:
        # The reader of the pipe has left, as `head` does; click then exits without a message.
        raise
    except OSError as error:
        place = error.filename or "the run root"
        raise RunRootError(f"{place}: cannot be read: {error.strerror or error}") from error
    if isinstance(result, int):
        # The command has printed its output itself.
        return result
    print_result(result, as_json=as_json, show_all=show_all)
    return result.exit_code
