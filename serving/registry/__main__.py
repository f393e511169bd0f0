"""The versions of a model in a registry: list, inspect, promote, roll back, delete.

python -m serving.registry list
python -m serving.registry rollback --reason "bad predictions since noon" --yes
python -m serving.registry list --project my-project --region europe-west4 --model census-income
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.errors import ConfigError, PushError
from cli.terminal import exit_on_error
from serving.registry.local import disk
from serving.registry.local.lookup import find_registry
from serving.registry.protocol import ModelRegistry, ServingSwitch

EPILOG = """\b
Exit codes: 0 done, or nothing to do; 2 a flag is wrong; 5 rejected, or the registry cannot be read or written;
130 interrupted. Without --yes nothing is changed: the effect is printed."""

_MAX_EVENTS = 10


@dataclass(frozen=True)
class _VertexFlags:
    """Flags that name a model on Vertex AI."""

    project: str | None
    region: str | None
    endpoint: str | None
    staging: str
    api_endpoint: str | None
    model: str | None


def _open(registry: Path | None, model: str | None, vertex: _VertexFlags) -> ModelRegistry:
    """Return the registry of the flags: a folder, unless a project is named."""
    source = click.get_current_context().get_parameter_source
    typed = {name for name in ("registry", "project") if source(name) is click.core.ParameterSource.COMMANDLINE}
    if len(typed) > 1:
        raise ConfigError("--registry and --project: a model is in a folder or on Vertex AI; name one of them")
    if registry is not None and vertex.project is not None and not typed:
        raise ConfigError("REGISTRY and VERTEX_PROJECT are both set; choose with --registry or --project")
    if vertex.project is None or "registry" in typed or (registry is not None and "project" not in typed):
        return find_registry(registry, model)
    return _open_vertex(model or vertex.model, vertex)


def _open_vertex(model: str | None, values: _VertexFlags) -> ModelRegistry:
    for flag, value in (("region", values.region), ("model", model)):
        if not value:
            raise ConfigError(f"--{flag}: is needed with --project; expected it as a flag or as VERTEX_{flag.upper()}")
    # A second of imports, which only Vertex AI needs.
    from pydantic import ValidationError

    from serving.registry.vertex.config import VertexProject
    from serving.registry.vertex.connection import VertexClient
    from serving.registry.vertex.registry import open_deployed

    try:
        place = VertexProject.model_validate(
            {name: getattr(values, name) for name in ("project", "region", "staging", "api_endpoint")}
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        flag, rule = str(problem["loc"][0]).replace("_", "-"), problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{flag}: {rule}, found {problem['input']!r}") from error
    vertex = VertexClient(place, report=lambda line: click.echo(line, err=True))
    return open_deployed(vertex, str(model), values.endpoint)


_FLAGS = [
    click.option(
        "--registry",
        envvar="REGISTRY",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="The registry's folder.  [env: REGISTRY; default: the only runs/*/registry below the current folder]",
    ),
    click.option(
        "--model", metavar="NAME", help="push.model_name.  [env: VERTEX_MODEL; default: the only model in the folder]"
    ),
    click.option("--project", envvar="VERTEX_PROJECT", help="The Google Cloud project, for a model on Vertex AI."),
    click.option("--region", envvar="VERTEX_REGION", help="The region, such as europe-west4."),
    click.option("--endpoint", help="The endpoint's name on Vertex AI.  [default: the model's]"),
    click.option("--staging", default="", help="vertex.pipeline_root: gc deletes the folders of versions there."),
    click.option("--api-endpoint", envvar="VERTEX_API_ENDPOINT", help="HOST:PORT of another API, an emulator's."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    # Only read from the environment: a name there is for Vertex AI alone.
    click.option("--vertex-model", envvar="VERTEX_MODEL", hidden=True),
]


def _add_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all commands have; an error becomes one line and its exit code."""

    @functools.wraps(command)
    def run(
        registry: Path | None,
        model: str | None,
        project: str | None,
        region: str | None,
        endpoint: str | None,
        staging: str,
        api_endpoint: str | None,
        vertex_model: str | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        vertex = _VertexFlags(project, region, endpoint, staging, api_endpoint, vertex_model)
        with exit_on_error(as_json=as_json, interrupted="interrupted; run the command again to finish what was begun"):
            try:
                command(_open(registry, model, vertex), as_json=as_json, **options)
            except BrokenPipeError:
                # The reader has left, as `head` does; click ends the process quietly.
                raise
            except OSError as error:
                # Sizes are counted while others may delete, and a file need not be readable.
                raise PushError(f"{error.filename}: {disk.describe_error(error)}") from error

    for option in reversed(_FLAGS):
        run = option(run)
    return run


_yes = click.option("--yes", is_flag=True, help="Do it.")
_reason = click.option("--reason", default="", metavar="TEXT", help="Why; kept in the history.")


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Print and change which version of a model serves, from a folder or on Vertex AI."""


@main.command(name="list")
@_add_options
def list_versions(registry: ModelRegistry, as_json: bool) -> None:
    """Print the versions, their states, and their history."""
    versions, history = registry.list_versions(), registry.read_history()
    if as_json:
        document = {
            "model": registry.resource,
            "serving": registry.read_serving().champion,
            "versions": [version.to_dict() for version in versions],
            "history": history,
        }
        click.echo(json.dumps(document, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title=escape(registry.resource), title_justify="left")
    for heading in versions[0].cells if versions else ("version", "state"):
        table.add_column(heading, justify="right" if heading in ("version", "size") else "left")
    for version in versions:
        table.add_row(*map(escape, version.cells.values()))
    console.print(table)
    for event in history[-_MAX_EVENTS:]:
        console.print(_format_event(event), markup=False, highlight=False)


def _format_event(event: Mapping[str, Any]) -> str:
    """Return a change in one line."""
    champion = event.get("champion_before")
    served = f"; version {champion} served" if champion is not None else ""
    why = f": {event['reason']}" if event.get("reason") else ""
    version = f"{event['version']:g}" if "version" in event else "?"
    action = f"{event['action']} {'to' if event['action'] == 'rollback' else 'of'} version {version}"
    return f"{event['at']}  {action} by {event['by']}{served}{why}"


@main.command()
@click.argument("number", type=click.IntRange(0), required=False, metavar="[VERSION]")
@click.option("--version", type=click.IntRange(0), metavar="N", help="The same.  [default: the champion]")
@_add_options
def show(registry: ModelRegistry, number: int | None, version: int | None, as_json: bool) -> None:
    """Print all about one version, and whether its files are still those that were pushed."""
    if None not in (number, version) and number != version:
        raise ConfigError(f"--version: {version} is not {number}; name one version")
    details = registry.inspect(version if number is None else number)
    history = [event for event in registry.read_history() if event.get("version") == details["version"]]
    if as_json:
        click.echo(json.dumps({**details, "history": history}, indent=2))
        return
    for line in (*_format_details(details), *map(_format_event, history)):
        click.echo(line)


def _format_details(details: Mapping[str, Any]) -> list[str]:
    fits = {
        True: "fits the files",
        False: "DOES NOT FIT THE FILES: they were changed since the push, and are not to be served",
        None: "unknown: no release.json records the push",
    }
    lines = [
        ("version", f"{details['version']}, {details['state']}"),
        ("path", details["path"]),
        ("aliases", ", ".join(details.get("aliases", ()))),
        ("traffic", f"{details['traffic_percent']} %" if "traffic_percent" in details else ""),
        ("pipeline", details.get("pipeline", "")),
        ("run", details.get("run_id") or ""),
        ("model", f"{details['model_id']} in ML Metadata" if "model_id" in details else ""),
        ("pushed", details.get("pushed_at") or details.get("created", "")),
        ("content", f"{details.get('content_hash') or ''} {fits[details['content_fits']]}".strip()),
        ("size", f"{details['bytes'] / 1e6:,.1f} MB" if "bytes" in details else ""),
        ("decision", (details.get("decision") or {}).get("text", "")),
        ("beside", ", ".join(details.get("beside", ()))),
        *(("metric", f"{name} {value:.4f}") for name, value in details.get("metrics", {}).items()),
    ]
    return [f"{label:<9} {text}" for label, text in lines if text]


@main.command()
@click.option(
    "--version", type=click.IntRange(0), metavar="N", help="The version that shall serve.  [default: the candidate]"
)
@_reason
@_yes
@_add_options
def promote(registry: ModelRegistry, version: int | None, reason: str, yes: bool, as_json: bool) -> None:
    """Let a version serve; the one that serves now becomes the previous one."""
    _print_switch(registry, registry.promote(version, reason=reason, dry_run=not yes), yes, as_json)


@main.command()
@click.option(
    "--version",
    type=click.IntRange(0),
    metavar="N",
    help="The version that shall serve.  [default: the previous one]",
)
@_reason
@_yes
@_add_options
def rollback(registry: ModelRegistry, version: int | None, reason: str, yes: bool, as_json: bool) -> None:
    """Go back to an earlier version. A second rollback takes the first one back; a rerun of the pipeline does not."""
    _print_switch(registry, registry.roll_back(version, reason=reason, dry_run=not yes), yes, as_json)


def _print_switch(registry: ModelRegistry, switch: ServingSwitch, yes: bool, as_json: bool) -> None:
    before = _format_traffic(switch.traffic_before)
    if not switch.changed:
        text = f"nothing to do: version {switch.version} serves"
    elif yes:
        text = f"version {switch.version} of {registry.name} serves; before: {before}"
    else:
        text = (
            f"would {switch.action}: version {switch.version} of {registry.name} would serve, and now {before} "
            f"{'do' if len(switch.traffic_before) > 1 else 'does'}; add --yes to do it"
        )
    serving = registry.read_serving()
    changes = {"changed": switch.changed and yes, "serving": serving.champion, "traffic": serving.traffic}
    _print(as_json, {**asdict(switch), **changes}, text)


def _format_traffic(traffic: Mapping[int, int]) -> str:
    if len(traffic) == 1:
        return f"version {next(iter(traffic))}"
    return ", ".join(f"version {number} with {share} %" for number, share in traffic.items()) or "no version"


@main.command()
@click.option(
    "--keep-last",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Number of latest versions that are kept anyway.",
)
@_yes
@_add_options
def gc(registry: ModelRegistry, keep_last: int, yes: bool, as_json: bool) -> None:
    """Delete old versions. Champion, previous, candidate and deployed versions, and those of other tools, are kept."""
    collection = registry.gc(keep_last=keep_last, dry_run=not yes)
    numbers = ", ".join(map(str, collection.versions)) or "no version"
    more = "; add --yes to do it" if collection.versions else ""
    text = f"deleted {numbers}" if yes else f"would delete {numbers}{more}"
    document = {"action": "gc", "versions": list(collection.versions), "changed": yes and bool(collection.versions)}
    _print(as_json, document, text)


def _print(as_json: bool, values: Mapping[str, Any], text: str) -> None:
    click.echo(json.dumps(values, indent=2) if as_json else text)


if __name__ == "__main__":
    main()
