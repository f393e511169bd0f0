"""What the pusher refuses to push."""

from pathlib import Path

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from components.pusher import check_blessing
from schemas.errors import NotBlessedError


def artifacts(
    folder: Path, *, blessed: int = constants.BLESSED_VALUE, of: int = 7, file: bool = True
) -> tuple[standard_artifacts.Model, standard_artifacts.ModelBlessing]:
    """A model with id 7 and a blessing; `of` is the model that the blessing names."""
    model = standard_artifacts.Model()
    model.id = 7
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(folder)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, of)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, blessed)
    if file:
        (folder / constants.BLESSED_FILE_NAME).touch()
    return model, blessing


def test_a_blessed_model_passes(tmp_path: Path) -> None:
    check_blessing(*artifacts(tmp_path))


def test_a_model_that_missed_a_threshold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotBlessedError, match="missed a threshold"):
        check_blessing(*artifacts(tmp_path, blessed=constants.NOT_BLESSED_VALUE))


def test_another_models_blessing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotBlessedError, match="the blessing is not that of model 7"):
        check_blessing(*artifacts(tmp_path, of=6))


def test_a_blessing_without_properties_is_refused(tmp_path: Path) -> None:
    model, _ = artifacts(tmp_path)
    with pytest.raises(NotBlessedError):
        check_blessing(model, standard_artifacts.ModelBlessing())


def test_a_blessing_whose_file_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotBlessedError, match="holds no BLESSED file"):
        check_blessing(*artifacts(tmp_path, file=False))
