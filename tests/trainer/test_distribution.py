"""The same network on several devices and machines, all of them on this one."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cli.errors import ConfigError
from tests import forked
from tests.trainer.test_model import training, write_source
from trainer import distribution
from trainer.config import EarlyStopping, Model, Optimizer
from trainer.run import fit

pytestmark = pytest.mark.integration


def fit_and_save(kind: str, folder: Path) -> dict[str, Any]:
    """Fit to the rows of test_model; return the losses of the eval split, epoch by epoch, and where the model is."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write_source(folder / "rows.gz")
    settings = training(
        epochs=8,
        deep_optimizer=Optimizer(name="adam", learning_rate=0.01),
        distribution=kind,
        early_stopping=EarlyStopping(metric="log_loss", patience=3),
        ema_momentum=0.5,
    )
    model = Model(hidden_units=(8,), members=2)
    network, history = fit(train=source, evaluation=source, model=model, training=settings, seed=4, log_folder=None)
    written = distribution.choose_write_folder(str(folder / "model"))
    tf.saved_model.save(network, written)
    replicas = network.distribute_strategy.num_replicas_in_sync
    return {"metrics": history.metrics, "folder": written, "chief": distribution.is_chief(), "replicas": replicas}


def fit_alone(kind: str, folder: Path, environment: dict[str, str]) -> None:
    """Fit in a process of its own, whose TensorFlow has not started, and write the result to a file."""
    os.environ.clear()
    os.environ.update(environment)
    if kind == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        tf.distribute.MirroredStrategy = lambda: mirrored
    result = fit_and_save(kind, folder)
    (folder / "result.json").write_text(json.dumps(result))


def start(kind: str, folder: Path, cluster: dict[str, Any] | None = None) -> Any:
    environment = {**os.environ, **({} if cluster is None else {"TF_CONFIG": json.dumps(cluster)})}
    process = forked.context().Process(target=fit_alone, args=(kind, folder, environment))
    process.start()
    return process


def read_result(process: Any, folder: Path) -> dict[str, Any]:
    process.join(300)
    assert process.exitcode == 0
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return fit_and_save("none", tmp_path_factory.mktemp("alone"))


@pytest.mark.proof
def test_two_devices_learn_what_one_learns(alone: dict[str, Any], tmp_path: Path) -> None:
    both = read_result(start("mirrored", tmp_path), tmp_path)
    assert (alone["replicas"], both["replicas"]) == (1, 2)
    np.testing.assert_allclose(both["metrics"]["val_log_loss"], alone["metrics"]["val_log_loss"], rtol=1e-3)
    np.testing.assert_allclose(both["metrics"]["val_auc"], alone["metrics"]["val_auc"], rtol=1e-3)


def test_two_machines_learn_what_one_learns_and_the_chief_alone_writes_the_model(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    """On loopback, each a process of its own, told of the other by TF_CONFIG as Vertex does it."""
    chief_port, worker_port = free_ports(2)
    cluster = {"chief": [f"127.0.0.1:{chief_port}"], "worker": [f"127.0.0.1:{worker_port}"]}
    processes = {
        kind: start("multi_worker", tmp_path / kind, {"cluster": cluster, "task": {"type": kind, "index": 0}})
        for kind in cluster
    }
    chief, worker = (read_result(process, tmp_path / kind) for kind, process in processes.items())
    assert (chief["replicas"], worker["replicas"]) == (2, 2)
    assert (chief["chief"], worker["chief"]) == (True, False)
    assert chief["folder"] == str(tmp_path / "chief" / "model")
    assert not (tmp_path / "worker" / "model").exists()
    np.testing.assert_allclose(chief["metrics"]["val_log_loss"], alone["metrics"]["val_log_loss"], rtol=1e-2)
    np.testing.assert_allclose(chief["metrics"]["val_log_loss"], worker["metrics"]["val_log_loss"], rtol=1e-6)


def test_a_strategy_of_several_machines_needs_to_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="multi_worker needs several machines"):
        distribution.build_strategy(training(distribution="multi_worker"))
