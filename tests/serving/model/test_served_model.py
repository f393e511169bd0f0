"""The exported model: each signature once, one graph behind both prediction signatures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.data import ReadOptions
from schemas.decision import DecisionThreshold
from serving.registry import DECISION_FILE, compute_content_hash
from tests.serving.models import FEATURES, ROW, SCHEMA_HASH, Transform, decided_at, export_model


def test_the_network_is_traced_once_and_saved_once_for_all_signatures(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    from serving.model.served_model import ServedModel

    traced = []

    def network(inputs: dict[str, Any], training: bool) -> Any:
        traced.append(training)
        return tf.math.atanh(tf.reduce_sum(inputs["numbers"], axis=1, keepdims=True))

    ServedModel(network, {}, Transform(), FEATURES, SCHEMA_HASH, ReadOptions()).export(str(tmp_path))
    assert traced == [False]
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    nodes = [node.op for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def]
    assert nodes.count("Atanh") == 1
    assert nodes.count("ParseExampleV2") == 2


@pytest.mark.integration
def test_the_same_probability_has_the_label_of_the_models_own_threshold(tmp_path: Path) -> None:
    from serving.model.predictor import Predictor

    offset = -sum([2.5, 2, 1.0])
    (answer,) = Predictor(export_model(tmp_path / "plain", offset)).predict([ROW])
    probability = answer["probability"]
    assert 0.5 < probability < 0.999
    assert answer["predicted_label"] == "yes"
    above = float(np.nextafter(np.float32(probability), np.float32(1)))
    # Only a probability above the threshold is positive.
    for threshold, label in ((probability, "no"), (above, "no"), (0.2, "yes")):
        rows = Predictor(export_model(tmp_path / f"{threshold}", offset, decided_at(threshold))).predict([ROW])
        assert rows == [{**answer, "predicted_label": label}]


@pytest.mark.integration
def test_the_file_of_a_threshold_is_content_and_the_graph_has_the_same(tmp_path: Path) -> None:
    from serving.model.predictor import Predictor

    decision = decided_at(0.3)
    folders = [export_model(tmp_path / name, 0.0, decided_at(value)) for name, value in (("a", 0.3), ("b", 0.4))]
    assert json.loads((folders[0] / DECISION_FILE).read_text()) == {
        "threshold": 0.30000001192092896,
        "costs": {"cost_false_positive": 1.0, "cost_false_negative": 5.0},
        "chosen_by": "eval",
        "rows": 3269,
        "mean_cost": 0.25,
        "mean_cost_at_default": 0.375,
    }
    assert Predictor(folders[0]).decision == decision
    before = compute_content_hash(folders[0])
    (folders[0] / DECISION_FILE).write_bytes((folders[1] / DECISION_FILE).read_bytes())
    assert compute_content_hash(folders[0]) != before


def test_without_costs_a_model_has_no_file_and_the_graph_that_it_had(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    from serving.model.predictor import Predictor

    folder = export_model(tmp_path / "plain")
    assert not (folder / DECISION_FILE).exists()
    assert Predictor(folder).decision is None
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    nodes = [node for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def]
    (greater,) = [node for node in nodes if node.op == "Greater"]
    threshold = next(node for node in nodes if node.name == greater.input[1].split(":")[0])
    assert threshold.attr["value"].tensor.float_val[:] == [0.5]
    assert str(DecisionThreshold()) == "threshold 0.5"


@pytest.mark.integration
def test_a_damaged_file_of_a_threshold_is_named(tmp_path: Path) -> None:
    from serving.model.predictor import Predictor
    from serving.model.session_model import ModelError

    folder = export_model(tmp_path / "model", 0.0, decided_at(0.3))
    (folder / DECISION_FILE).write_text('{"threshold": 2}')
    with pytest.raises(ModelError) as error:
        Predictor(folder)
    assert str(error.value) == f"{folder / DECISION_FILE}: is damaged; push the model again"
