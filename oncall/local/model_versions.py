"""The model versions in a registry of this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.errors import ConfigError, PipelineError, PushError
from cli.terminal import format_command, format_flags
from oncall.model_versions import ModelVersion, RollbackInForce
from pipeline.run.advice import suggest_oncall
from pipeline.run.records import RunRecord
from serving.registry import Ledger, LocalRegistry
from serving.registry.data_time import DataTime
from serving.registry.local import lookup


def find_registry(run_root: Path, newest: RunRecord | None, folder: Path | None, model: str | None) -> LocalRegistry:
    """Return the registry of a run's config.

    Args:
      run_root: folder of the runs; the registry is in it if neither `folder` nor the config names one.
      newest: record of the newest run.
      folder: folder of the registry; None for the config's.
      model: name of the model; None for the config's.

    Raises:
      ConfigError: the registry is ambiguous, there is no such model, or the models are on Vertex AI.
      PushError: the registry cannot be read, or has no model.
    """
    config = _get_push_config(newest)
    if folder is None and config.get("target") == "vertex":
        line = suggest_oncall("serving", here=_format_vertex_flags(newest))
        raise ConfigError(f"the newest run pushes to Vertex AI: {line} prints its version")
    registry = folder or locate_registry(run_root, newest)
    name = model or config.get("model_name")
    if (
        model is not None
        and name != config.get("model_name")
        and registry.is_dir()
        and model not in lookup.list_model_names(registry)
    ):
        names = ", ".join(lookup.list_model_names(registry)) or "none"
        raise ConfigError(f"--model {model}: {registry} has no such model; it has {names}")
    # Before the first push the default folder does not exist; any other may not be mounted.
    if name is None or not (registry.is_dir() or registry == _get_default_folder(run_root)):
        return lookup.find_registry(registry, model)
    return LocalRegistry(registry, str(name))


def locate_registry(run_root: Path, newest: RunRecord | None) -> Path:
    """Return the folder of the registry of a run's config, which need not exist."""
    return Path(str(_get_push_config(newest).get("registry") or _get_default_folder(run_root)))


def _get_default_folder(run_root: Path) -> Path:
    return run_root / "registry"


def _get_push_config(newest: RunRecord | None) -> dict[str, Any]:
    push = newest.config.get("push") if newest else None
    return push if isinstance(push, dict) else {}


def _format_vertex_flags(record: RunRecord | None) -> str:
    """Return the flags that name where on Vertex AI a run pushes to."""
    config = record.config if record else {}
    vertex, push = config.get("vertex") or {}, config.get("push") or {}
    return format_flags(project=vertex.get("project"), region=vertex.get("region"), model=push.get("model_name"))


class LostRegistryError(PushError):
    """The folder of a model that a run has pushed to is gone."""

    def __init__(self, folder: Path, run_id: str) -> None:
        super().__init__(f"{folder}: is gone, and run {run_id} pushed to it; is it mounted?")
        self.run_id = run_id


class LocalModelVersions:
    """The versions of one model in a registry's folder."""

    def __init__(self, registry: LocalRegistry, run_flags: str, registry_flags: str) -> None:
        """Keep the registry.

        Args:
          registry: registry of the model.
          run_flags: flags of proposed commands that name the run root.
          registry_flags: flags of proposed commands that name the run root and the registry.
        """
        self.name, self.location = registry.name, str(registry.folder)
        self._registry, self._run_flags, self._registry_flags = registry, run_flags, registry_flags

    @property
    def rollback_command(self) -> str:
        """Command that makes the previous version serve; if none is intact, that pushes the champion again."""
        previous, champion = self._registry.read_labels().get("previous"), self.champion
        is_intact = previous is not None and self._is_servable(previous)
        pusher = self._registry.find_run_id(champion) if champion is not None and not is_intact else ""
        if not pusher:
            return suggest_oncall("rollback", "--reason", "...", here=self._registry_flags, note="add --yes to do it")
        return suggest_oncall("resume", pusher, here=self._run_flags, note="pushes its model again, as a new version")

    def _is_servable(self, version: int) -> bool:
        try:
            return self._registry.find_folder(version).is_dir() and self._registry.is_intact(version)
        except PipelineError:
            return False

    @property
    def traffic_command(self) -> str:
        """Command that makes another version serve; here they share no requests."""
        return self.rollback_command

    @property
    def quarantine_command(self) -> str:
        """Command that moves versions aside that no push explains."""
        return suggest_oncall("quarantine", here=self._registry_flags, note="moves it aside; add --yes to do it")

    @property
    def rollback(self) -> RollbackInForce | None:
        """The rollback that is in force; None if there is none."""
        event = self._registry.read_ledger().rollback
        if event is None:
            return None
        return RollbackInForce(event.version, event.champion_before, event.by, event.at, event.reason)

    def list_unexplained(self) -> dict[int, str]:
        """Return the versions that no push on record put in their place, each with where it seems to come from."""
        registry = self._registry
        unexplained = {}
        for number in registry.list_numbers():
            try:
                if not registry.is_explained(number):
                    unexplained[number] = registry.describe_unexplained(number)
            except PipelineError:
                # Its release file is damaged, which `list_versions` reports.
                continue
        return unexplained

    def find_conflict(self) -> tuple[str, str] | None:
        """Return how the registry's own files differ, and the command that writes them again; None if they agree."""
        registry = self._registry
        conflict = registry.find_conflict()
        if conflict is None:
            return None
        message, version = conflict
        place = format_flags(registry=registry.folder.parent, model=self.name, version=version)
        promote = format_command("python", "-m", "serving.registry", "promote") + place
        return message, f"{promote}    # writes the registry's files again; add --yes to do it"

    def get_content_hash(self, version: int) -> str:
        """Return the hash of the files that were pushed as a version; empty if it is not known."""
        push = self._registry.read_ledger().find_push(version)
        release = self._registry.read_release(version) if push is None or not push.content_hash else None
        return push.content_hash if push is not None and push.content_hash else release.content_hash if release else ""

    @property
    def champion(self) -> int | None:
        """Number of the version that should serve."""
        return self._registry.read_champion()

    def list_versions(self) -> list[ModelVersion]:
        """Return the versions, the oldest first; the state of a damaged one is the reason."""
        ledger = self._registry.read_ledger()
        return [self._read_version(number, ledger) for number in self._registry.list_numbers()]

    def _read_version(self, number: int, ledger: Ledger) -> ModelVersion:
        try:
            release = self._registry.read_release(number)
            state = self._registry.describe_state(number, ledger)
        except PipelineError as error:
            return ModelVersion(number, f"damaged: {error}", self._find_pusher(number, ledger))
        if release is None:
            return ModelVersion(number, state, self._find_pusher(number, ledger))
        return ModelVersion(number, state, release.run_id, release.model_id)

    @staticmethod
    def _find_pusher(number: int, ledger: Ledger) -> str:
        push = ledger.find_push(number)
        return push.run_id if push is not None else ""

    def is_intact(self, version: int) -> bool | None:
        """Check that a version's files are those that were pushed; None if that is not known."""
        return self._registry.is_intact(version)

    def list_changed_files(self, version: int) -> list[str]:
        """Return the files that are not as they were pushed, each with its difference."""
        return self._registry.list_differing_files(version)

    def read_metrics(self, version: ModelVersion) -> Mapping[str, float]:
        """Return the metrics of the version's evaluation, by name."""
        release = self._registry.read_release(version.number)
        return release.metrics if release else {}

    def read_data_time(self, version: int) -> DataTime | None:
        """Return the newest time of the rows that a version was trained on; None if its release does not have it."""
        release = self._registry.read_release(version)
        return DataTime.parse(release.data) if release else None
