"""Programs that start fast import few modules: sets of modules, which are the same on any machine, in place of seconds."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.forked import LOADED

_NUMBERS = ("numpy", "pandas", "pyarrow", "tensorflow", "apache_beam", "tfx", "keras", "pydantic", "rich")
# A second or two each, and needed by few.
_CLOUD = ("google.cloud.aiplatform", "google.cloud.aiplatform_v1", "vertexai", "tfx.v1")
_TRAINING = ("keras", "tf_keras", "tensorflow_transform", "apache_beam", "tfx", "sklearn", "IPython", "pandas")
_PROGRAMS = {
    "local_runner.py --help": ("import local_runner; local_runner.main(['--help'], standalone_mode=False)", _NUMBERS),
    "building, compiling and running a DAG": (
        "from pathlib import Path\n"
        "from pipeline.create_pipeline import create_pipeline\n"
        "from pipeline.config.pipeline_config import load\n"
        "from pipeline.run import dag_runner\n"
        "from pipeline.vertex import compiler\n"
        "config = load(Path('configs/census.yaml'), ())\n"
        "create_pipeline(config, pipeline_root='', registry=config.build_registry_settings(Path('registry')), run_id='1')",
        _CLOUD,
    ),
    "the model server": ("import serving.server.worker", (*_TRAINING, "opentelemetry.sdk", "opentelemetry.exporter")),
}


@pytest.mark.integration
@pytest.mark.parametrize("what", _PROGRAMS)
def test_nothing_heavy_is_imported_without_need_by(what: str) -> None:
    program, forbidden = _PROGRAMS[what]
    program += f"\nimport sys; print('IMPORTED', [m for m in {forbidden} if m in sys.modules])"
    assert _last_line(program, legacy_keras=True) == "IMPORTED []"


@pytest.mark.parametrize("module", LOADED)
def test_what_the_fork_server_loads_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.integration
def test_keras_can_be_imported_after_a_server_did_without_it() -> None:
    program = (
        "import serving.model.tensorflow_without_keras, tensorflow as tf\n"
        "from tensorflow.keras import layers\n"
        "import keras\n"
        "print(keras.layers.Dense is layers.Dense is tf.keras.layers.Dense)"
    )
    assert _last_line(program, legacy_keras=False) == "True"


def _last_line(program: str, *, legacy_keras: bool) -> str:
    # As tensorflow_transform leaves it to the processes that are started: InfraValidator's server is one.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    if legacy_keras:
        environment["TF_USE_LEGACY_KERAS"] = "1"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.integration
def test_a_run_gives_the_memory_of_its_files_back() -> None:
    """The pool is chosen before Arrow is loaded, and a user's own choice stays."""
    program = (
        "import local_runner\n"
        "try: local_runner.main(['--config', 'missing.yaml', '--dry-run'])\n"
        "except SystemExit: pass\n"
        "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    )
    for choice, backend in (({}, "system"), ({"ARROW_DEFAULT_MEMORY_POOL": "mimalloc"}, "mimalloc")):
        environment = {key: value for key, value in os.environ.items() if key != "ARROW_DEFAULT_MEMORY_POOL"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment | choice,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split()[-1] == backend
