"""What a page says of one artifact: what it is, whether it is still there, what it is from, what became of it."""

from dataclasses import dataclass
from typing import Any

from oncall import lineage
from oncall.evidence import Evidence
from oncall.folders import is_gone
from oncall.metadata import properties
from oncall.web.start import Place

_MAX_LETTERS = 2000


@dataclass(frozen=True)
class ArtifactView:
    """One artifact; `made_from` and `used_by` are trees as `lineage` answers them."""

    id: Any
    type: str
    uri: str
    state: str
    made_from: dict[str, Any]
    used_by: dict[str, Any]
    properties: dict[str, str]


def view(evidence: Evidence, wanted: str, place: Place) -> ArtifactView:
    """Return an artifact's page.

    Args:
      evidence: evidence of the run root.
      wanted: an artifact's id, or `v3` for a version of the registry.
      place: place of the registry.

    Raises:
      PipelineError: there is none, or the database cannot be read.
    """
    found = lineage.lineage(evidence, wanted, place.registry, place.model).document
    id_, top = found["artifact"], found["made_from"]
    artifact = evidence.metadata.artifacts([id_])[id_]
    known = {name: _short(str(value)) for name, value in sorted(properties(artifact).items())}
    state = "deleted" if top["deleted"] else "its files are gone" if is_gone(top["uri"]) else "there"
    return ArtifactView(id_, top["type"], top["uri"], state, top, found["used_by"], known)


def _short(text: str) -> str:
    hidden = len(text) - _MAX_LETTERS
    return text if hidden <= 0 else f"{text[:_MAX_LETTERS]}... and {hidden:,} letters more"
