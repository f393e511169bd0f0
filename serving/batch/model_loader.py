"""The model of a batch prediction: finds it, reads what it declares, and loads it once in a process."""

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from pydantic import ValidationError

from cli.errors import PushError
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.registry import DECLARATION_FILE, READ_OPTIONS_FILE, LocalRegistry

if TYPE_CHECKING:
    from serving.model.predictor import Predictor

_loaded: dict[Path, "Predictor"] = {}
_fetched: dict[str, tempfile.TemporaryDirectory[str]] = {}
_lock = threading.Lock()


def version_folder(model: str) -> Path:
    """Return the folder of a version, on this machine.

    Args:
      model: such a folder; or the folder of a model's versions, of which the champion is taken, or, where nobody says
        which that is, the highest; or the gs:// URI of a version, which is copied once for each process.

    Raises:
      PushError: there is no model.
    """
    if model.startswith("gs://"):
        return _copied(model)
    folder = Path(model)
    if (folder / "saved_model.pb").is_file():
        return folder
    registry = LocalRegistry(folder.absolute().parent, folder.absolute().name)
    versions = registry.numbers()
    if not versions:
        raise PushError(f"{model}: is neither a SavedModel (no saved_model.pb) nor a folder of versions of one")
    return folder / str(registry.champion() or versions[-1])


def declared(folder: Path) -> FeatureSet:
    """Return the features that the model takes.

    Raises:
      PushError: the model does not say.
    """
    file = folder / DECLARATION_FILE
    try:
        return FeatureSet.model_validate_json(file.read_bytes())
    except OSError as error:
        raise PushError(f"{file}: is not there: no model of this pipeline; export one with it") from error
    except ValidationError as error:
        raise PushError(f"{file}: is damaged; push the model again") from error


def read_options(folder: Path) -> ReadOptions:
    """How the training data was read, or the usual where the model does not say.

    Raises:
      PushError: the file that says so is damaged.
    """
    file = folder / READ_OPTIONS_FILE
    try:
        return ReadOptions.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return ReadOptions()
    except ValidationError as error:
        raise PushError(f"{file}: is damaged; push the model again") from error


def here(model: str, folder: str) -> Path:
    """Return the version's folder on whatever machine this runs.

    Args:
      model: as `version_folder` takes it, for a machine that does not have the folder.
      folder: where the version was found when the job was started.
    """
    with _lock:
        return Path(folder) if Path(folder).is_dir() else version_folder(model)


def loaded(folder: Path, *, allow_unvalidated: bool) -> "Predictor":
    """Return the model, loaded and checked at the first call in a process, as the server does.

    Raises:
      PushError: it cannot be loaded; or it is not what was pushed, or answers otherwise than it should, and that is not
        allowed.
    """
    from serving.server.model_versions import load, number_of

    with _lock:
        if folder not in _loaded:
            served = load(number_of(folder), folder, allow_unvalidated=allow_unvalidated)
            _loaded[folder] = served.predictor
        return _loaded[folder]


def answers(predictor: "Predictor", columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what the model says, by output, for raw values by input, [batch] each.

    Raises:
      PushError: it fails.
    """
    import tensorflow as tf

    try:
        return predictor.predict_columns(columns)
    except (tf.errors.OpError, ValueError, KeyError) as error:
        raise PushError(f"the model failed: {(str(error) or repr(error)).splitlines()[0]}") from error


def _copied(uri: str) -> Path:
    if uri not in _fetched:
        from serving.registry.vertex import staging

        # Removed when the process ends.
        temporary = tempfile.TemporaryDirectory(prefix="model-")
        staging.fetch(uri, _named(temporary, uri))
        _fetched[uri] = temporary
    return _named(_fetched[uri], uri)


def _named(temporary: tempfile.TemporaryDirectory[str], uri: str) -> Path:
    """Return a folder with the name of the version."""
    return Path(temporary.name) / uri.rstrip("/").rpartition("/")[2]
