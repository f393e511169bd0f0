"""The settings of each kind of registry, and the factory that opens it. A kind of your own is one class more here."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from pydantic import Field, TypeAdapter

from schemas.declaration import Declaration
from schemas.user_code import UserCode
from serving.registry.own_target import OwnTarget
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


class OwnRegistrySettings(Declaration):
    """Settings of a registry of the user's own: a class with the methods of `ModelRegistry`."""

    target: Literal["own"] = "own"
    model_name: str
    code: str
    """The UserCode of the class, as JSON."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the class."""

    def open(self, report: Report = _report_nothing) -> ModelRegistry:
        """Return the registry.

        Raises:
          ConfigError: The class does not exist, or lacks methods of the protocol.
          PipelineError: Its constructor raises.
        """
        del report
        code = UserCode.from_json(self.code)
        registry_class = code.load()
        with code.report_errors(f"{code.name}(...)", registry_class):
            registry = registry_class(self.model_name, **self.config)
        return cast("ModelRegistry", OwnTarget(code, registry))


AnyRegistrySettings = LocalRegistrySettings | VertexRegistrySettings | OwnRegistrySettings
RegistrySettings = Annotated[AnyRegistrySettings, Field(discriminator="target")]
_ADAPTER: TypeAdapter[AnyRegistrySettings] = TypeAdapter(RegistrySettings)


def open_registry(settings: str, report: Report = _report_nothing) -> ModelRegistry:
    """Return the registry of settings that are JSON.

    Args:
      settings: Settings of one of the kinds, as JSON.
      report: Function that prints a line on progress.
    """
    return _ADAPTER.validate_json(settings).open(report)
