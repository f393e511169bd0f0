"""The options of `web` and `report` that every page needs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PageOptions:
    """The values of --url, --registry, --model and --log."""

    url: str | None = None
    registry: Path | None = None
    model: str | None = None
    log: Path | None = None
