"""What a model's versions are, which one serves, and how to change that.

python -m serving.registry list
python -m serving.registry rollback --reason "bad predictions since noon" --yes
"""

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.errors import ConfigError, PushError
from cli.terminal import refusals
from schemas.metrics import METRICS
from serving.registry.content import DECISION_FILE, NOT_CONTENT
from serving.registry.local import disk
from serving.registry.local.ledger import Ledger
from serving.registry.local.lookup import find_registry
from serving.registry.local.registry import LocalRegistry, Switch

EPILOG = """\b
Exit codes: 0 done, or nothing to do; 2 a flag is wrong; 5 refused, or the registry cannot be read or written;
130 interrupted. Without --yes nothing is changed: what would be done is printed."""

_SHOWN_EVENTS = 10
# A table has room for two.
_SHOWN_METRICS = 2
_SHORT_HASH = 12


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Return the options that all commands have; a refusal becomes one line and its exit code."""

    @functools.wraps(command)
    def run(registry: Path | None, model: str | None, as_json: bool, **options: Any) -> None:
        with refusals(as_json=as_json, interrupted="interrupted; run the command again to finish what was begun"):
            try:
                command(find_registry(registry, model), as_json=as_json, **options)
            except OSError as error:
                # Sizes are counted while others may delete, and what is there need not be readable.
                raise PushError(f"{error.filename}: {disk.reason(error)}") from error

    for option in reversed(
        [
            click.option(
                "--registry",
                envvar="REGISTRY",
                type=click.Path(path_type=Path),
                metavar="FOLDER",
                help="The registry.  [env: REGISTRY; default: the only runs/*/registry below the current folder]",
            ),
            click.option("--model", metavar="NAME", help="push.model_name.  [default: the only model there]"),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        ]
    ):
        run = option(run)
    return run


_yes = click.option("--yes", is_flag=True, help="Do it.")
_reason = click.option("--reason", default="", metavar="TEXT", help="Why; kept in the history.")


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """See and change which version of a model serves from a local registry."""


@main.command(name="list")
@_options
def list_versions(registry: LocalRegistry, as_json: bool) -> None:
    """Print the versions, their states, and their history."""
    ledger = registry.ledger()
    versions = [_described(registry, ledger, version) for version in registry.numbers()]
    if as_json:
        history = [event.to_dict() for event in ledger.history]
        values = {"model": str(registry.folder), "serving": ledger.champion, "versions": versions, "history": history}
        click.echo(json.dumps(values, indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title=escape(str(registry.folder)), title_justify="left")
    for heading in ("version", "state", "run", "content", "metrics", "pushed (UTC)", "size"):
        table.add_column(heading, justify="right" if heading in ("version", "size") else "left")
    for one in versions:
        table.add_row(*map(escape, _row(one)))
    console.print(table)
    for line in _history(ledger)[-_SHOWN_EVENTS:]:
        console.print(line, markup=False, highlight=False)


def _described(registry: LocalRegistry, ledger: Ledger, version: int) -> dict[str, Any]:
    release = registry.release(version)
    state = str(ledger.states.get(version, "cut off")) if release is not None else "of another tool"
    known = asdict(release) if release is not None else {}
    return {"version": version, "state": state, **known, "bytes": _size(registry.path(version))}


def _row(one: Mapping[str, Any]) -> list[str]:
    known = one.get("metrics", {})
    names = sorted(known, key=lambda name: name not in METRICS or METRICS[name].rank > _SHOWN_METRICS)
    metrics = [f"{name} {known[name]:.4f}" for name in names[:_SHOWN_METRICS]]
    return [
        str(one["version"]),
        one["state"],
        one.get("run_id", ""),
        one.get("content_hash", "")[:_SHORT_HASH],
        ", ".join(metrics),
        one.get("pushed_at", "").replace("T", " ").removesuffix("Z"),
        _megabytes(one["bytes"]),
    ]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _history(ledger: Ledger, version: int | None = None) -> list[str]:
    """Return the events, of one version or of all, in a line each."""
    lines = []
    for event in ledger.history:
        if version in (None, event.version):
            served = f"; version {event.champion_before} served" if event.champion_before is not None else ""
            why = f": {event.reason}" if event.reason else ""
            what = f"{event.action} {'to' if event.action == 'rollback' else 'of'} version {event.version}"
            lines.append(f"{event.at}  {what} by {event.by}{served}{why}")
    return lines


@main.command()
@click.argument("number", type=click.IntRange(0), required=False, metavar="[VERSION]")
@click.option("--version", type=click.IntRange(0), metavar="N", help="The same.  [default: the champion]")
@_options
def show(registry: LocalRegistry, number: int | None, version: int | None, as_json: bool) -> None:
    """Everything about one version, and whether its files are still those that were pushed."""
    if None not in (number, version) and number != version:
        raise ConfigError(f"--version: {version} is not {number}; name one version")
    ledger = registry.ledger()
    wanted = next((v for v in (number, version, ledger.champion) if v is not None), None)
    if wanted is None:
        raise PushError(f"{registry.folder}: no version serves; name one with --version")
    if wanted not in registry.numbers():
        registry.check_sound(wanted)
    folder = registry.path(wanted)
    known = {
        **_described(registry, ledger, wanted),
        "path": str(folder),
        "content_fits": registry.fits(wanted) if registry.release(wanted) is not None else None,
        "decision": _decision(folder),
        "beside": sorted(name for name in NOT_CONTENT if (folder / name).is_file()),
        "history": [event.to_dict() for event in ledger.history if event.version == wanted],
    }
    if as_json:
        click.echo(json.dumps(known, indent=2))
        return
    for line in (*_lines(known), *_history(ledger, wanted)):
        click.echo(line)


def _decision(folder: Path) -> dict[str, Any] | None:
    """Return the threshold of a binary label; None for a version without declared costs, or if it cannot be read."""
    # With it comes pydantic, which no other command needs.
    from schemas.decision import DecisionThreshold

    try:
        found = DecisionThreshold.model_validate_json((folder / DECISION_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return {**found.model_dump(), "text": str(found)}


def _lines(known: Mapping[str, Any]) -> list[str]:
    fits = {
        True: "fits the files",
        False: "DOES NOT FIT THE FILES: they were changed since the push, and are not to be served",
        None: "unknown: another tool wrote them",
    }
    lines = [
        ("version", f"{known['version']}, {known['state']}"),
        ("path", known["path"]),
        ("pipeline", known.get("pipeline", "")),
        ("run", known.get("run_id", "")),
        ("model", f"{known['model_id']} in ML Metadata" if "model_id" in known else ""),
        ("pushed", known.get("pushed_at", "")),
        ("content", f"{known.get('content_hash', '')} {fits[known['content_fits']]}".strip()),
        ("size", _megabytes(known["bytes"])),
        ("decision", (known["decision"] or {}).get("text", "")),
        ("beside", ", ".join(known["beside"])),
        *(("metric", f"{name} {value:.4f}") for name, value in known.get("metrics", {}).items()),
    ]
    return [f"{label:<9} {text}" for label, text in lines if text]


@main.command()
@click.option("--version", type=click.IntRange(0), metavar="N", help="That shall serve.  [default: the candidate]")
@_reason
@_yes
@_options
def promote(registry: LocalRegistry, version: int | None, reason: str, yes: bool, as_json: bool) -> None:
    """Let a version serve; the one that serves now becomes the previous one."""
    _say_switch(registry, registry.promote(version, reason=reason, dry_run=not yes), yes, as_json)


@main.command()
@click.option("--version", type=click.IntRange(0), metavar="N", help="That shall serve.  [default: the previous one]")
@_reason
@_yes
@_options
def rollback(registry: LocalRegistry, version: int | None, reason: str, yes: bool, as_json: bool) -> None:
    """Go back to an earlier version. A second rollback takes the first one back; a rerun of the pipeline does not."""
    _say_switch(registry, registry.rollback(version, reason=reason, dry_run=not yes), yes, as_json)


def _say_switch(registry: LocalRegistry, switch: Switch, yes: bool, as_json: bool) -> None:
    before = f"version {switch.champion_before}" if switch.champion_before is not None else "no version"
    if not switch.changed:
        text = f"nothing to do: version {switch.version} serves"
    elif yes:
        text = f"version {switch.version} of {registry.name} serves; before: {before}"
    else:
        text = (
            f"would {switch.action}: version {switch.version} of {registry.name} would serve, and now {before} does; "
            "add --yes to do it"
        )
    _say(as_json, {**asdict(switch), "changed": switch.changed and yes, "serving": registry.champion()}, text)


@main.command()
@click.option("--keep-last", type=click.IntRange(1), default=5, show_default=True, help="So many are kept anyway.")
@_yes
@_options
def gc(registry: LocalRegistry, keep_last: int, yes: bool, as_json: bool) -> None:
    """Delete old versions. Kept are champion, previous and candidate, and the last; and what other tools wrote."""
    numbers = registry.gc(keep_last=keep_last, dry_run=not yes)
    named = ", ".join(map(str, numbers)) or "no version"
    said = f"deleted {named}" if yes else f"would delete {named}" + ("; add --yes to do it" if numbers else "")
    _say(as_json, {"action": "gc", "versions": numbers, "changed": yes and bool(numbers)}, said)


def _say(as_json: bool, values: Mapping[str, Any], text: str) -> None:
    click.echo(json.dumps(values, indent=2) if as_json else text)


if __name__ == "__main__":
    main()
