"""Models to push, and what the tests of the registry share."""

import multiprocessing
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.registry import TF_SERVING_FILE, Candidate, LocalRegistry, PushedVersion, State

# Children start at once, and have what the parent has: nothing is imported again.
PROCESSES = multiprocessing.get_context("fork")
CANDIDATE, CHAMPION, PREVIOUS, RETIRED = (
    State.CANDIDATE,
    State.CHAMPION,
    State.PREVIOUS,
    State.RETIRED,
)


def model(folder: Path, content: str = "weights", files: int = 1) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    for number in range(files):
        (folder / "variables" / f"data-{number}").write_text(content * 100)
    return folder


def push(
    registry: Path,
    source: Path,
    *,
    pipeline: str = "census",
    run_id: str = "run-1",
    version: int | None = None,
    metrics: Mapping[str, float | None] | None = None,
    golden: bytes = b"",
    promote: bool = True,
    origin: str = "",
) -> PushedVersion:
    of_all = {"overall": metrics or {}}
    candidate = Candidate(
        pipeline, version, run_id, model_id=7, folder=source, metrics=of_all, golden=golden, origin=origin
    )
    return LocalRegistry(registry, "income", promotes=promote).push(candidate)


def models(folder: Path, files: int = 1) -> Path:
    """Make seven models, named a to g; return the folder they are in."""
    for name in "abcdefg":
        model(folder / name, name, files)
    return folder


class Push:
    """A push of the model in a folder beside the registry."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.options = options

    def __call__(self, registry: LocalRegistry) -> Any:
        folder = registry.folder.parent
        return push(folder, folder.parent / self.name, **self.options)


def look(registry: LocalRegistry) -> int | None:
    """Check what a reader may rely on at any moment; return the serving version."""
    champion = registry.read_champion()
    for version in registry.read_labels().values():
        assert registry.is_intact(version), version
    if (registry.folder / TF_SERVING_FILE).exists():
        text = (registry.folder / TF_SERVING_FILE).read_text()
        assert text.endswith("}\n")
        for version in re.findall(r"versions: (\d+)", text):
            assert registry.is_intact(int(version)), version
    return champion
