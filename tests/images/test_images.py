"""Each target of the Dockerfile is built, and used as its own user: a rehearsal, a Beam worker, a served request."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import records
from tests.conftest import ROOT
from tests.images.builder import PROGRAMS, TARGETS, Container, Store
from tests.serving.running import request

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

# In 10^6 bytes. TensorFlow's build without GPUs is 1,000 of them, Arrow 120, Debian and Python 200.
_SERVING_LIMIT = 1500
_RUNNER = 1000
MEASURED: dict[str, Any] = {}


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    # Not pytest's folder: the images' user has to reach what is mounted.
    with tempfile.TemporaryDirectory(prefix="images-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def store_folder(folder: Path) -> Path:
    # The layers of a store that is kept are not built again.
    return Path(os.environ.get("IMAGES_FOLDER") or folder / "images")


@pytest.fixture(scope="session")
def store(store_folder: Path) -> Iterator[Store]:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        pytest.fail(f"needs root and the programs {', '.join(PROGRAMS)}; found user {os.geteuid()}, missing: {missing}")
    store = Store(store_folder)
    try:
        store.make_bases()
        for target in TARGETS:
            store.build(target)
        yield store
    finally:
        store.close()


@contextmanager
def run_until_end(
    container: Container, *line: str, volumes: Sequence[str] = (), environment: Sequence[str] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in a container until the end of the block."""
    command = container.command(*line, volumes=volumes, environment=environment)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def rehearsal(store: Store, folder: Path) -> Path:
    """Return the folder of a rehearsal that ran in the pipeline image."""
    inputs, state = folder / "inputs", folder / "rehearsal"
    for name in ("configs", "schemas", "data"):
        shutil.copytree(ROOT / name, inputs / name, ignore=shutil.ignore_patterns("cache", "*.py", "__pycache__"))
    state.mkdir()
    os.chown(state, _RUNNER, _RUNNER)
    with store.container("pipeline") as container:
        done = container.run(
            "refpipe-vertex", "rehearse", "--config", "/inputs/configs/census.yaml", "--folder", "/rehearsal", "--json",
            volumes=[f"{inputs}:/inputs:ro", f"{state}:/rehearsal"], timeout=1200,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert {task["state"] for task in answer["tasks"]} == {"SUCCEEDED"}
    return state


def test_the_pipeline_image_rehearses_as_its_own_user(rehearsal: Path) -> None:
    owners = {path.lstat().st_uid for path in rehearsal.rglob("*")}
    assert owners == {_RUNNER}


def test_a_worker_of_beam_runs_in_the_products_environment(store: Store) -> None:
    """`boot --worker_pool`, as Flink and Spark start it, against the job server of this process."""
    program = (
        "import apache_beam as beam\n"
        "from apache_beam.testing.util import assert_that, equal_to\n"
        "def place(_):\n"
        "    import sys, components.transform.preprocessing\n"
        "    return sys.prefix\n"
        "options = ['--runner=PortableRunner', '--job_endpoint=embed', '--environment_type=EXTERNAL',\n"
        "           '--environment_config=localhost:50000', '--sdk_worker_parallelism=1']\n"
        "with beam.Pipeline(argv=options) as pipeline:\n"
        "    assert_that(pipeline | beam.Create([1]) | beam.Map(place), equal_to(['/opt/venv']))\n"
        "print('worked')\n"
    )
    with (
        store.container("dataflow") as container,
        run_until_end(container, "/opt/apache/beam/boot", "--worker_pool"),
    ):
        _wait_for_port(50000)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["worked"]), done.stderr[-3000:]


def test_the_serving_image_is_small_and_answers(store: Store, rehearsal: Path) -> None:
    (saved_model,) = rehearsal.rglob("models/*/*/saved_model.pb")
    model = saved_model.parent
    start = time.monotonic()
    with (
        store.container("serving") as container,
        run_until_end(
            container, "python", "-m", "serving",
            volumes=[f"{model}:/model:ro"],
            environment=["AIP_STORAGE_URI=/model", "AIP_HTTP_PORT=8591"],
        ) as server,
    ):  # fmt: skip
        events = (json.loads(line) for line in server.stdout)
        assert next(event for event in events if event["event"] == "ready")["default"] == 1
        seconds = time.monotonic() - start
        golden = json.loads((model / "assets.extra" / "golden.json").read_text())
        status, answer = request(
            "http://127.0.0.1:8591/predict", json.dumps({"instances": golden["instances"]}).encode()
        )
    assert status == 200
    expected = [row["probability"] for row in golden["predictions"]]
    assert [row["probability"] for row in answer["predictions"]] == pytest.approx(expected, abs=1e-6)
    megabytes = {target: store.measure(target) // 10**6 for target in TARGETS}
    assert megabytes["serving"] <= _SERVING_LIMIT
    MEASURED.update({"megabytes": megabytes, "seconds until the server is ready": round(seconds, 1)})


def test_the_result_is_kept(request: pytest.FixtureRequest) -> None:
    assert not request.session.testsfailed
    records.write("images", MEASURED)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"nothing listens on port {port}")
