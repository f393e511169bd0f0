"""Contents of the logs that a training writes for TensorBoard."""

from pathlib import Path

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
    _, history = fit(
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
    assert any("hidden_1" in tag for tag in train.PluginTagToContent("histograms"))
    assert "_hparams_/session_start_info" in train.PluginTagToContent("hparams")
