"""The page of one artifact: its files, its inputs and its users."""

from dataclasses import dataclass
from typing import Any

from oncall.lineage import LineageNode, read_lineage
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
    made_from: LineageNode
    used_by: LineageNode
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
    lineage = read_lineage(store, name, options.registry, options.model)
    top = lineage.made_from
    artifact = store.metadata.get_artifacts([top.artifact])[top.artifact]
    properties = {name: _cut(str(value)) for name, value in sorted(artifact.properties.items())}
    state = "deleted" if top.is_deleted else "its files are gone" if is_missing(top.uri) else "exists"
    return ArtifactPage(top.artifact, top.type, top.uri, state, top, lineage.used_by, properties)


def _cut(text: str) -> str:
    hidden = len(text) - _MAX_VALUE_CHARS
    return text if hidden <= 0 else f"{text[:_MAX_VALUE_CHARS]}... and {hidden:,} letters more"
