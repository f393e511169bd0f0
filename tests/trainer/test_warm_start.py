"""A network starts from the weights of an exported model, and from no others."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from cli.errors import PipelineError
from schemas.data import ReadOptions
from serving.model.served_model import ServedModel
from tests.serving.models import FEATURES, SCHEMA_HASH, Transform
from trainer.config import Model, Normalization
from trainer.model import build_model
from trainer.warm_start import WarmStart, name_weights

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("normalization", ["batch", "batch_renorm"])
def test_weights_are_taken_over_and_those_of_another_shape_refused(
    normalization: Normalization, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(1)
    trained = build_model(FEATURES, Model(hidden_units=(4,), normalization=normalization))
    exported = str(tmp_path / "model")
    ServedModel(trained, name_weights(trained), Transform(), FEATURES, SCHEMA_HASH, ReadOptions()).export(exported)
    start = WarmStart(exported, FEATURES, SimpleNamespace(transform_savedmodel_dir=str(tmp_path)))
    keras.utils.set_random_seed(2)
    network = build_model(FEATURES, Model(hidden_units=(4,), normalization=normalization))
    assert not np.array_equal(network.get_layer("hidden_1").kernel, trained.get_layer("hidden_1").kernel)
    start.restore(network)
    for mine, theirs in zip(network.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for other in (Model(hidden_units=(5,)), Model(hidden_units=(4, 4))):
        with pytest.raises(
            PipelineError, match=r"^warm start: the network has another shape than .*: .*; start from random weights"
        ):
            start.restore(build_model(FEATURES, other))
