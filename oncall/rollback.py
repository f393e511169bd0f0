"""`rollback`: makes an earlier version of a local registry serve again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cli.errors import ConfigError
from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult


def roll_back(
    store: LocalRunStore, folder: Path | None, model: str | None, version: int | None, reason: str, *, yes: bool
) -> CommandResult:
    """Make a version serve.

    Args:
      store: runs of the run root.
      folder: folder of the registry; None for the newest run's.
      model: name of the model; None for the newest run's.
      version: number of the version; None for the previous one.
      reason: reason for the registry's history.
      yes: whether the change is made rather than printed.

    Raises:
      ConfigError: there is no such version.
    """
    registry = store.find_registry(folder, model)
    versions = registry.list_numbers()
    if version is not None and version not in versions:
        numbers = ", ".join(map(str, versions)) or "none"
        raise ConfigError(f"--version: {registry.folder} has no version {version}; it has {numbers}")
    switch = registry.roll_back(version, reason=reason, dry_run=not yes)
    document: dict[str, Any] = {
        **asdict(switch),
        "changed": switch.changed and yes,
        "serving": registry.read_champion(),
    }
    before = f"version {switch.champion_before}" if switch.champion_before is not None else "no version"
    if not switch.changed:
        line = f"nothing to do: version {switch.version} serves"
    elif yes:
        line = f"version {switch.version} of {registry.name} serves; before: {before}"
    else:
        line = f"would roll back: version {switch.version} would serve, and now {before} does; add --yes to do it"
    return CommandResult(document, [line])
