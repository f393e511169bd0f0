"""Contents of the logs that a training writes for TensorBoard."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.config import Model
from trainer.run import fit

from .test_model import training, write_source

pytestmark = pytest.mark.integration


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return events


def read_values(events: EventAccumulator, tag: str) -> list[float]:
    return [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]


def test_train_and_eval_share_a_chart_beside_graph_histograms_and_hyper_parameters(tmp_path: Path) -> None:
    source = write_source(tmp_path / "rows.gz")
    network, history = fit(
        train=source,
        evaluation=source,
        model=Model(),
        training=training(),
        seed=1,
        log_folder=str(tmp_path / "logs"),
    )
    train, validation = read(tmp_path / "logs" / "train"), read(tmp_path / "logs" / "validation")
    assert read_values(train, "epoch_loss") == pytest.approx(history.metrics["loss"])
    assert read_values(validation, "epoch_loss") == pytest.approx(history.metrics["val_log_loss"], rel=1e-4)
    assert train.Graph().node
    weights = {f"{weight.path}/histogram": weight for layer in network.layers for weight in layer.weights}
    assert any("hidden_1" in tag for tag in weights)
    assert {*train.PluginTagToContent("histograms")} == {*weights}
    for tag, weight in weights.items():
        buckets = tf.make_ndarray(train.Tensors(tag)[-1].tensor_proto)
        assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx((np.min(weight), np.max(weight))), tag
        assert buckets[:, 2].sum() == np.size(weight), tag
    assert "_hparams_/session_start_info" in train.PluginTagToContent("hparams")
