"""What a model's versions and endpoint are, and how to change them.

python -m serving.registry.vertex list --project my-project --region europe-west4 --model census-income
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from cli.errors import ConfigError, PushError
from cli.terminal import refusals
from serving.registry.vertex import lease
from serving.registry.vertex.config import Deployment, Place
from serving.registry.vertex.connection import Vertex
from serving.registry.vertex.plan import owned_endpoint
from serving.registry.vertex.rollout import Pushed, Releaser, check_switch, garbage
from serving.registry.vertex.state import (
    CANDIDATE,
    CHAMPION,
    OWNER_LABEL,
    PREVIOUS,
    Endpoint,
    Model,
    Version,
    read_model,
)

EPILOG = """\b
Exit codes: 0 done, or nothing to do; 2 a flag is wrong; 5 refused, or Vertex AI failed; 130 interrupted.
Without --yes nothing is changed: what would be done is printed."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the options that all commands have; a refusal becomes one line and its exit code."""

    @functools.wraps(command)
    def run(
        project: str,
        region: str,
        model: str,
        endpoint: str | None,
        staging: str,
        api_endpoint: str | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        with refusals(as_json=as_json, interrupted="interrupted; run the command again to finish what was begun"):
            target = _Target(project, region, model, endpoint, staging, api_endpoint, as_json)
            command(target, **options)

    for option in reversed(
        [
            click.option("--project", envvar="VERTEX_PROJECT", required=True, help="The Google Cloud project."),
            click.option("--region", envvar="VERTEX_REGION", required=True, help="Such as europe-west4."),
            click.option("--model", envvar="VERTEX_MODEL", required=True, help="The model's name: push.model_name."),
            click.option("--endpoint", help="The endpoint's name.  [default: the model's]"),
            click.option(
                "--staging", default="", help="vertex.pipeline_root: gc deletes the folders of versions there."
            ),
            click.option(
                "--api-endpoint", envvar="VERTEX_API_ENDPOINT", help="HOST:PORT of another API, an emulator's."
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        ]
    ):
        run = option(run)
    return run


class _Target:
    """The model and the endpoint that a command is about."""

    def __init__(
        self,
        project: str,
        region: str,
        model: str,
        endpoint: str | None,
        staging: str,
        api_endpoint: str | None,
        as_json: bool,
    ) -> None:
        try:
            place = Place(project=project, region=region, staging=staging, api_endpoint=api_endpoint)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            flag, rule = str(problem["loc"][0]).replace("_", "-"), problem["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--{flag}: {rule}, found {problem['input']!r}") from error
        self.as_json = as_json
        self.name = model
        self.vertex = Vertex(place, report=lambda line: click.echo(line, err=True))
        self.model: Model = read_model(self.vertex, model)
        if not self.model.versions:
            raise PushError(f"{self.model.resource}: there is no such model; check --project, --region and --model")
        owners = [version.labels[OWNER_LABEL] for version in self.model.versions if OWNER_LABEL in version.labels]
        self.endpoint: Endpoint = owned_endpoint(
            self.vertex, endpoint or model, self.model.resource, owners[0] if owners else ""
        )

    def releaser(self) -> Releaser:
        """With the machines of what is deployed now, for a version that has to be deployed again."""
        deployed = [d.resources for d in self.endpoint.deployed if d.resources.machine_spec.machine_type]
        found = deployed[-1] if deployed else None
        machines: dict[str, Any] = (
            {
                "machine_type": found.machine_spec.machine_type,
                "min_replicas": found.min_replica_count,
                "max_replicas": found.max_replica_count or found.min_replica_count,
            }
            if found
            else {}
        )
        if found and found.machine_spec.accelerator_count:
            machines["accelerator"] = found.machine_spec.accelerator_type.name
            machines["accelerator_count"] = found.machine_spec.accelerator_count
        # A version brings its own image; the one here is not used.
        deployment = Deployment(serving_image="registered", serving_tensorflow="999.0", **machines)
        return Releaser(self.vertex, deployment, self.name)

    def described(self, version: Version) -> dict[str, Any]:
        return {
            "version": version.number,
            "version_id": version.id,
            "aliases": sorted(version.aliases),
            "traffic_percent": self.endpoint.share_of(version.id),
            "deployed": any(d.version_id == version.id for d in self.endpoint.deployed),
            "run_id": version.labels.get("run-id"),
            "content_hash": version.labels.get("content-hash"),
            "blessed": version.labels.get("blessed") == "true",
            "push_state": version.labels.get("push-state"),
            "created": time.strftime("%Y-%m-%d %H:%M", time.gmtime(version.created)),
        }


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """See and change which version of a model serves on Vertex AI."""


@main.command(name="list")
@_options
def list_versions(target: _Target) -> None:
    """Print the versions, their traffic, and their history."""
    versions = [target.described(version) for version in target.model.versions]
    done = lease.history(target.vertex, target.name)
    if target.as_json:
        click.echo(json.dumps({"model": target.model.resource, "versions": versions, "history": done}, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 130)
    table = Table(title=target.model.resource, title_justify="left")
    for heading in ("version", "aliases", "traffic", "deployed", "run", "content", "push", "created (UTC)"):
        table.add_column(heading)
    for one in versions:
        table.add_row(
            str(one["version"]),
            ", ".join(one["aliases"]),
            f"{one['traffic_percent']} %",
            "yes" if one["deployed"] else "",
            one["run_id"],
            (one["content_hash"] or "")[:12],
            one["push_state"],
            one["created"],
        )
    console.print(table)
    for entry in done[-10:]:
        console.print(f"{entry['at']}  {entry['action']} of version {entry.get('version', '?'):g} by {entry['by']}")


@main.command()
@click.option("--version", type=int, help="The version that shall serve.  [default: the one with the alias previous]")
@click.option("--yes", is_flag=True, help="Do it.")
@_options
def rollback(target: _Target, version: int | None, yes: bool) -> None:
    """Give all traffic back to an earlier version."""
    chosen = _chosen(target, version, PREVIOUS, "there is no earlier version that served; name one with --version")
    _switch(target, chosen, "rollback", yes)


@main.command()
@click.option("--version", type=int, help="The version that shall serve.  [default: the one with the alias candidate]")
@click.option("--yes", is_flag=True, help="Do it.")
@_options
def promote(target: _Target, version: int | None, yes: bool) -> None:
    """Give all traffic to a version, a canary above all."""
    chosen = _chosen(target, version, CANDIDATE, "no version waits for its promotion; name one with --version")
    _switch(target, chosen, "promote", yes)


def _chosen(target: _Target, number: int | None, alias: str, without: str) -> Version:
    if number is None:
        found = target.model.with_alias(alias)
        if found is None:
            raise PushError(f"{target.name}: {without}")
        return found
    found = target.model.numbered(number)
    if found is None:
        known = ", ".join(str(version.number) for version in target.model.versions)
        raise PushError(f"{target.name}: has no version {number}; it has {known}")
    return found


def _switch(target: _Target, chosen: Version, action: str, yes: bool) -> None:
    check_switch(chosen)
    champion = target.model.with_alias(CHAMPION)
    serving = {
        v.number: target.endpoint.share_of(v.id) for v in target.model.versions if target.endpoint.share_of(v.id)
    }
    plan = {"action": action, "version": chosen.number, "champion": champion.number if champion else None}
    if serving == {chosen.number: 100} and champion is not None and champion.id == chosen.id:
        _say(target, {**plan, "changed": False, "serving": serving}, f"nothing to do: version {chosen.number} serves")
        return
    if not yes:
        shares = ", ".join(f"version {number} with {share} %" for number, share in serving.items()) or "nothing"
        text = (
            f"would {action}: version {chosen.number} gets all traffic of {target.endpoint.resource}, which now serves "
        )
        _say(target, {**plan, "changed": False, "serving": serving}, f"{text}{shares}; add --yes to do it")
        return
    done: Pushed = target.releaser().switch(chosen, endpoint=target.endpoint.resource, action=action)
    share = done.serving.get(done.version, 0)
    text = f"version {done.version} serves with {share} %; traffic before: {done.traffic_before}"
    _say(target, {**plan, "changed": True, "serving": dict(done.serving)}, text)


@main.command()
@click.option("--keep-last", type=click.IntRange(1), default=5, show_default=True, help="So many are kept anyway.")
@click.option("--yes", is_flag=True, help="Do it.")
@_options
def gc(target: _Target, keep_last: int, yes: bool) -> None:
    """Delete old versions. Kept are those that are deployed or have an alias, and the last, the next run's baseline."""
    doomed = garbage(target.model, keep_last)
    numbers = [version.number for version in doomed]
    if yes:
        releaser = target.releaser()
        for version in doomed:
            releaser.delete(version)
    named = ", ".join(map(str, numbers)) or "no version"
    said = f"deleted {named}" if yes else f"would delete {named}" + ("; add --yes to do it" if numbers else "")
    _say(target, {"action": "gc", "versions": numbers, "changed": yes and bool(numbers)}, said)


def _say(target: _Target, values: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(values, indent=2) if target.as_json else text)


if __name__ == "__main__":
    main()
