"""Finds the model of a batch prediction, reads its declarations, and loads it once in a process."""

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray
from pydantic import ValidationError

from cli.errors import PushError
from schemas.data import ReadOptions
from schemas.features import FeatureSet
from serving.registry import DECLARATION_FILE, READ_OPTIONS_FILE, LocalRegistry

if TYPE_CHECKING:
    from serving.model.predictor import Predictor

_predictors: dict[Path, "Predictor"] = {}
_copies: dict[str, tempfile.TemporaryDirectory[str]] = {}
_lock = threading.Lock()


def find_version_folder(model: str) -> Path:
    """Return the folder of a version, on this machine.

    Args:
      model: Folder of a version, folder of a model's versions, or gs:// URI of a version. Of a model's versions, the
        champion is used, or without one the highest. A URI is copied once for each process.

    Raises:
      PushError: the folder holds no model.
    """
    if model.startswith("gs://"):
        return _copy(model)
    folder = Path(model)
    if (folder / "saved_model.pb").is_file():
        return folder
    registry = LocalRegistry(folder.absolute().parent, folder.absolute().name)
    versions = [number for number in registry.list_numbers() if registry.is_explained(number)]
    if not versions:
        raise PushError(f"{model}: is neither a SavedModel (no saved_model.pb) nor a folder of versions of one")
    return folder / str(registry.read_champion() or versions[-1])


def read_features(folder: Path) -> FeatureSet:
    """Return the features that the model takes.

    Raises:
      PushError: the declaration is missing or damaged.
    """
    file = folder / DECLARATION_FILE
    try:
        return FeatureSet.model_validate_json(file.read_bytes())
    except OSError as error:
        raise PushError(
            f"{file}: does not exist, so the model declares no features; batch inference takes models of this "
            "pipeline's own network: serve that of a run_fn, and send it requests"
        ) from error
    except ValidationError as error:
        raise PushError(f"{file}: is damaged; push the model again") from error


def read_options(folder: Path) -> ReadOptions:
    """Return the options of reading the training data; the defaults if the model does not declare them.

    Raises:
      PushError: the file is damaged.
    """
    file = folder / READ_OPTIONS_FILE
    try:
        return ReadOptions.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return ReadOptions()
    except ValidationError as error:
        raise PushError(f"{file}: is damaged; push the model again") from error


def find_local_folder(model: str, folder: str) -> Path:
    """Return the version's folder on the machine of this process.

    Args:
      model: argument of `find_version_folder`, for a machine without the folder.
      folder: folder of the version on the machine that started the job.
    """
    with _lock:
        return Path(folder) if Path(folder).is_dir() else find_version_folder(model)


def load_predictor(folder: Path, *, allow_unvalidated: bool) -> "Predictor":
    """Return the model, loaded and checked at the first call in a process, as the server does.

    Raises:
      PushError: it cannot be loaded; or its content or an answer differs from the push, and that is not allowed.
    """
    from serving.server.model_versions import load_version, read_number

    with _lock:
        if folder not in _predictors:
            served = load_version(read_number(folder), folder, allow_unvalidated=allow_unvalidated)
            # Batch prediction takes models with a declaration only.
            _predictors[folder] = cast("Predictor", served.predictor)
        return _predictors[folder]


def predict_columns(predictor: "Predictor", columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the outputs of the model for raw values by input, [batch] each.

    Raises:
      PushError: the model fails.
    """
    import tensorflow as tf

    try:
        return predictor.predict_columns(columns)
    except (tf.errors.OpError, ValueError, KeyError) as error:
        raise PushError(f"the model failed: {(str(error) or repr(error)).splitlines()[0]}") from error


def _copy(uri: str) -> Path:
    if uri not in _copies:
        from serving.registry.vertex import staging

        # Removed when the process ends.
        temporary = tempfile.TemporaryDirectory(prefix="model-")
        staging.fetch(uri, _find_copy(temporary, uri))
        _copies[uri] = temporary
    return _find_copy(_copies[uri], uri)


def _find_copy(temporary: tempfile.TemporaryDirectory[str], uri: str) -> Path:
    """Return the copy's folder, which has the name of the version."""
    return Path(temporary.name) / uri.rstrip("/").rpartition("/")[2]
