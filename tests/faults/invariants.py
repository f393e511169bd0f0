"""What must hold after every fault, whatever it was."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from oncall.__main__ import main
from tests.faults.processes import Place


def tree(folder: Path) -> dict[str, str]:
    """Return a hash of each file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@dataclass(frozen=True)
class Before:
    """A run root before a fault: the serving version, and every file of every artifact."""

    place: Place
    champion: int
    served: dict[str, str]
    artifacts: dict[str, str]

    @classmethod
    def of(cls, place: Place) -> "Before":
        champion = place.registry.champion()
        assert champion is not None
        return cls(place, champion, tree(place.registry.path(champion)), tree(place.root.artifacts))

    def check(self, *, gone: tuple[Path, ...] = ()) -> None:
        """Check that the serving version is unchanged, intact and blessed, and every earlier artifact unchanged.

        Args:
          gone: folders or files that the fault itself removed.
        """
        registry = self.place.registry
        assert registry.champion() == self.champion
        assert registry.fits(self.champion)
        assert tree(registry.path(self.champion)) == self.served
        self.check_artifacts(gone=gone)

    def check_artifacts(self, *, gone: tuple[Path, ...] = ()) -> None:
        """Nothing made earlier has changed."""
        artifacts = self.place.root.artifacts
        removed = [str(path.relative_to(artifacts)) for path in gone]
        expected = {
            name: found
            for name, found in self.artifacts.items()
            if not any(name == one or name.startswith(f"{one}/") for one in removed)
        }
        now = tree(artifacts)
        assert {name: now.get(name) for name in expected} == expected


def blessed(place: Place, version: int) -> bool:
    """Whether the model of a version was blessed by all that judge it, as ML Metadata has it."""
    (found,) = [one for one in place.oncall("serving")["versions"] if one["version"] == version]
    return bool(found["fits"]) and set(found["blessings"].values()) == {True}


def no_findings(place: Place) -> bool:
    """Whether the doctor finds nothing, but for what tests before have deleted from artifacts on purpose."""
    shown = CliRunner().invoke(main, ["doctor", "--run-root", str(place.folder), "--json"])
    return {one["kind"] for one in json.loads(shown.stdout)["findings"]} <= {"orphan"}


def explained(place: Place, *, state: str, node: str | None, cause: str, exit_code: int | None) -> Any:
    """Return what `why latest` says, in JSON and in plain text, is right."""
    found = place.oncall("why", "latest")
    assert (found["state"], found["node"], found["exit_code"]) == (state, node, exit_code), found
    assert cause in found["cause"], found
    assert found["run"] == place.record().run_id
    assert found["try"]
    return found
