"""The census pipeline and a batch prediction with Beam's workers on another host: `make test-hosts`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.dataset
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from benchmarks.two_hosts import Hosts, find_obstacle, local_runner, open_hosts
from tests import records
from tests.conftest import ROOT

OBSTACLE = find_obstacle()
REQUIRED = os.environ.get("REQUIRE_HOSTS") == "1"
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(bool(OBSTACLE) and not REQUIRED, reason=OBSTACLE or "both hosts can be opened"),
]
START = time.monotonic()
ON_BEAM = ("ExampleGen", "StatisticsGen", "Transform", "Evaluator")
# Of a busy machine. A worker that has this memory has got its work, and is loading TensorFlow for it.
START_SECONDS, WORKING_BYTES = 400, 600 << 20
# A worker that is lost fails its component within 5 s on a quiet machine.
END_SECONDS = 60


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    assert not OBSTACLE, OBSTACLE
    with open_hosts() as opened:
        shutil.copytree(ROOT / "data" / "census", opened.shared / "census")
        yield opened


def list_settings(hosts: Hosts, *, remote: bool) -> list[str]:
    """Return the settings of a run: the same data with either runner."""
    settings = ["--set", f"data.base={hosts.shared}/census", "--set", "infra_validation.max_latency_ms=10000"]
    return [*settings, "--set", f"beam={json.dumps(hosts.beam)}"] if remote else settings


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=ROOT)


def run_and_kill(hosts: Hosts, command: Sequence[str], is_due: Callable[[str], bool]) -> tuple[int, str, float]:
    """Run a command, and kill the worker in the middle of its work.

    Args:
      hosts: both hosts.
      command: command to run.
      is_due: function that returns from the output so far whether the work is far enough.

    Returns:
      Exit code, output, and seconds from the loss of the worker to the end.
    """
    output = hosts.shared / "output"
    with (
        open(output, "wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT) as process,
    ):
        started = time.monotonic()
        while not ((workers := hosts.list_workers()) and is_due(output.read_text())):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() - started < START_SECONDS
            time.sleep(0.02)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        code = process.wait(600)
        return code, output.read_text(), time.monotonic() - killed


def works(worker: psutil.Process) -> bool:
    try:
        return bool(worker.memory_info().rss >= WORKING_BYTES)
    except psutil.Error:
        return False


def read_numbers(value: Any, place: str = "") -> dict[str, float]:
    """Return all numbers of nested values, by their places."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: n for key, inner in items for name, n in read_numbers(inner, f"{place}/{key}").items()}
    return {place: value} if isinstance(value, int | float) else {}


def read_metrics(done: subprocess.CompletedProcess[str]) -> dict[str, float]:
    numbers = read_numbers(json.loads(done.stdout)["facts"]["Evaluator"])
    # The time of a challenger's fit is none of its results.
    metrics = {place: number for place, number in numbers.items() if not place.endswith("/seconds")}
    assert len(metrics) > 100, metrics
    return metrics


def read_examples(run_root: Path) -> dict[str, bytes]:
    """Return the files of all splits, by their names."""
    (artifact,) = (run_root / "artifacts" / "ExampleGen" / "examples").iterdir()
    return {str(file.relative_to(artifact)): file.read_bytes() for file in sorted(artifact.glob("Split-*/*"))}


def read_statistics(run_root: Path) -> dict[str, statistics_pb2.DatasetFeatureStatisticsList]:
    (artifact,) = (run_root / "artifacts" / "StatisticsGen" / "statistics").iterdir()
    files = sorted(artifact.glob("Split-*/FeatureStats.pb"))
    return {f.parent.name: statistics_pb2.DatasetFeatureStatisticsList.FromString(f.read_bytes()) for f in files}


def test_a_worker_lost_in_any_component_is_one_line_and_the_same_command_resumes(hosts: Hosts) -> None:
    remote, direct = hosts.shared / "remote", hosts.shared / "direct"
    command = local_runner("--run-root", str(remote), *list_settings(hosts, remote=True))
    for number, component in enumerate(ON_BEAM):
        code, output, seconds = run_and_kill(
            hosts,
            command,
            lambda text, started=f"{component} started": started in text and any(map(works, hosts.list_workers())),
        )
        assert code == 1, output
        errors = [line for line in output.splitlines() if line.startswith("error ")]
        assert len(errors) == 1, output
        assert errors[0].split()[1] == f"{component}:", output
        assert "Traceback" not in output
        assert seconds < END_SECONDS
        # Progress was shown, and what was done before is reused.
        states = ["cached" if number - done > 1 else "complete" for done in range(number)]
        assert [f"{ON_BEAM[done]} {state}" in output for done, state in enumerate(states)] == [True] * number, output
    done = run([*command, "--json"])
    assert done.returncode == 0, done.stdout
    alone = run([*local_runner("--run-root", str(direct), *list_settings(hosts, remote=False)), "--json"])
    assert alone.returncode == 0, alone.stdout
    assert read_examples(remote) == read_examples(direct)
    assert read_statistics(remote) == read_statistics(direct)
    assert read_metrics(done) == pytest.approx(read_metrics(alone), abs=1e-6)


def test_workers_log_into_the_log_of_the_run(hosts: Hosts) -> None:
    text = "\n".join(log.read_text() for log in sorted((hosts.shared / "remote" / "logs").glob("*.log")))
    assert "_environment_1 WARNING apache_beam.runners.worker" in text
    assert "number of input bytes" not in text


def test_a_batch_prediction_resumes_on_the_other_host(hosts: Hosts) -> None:
    source = hosts.shared / "census" / "test.csv.gz"
    model = hosts.shared / "direct" / "registry" / "census-income"
    output = hosts.shared / "predictions"
    flags = ["--model", str(model), "--rows-per-part", "200"]
    batch = [sys.executable, "-m", "serving.batch", str(source)]
    beam = [flag for key, value in hosts.beam.items() for flag in ("--beam", f"{key}={value}")]
    remote = [*batch, str(output), *flags, *beam]
    code, text, seconds = run_and_kill(hosts, remote, lambda text: any(output.glob("part-*")))
    assert code == 1, text
    assert text.splitlines()[-1].startswith("error: "), text
    assert "Traceback" not in text
    assert seconds < END_SECONDS
    done = run(remote)
    assert done.returncode == 0, done.stderr
    assert re.search(r"predicted 16,281 rows of 1 file with version 1 in .*, \d+ from earlier runs", done.stdout)
    alone = run([*batch, str(hosts.shared / "alone"), *flags])
    assert alone.returncode == 0, alone.stderr
    tables = [
        pyarrow.dataset.dataset(folder, exclude_invalid_files=True).to_table().sort_by([("row", "ascending")])
        for folder in (output, hosts.shared / "alone")
    ]
    assert tables[0].equals(tables[1])
    assert not (output / "_worker_logs").exists()


def test_paths_that_the_other_host_cannot_see_are_named(hosts: Hosts, tmp_path: Path) -> None:
    settings = list_settings(hosts, remote=True)
    done = run(local_runner("--run-root", str(tmp_path / "run"), *settings))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --run-root: the workers of beam.runner prism are on other machines and cannot see {tmp_path}/run/"
        f"artifacts; it is not below beam.shared_folder {hosts.shared}\n"
    )


def test_the_result_is_kept(request: pytest.FixtureRequest) -> None:
    assert not request.session.testsfailed
    records.write("hosts", {"seconds": round(time.monotonic() - START)})
