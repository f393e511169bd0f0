"""The page of one artifact: its files, its inputs and its users."""

from dataclasses import dataclass
from typing import Any

from oncall.lineage import trace_artifact
from oncall.local.artifact_folders import is_missing
from oncall.local.run_store import LocalRunStore
from oncall.web.options import PageOptions

_MAX_VALUE_CHARS = 2000


@dataclass(frozen=True)
class ArtifactPage:
    """One artifact; `made_from` and `used_by` are trees of the command `lineage`."""

    id: Any
    type: str
    uri: str
    state: str
    made_from: dict[str, Any]
    used_by: dict[str, Any]
    properties: dict[str, str]


def read_artifact_page(store: LocalRunStore, name: str, options: PageOptions) -> ArtifactPage:
    """Return an artifact's page.

    Args:
      store: runs of the run root.
      name: artifact's ID, or a version of the registry such as `v3`.
      options: options of the command.

    Raises:
      PipelineError: there is none, or the database cannot be read.
    """
    document = trace_artifact(store, name, options.registry, options.model).document
    id_, top = document["artifact"], document["made_from"]
    artifact = store.metadata.get_artifacts([id_])[id_]
    properties = {name: _cut(str(value)) for name, value in sorted(artifact.properties.items())}
    state = "deleted" if top["deleted"] else "its files are gone" if is_missing(top["uri"]) else "exists"
    return ArtifactPage(id_, top["type"], top["uri"], state, top, document["used_by"], properties)


def _cut(text: str) -> str:
    hidden = len(text) - _MAX_VALUE_CHARS
    return text if hidden <= 0 else f"{text[:_MAX_VALUE_CHARS]}... and {hidden:,} letters more"
