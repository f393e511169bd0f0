"""The settings of each kind of registry, and the factory that opens it. A kind of your own is one class more here."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.declaration import Declaration
from serving.registry.protocol import ModelRegistry
from serving.registry.vertex.config import Deployment, VertexProject

Report = Callable[[str], None]


def _report_nothing(line: str) -> None:
    del line


class LocalRegistrySettings(Declaration):
    """Settings of a registry in a folder."""

    target: Literal["registry"] = "registry"
    model_name: str
    folder: str
    """The registry's folder, with a folder per model."""
    promote: bool = True
    """Whether a pushed version serves at once."""

    def open(self, report: Report = _report_nothing) -> ModelRegistry:
        """Return the registry."""
        from serving.registry.local.registry import LocalRegistry

        del report
        return LocalRegistry(self.folder, self.model_name, promotes=self.promote)


class VertexRegistrySettings(Declaration):
    """Settings of Vertex AI's Model Registry and an endpoint."""

    target: Literal["vertex"] = "vertex"
    model_name: str
    place: VertexProject
    deployment: Deployment

    def open(self, report: Report = _report_nothing) -> ModelRegistry:
        """Return the registry."""
        # A second of imports, which only Vertex AI needs.
        from serving.registry.vertex.connection import VertexClient
        from serving.registry.vertex.registry import VertexRegistry

        return VertexRegistry(VertexClient(self.place, report=report), self.deployment, self.model_name)


RegistrySettings = Annotated[LocalRegistrySettings | VertexRegistrySettings, Field(discriminator="target")]
_ADAPTER: TypeAdapter[LocalRegistrySettings | VertexRegistrySettings] = TypeAdapter(RegistrySettings)


def open_registry(settings: str, report: Report = _report_nothing) -> ModelRegistry:
    """Return the registry of settings that are JSON.

    Args:
      settings: Settings of one of the kinds, as JSON.
      report: Function that prints a line on progress.
    """
    return _ADAPTER.validate_json(settings).open(report)
