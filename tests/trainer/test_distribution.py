"""The same network on several devices and machines, all of them on this one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.errors import ConfigError
from tests.conftest import ROOT
from tests.trainer.test_model import training
from trainer import distribution

pytestmark = pytest.mark.integration

# A process that fits to the rows of test_model and prints the losses of the eval split, epoch by epoch.
WORKER = """
import json, sys
from pathlib import Path
import tensorflow as tf
kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    tf.distribute.MirroredStrategy = lambda: mirrored
from tests.trainer.test_model import training, write_source
from trainer.config import EarlyStopping, Model, Optimizer
from trainer.run import fit
source = write_source(folder / "rows.gz")
settings = training(
    epochs=12, deep_optimizer=Optimizer(name="adam", learning_rate=0.01), distribution=kind,
    early_stopping=EarlyStopping(metric="log_loss", patience=3), ema_momentum=0.5,
)
network, history = fit(
    train=source, evaluation=source, model=Model(hidden_units=(8,), members=2), training=settings, seed=4,
    log_folder=None,
)
from trainer import distribution
folder = distribution.choose_write_folder(str(folder / "model"))
tf.saved_model.save(network, folder)
replicas = network.distribute_strategy.num_replicas_in_sync
print(json.dumps({"metrics": history.metrics, "folder": folder, "chief": distribution.is_chief(), "replicas": replicas}))
"""


def start(kind: str, folder: Path, cluster: dict[str, Any] | None = None) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if cluster is not None:
        environment["TF_CONFIG"] = json.dumps(cluster)
    command = [sys.executable, "-c", WORKER, kind, str(folder)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
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
    return result(start("none", tmp_path_factory.mktemp("alone")))


def test_two_devices_learn_what_one_learns(alone: dict[str, Any], tmp_path: Path) -> None:
    both = result(start("mirrored", tmp_path))
    assert (alone["replicas"], both["replicas"]) == (1, 2)
    np.testing.assert_allclose(both["metrics"]["val_log_loss"], alone["metrics"]["val_log_loss"], rtol=1e-3)
    np.testing.assert_allclose(both["metrics"]["val_auc"], alone["metrics"]["val_auc"], rtol=1e-3)


def test_two_machines_learn_what_one_learns_and_the_chief_alone_writes_the_model(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    """On loopback, each a process of its own, told of the other by TF_CONFIG as Vertex does it."""
    chief_port, worker_port = free_ports(2)
    cluster = {"chief": [f"127.0.0.1:{chief_port}"], "worker": [f"127.0.0.1:{worker_port}"]}
    processes = [
        start("multi_worker", tmp_path / kind, {"cluster": cluster, "task": {"type": kind, "index": 0}})
        for kind in cluster
    ]
    chief, worker = map(result, processes)
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
