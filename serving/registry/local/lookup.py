"""The choice of a model for a command whose flags leave it open."""

from pathlib import Path

from cli.errors import ConfigError
from cli.terminal import format_flags
from serving.registry.local.errors import RegistryFault, RegistryFileError, explain_unreadable
from serving.registry.local.reader import LEDGER_FILE
from serving.registry.local.registry import LocalRegistry

# Where runs put their registries: the folder `registry` below a run root, `runs/NAME` by default.
_USUAL_PLACES = "runs/*/registry"


def find_registry(folder: Path | None, model: str | None) -> LocalRegistry:
    """Return the model that is meant: named, or the only one there is.

    Args:
      folder: the registry; None for those that runs below the current folder have.
      model: the name; None for the only one.

    Raises:
      ConfigError: there is no registry, or several models could be meant.
      PushError: the registry has no such model.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--registry: {folder} is not a folder; expected the registry's, with a folder per model")
    if folder is not None and _is_model(folder.absolute().parent, folder.absolute().name):
        raise ConfigError(f"--registry: {folder} is a model's folder; expected the one above, and the name as --model")
    registries = sorted(Path().glob(_USUAL_PLACES)) if folder is None else [folder]
    models = [(registry, name) for registry in registries for name in list_model_names(registry)]
    matches = [(registry, name) for registry, name in models if model in (None, name)]
    if len(matches) == 1:
        return LocalRegistry(*matches[0])
    if matches:
        raise ConfigError("several models could be meant; choose one with " + " or ".join(map(_format_flags, matches)))
    if models or folder is not None:
        names = ", ".join(sorted({name for _, name in models})) or "no model"
        problem = f"no model {model}; there is {names}" if model else "holds no model"
        message = f"{' and '.join(map(str, registries))}: {problem}"
        raise RegistryFileError(message, registries[0], RegistryFault.UNREADABLE)
    raise ConfigError(f"{Path.cwd()}: {_USUAL_PLACES} holds no model; name the registry's folder with --registry")


def _format_flags(place: tuple[Path, str]) -> str:
    return format_flags(registry=place[0], model=place[1]).strip()


def list_model_names(registry: Path) -> list[str]:
    """Return the names of the models in a registry, also those that another tool put there.

    Raises:
      PushError: the folder cannot be read.
    """
    try:
        names = sorted(path.name for path in registry.iterdir() if path.is_dir())
    except OSError as error:
        raise explain_unreadable(registry, error) from error
    return [name for name in names if _is_model(registry, name)]


def _is_model(registry: Path, name: str) -> bool:
    return (registry / name / LEDGER_FILE).exists() or bool(LocalRegistry(registry, name).list_numbers())
