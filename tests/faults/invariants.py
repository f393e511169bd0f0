"""Invariants that hold after every fault."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from oncall.__main__ import main
from tests.faults.processes import Place


def hash_files(folder: Path) -> dict[str, str]:
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
        champion = place.registry.read_champion()
        assert champion is not None
        return cls(place, champion, hash_files(place.registry.find_folder(champion)), hash_files(place.root.artifacts))

    def check(self, *, gone: tuple[Path, ...] = ()) -> None:
        """Check that the serving version is unchanged, intact and blessed, and every earlier artifact unchanged.

        Args:
          gone: folders or files that the fault itself removed.
        """
        registry = self.place.registry
        assert registry.read_champion() == self.champion
        assert registry.is_intact(self.champion)
        assert hash_files(registry.find_folder(self.champion)) == self.served
        self.check_artifacts(gone=gone)

    def check_artifacts(self, *, gone: tuple[Path, ...] = ()) -> None:
        """Check that every earlier artifact is unchanged."""
        artifacts = self.place.root.artifacts
        removed = [str(path.relative_to(artifacts)) for path in gone]
        expected = {
            name: digest
            for name, digest in self.artifacts.items()
            if not any(name == folder or name.startswith(f"{folder}/") for folder in removed)
        }
        now = hash_files(artifacts)
        assert {name: now.get(name) for name in expected} == expected


def is_blessed(place: Place, version: int) -> bool:
    """Return whether all validators blessed the model of a version, as ML Metadata has it."""
    (served,) = [entry for entry in place.oncall("serving")["versions"] if entry["version"] == version]
    return bool(served["fits"]) and set(served["blessings"].values()) == {True}


def has_no_findings(place: Place) -> bool:
    """Return whether the doctor finds nothing."""
    result = CliRunner().invoke(main, ["doctor", "--run-root", str(place.folder), "--json"])
    return json.loads(result.stdout)["findings"] == []


def check_explanation(place: Place, *, state: str, node: str | None, cause: str, exit_code: int | None) -> Any:
    """Check the output of `why latest` in JSON, and return it."""
    explanation = place.oncall("why", "latest")
    assert (explanation["state"], explanation["node"], explanation["exit_code"]) == (state, node, exit_code), (
        explanation
    )
    assert cause in explanation["cause"], explanation
    assert explanation["run"] == place.record().run_id
    assert explanation["try"]
    return explanation
