"""`web` as a process: it says where it is, is there for this machine alone, and ends quietly."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.drill.samples import assert_sample
from tests.oncall.big_database import RUNS, make
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import FIRST
from tests.oncall.web.conftest import Site, serve


@contextmanager
def start_server(root: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield the command, and the first line that it prints."""
    command = [sys.executable, "-m", "oncall", "web", "--port", "0", "--run-root", str(root), *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_quietly_when_told_to(number: signal.Signals, runs: Runs) -> None:
    runs.run(FIRST)
    with start_server(runs.root.path) as (process, line):
        url = line.split()[0]
        assert line == f"{url}    Ctrl-C ends it\n"
        assert_sample("web", line)
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert FIRST in answer.read().decode()
        process.send_signal(number)
        rest, errors = process.communicate()
    assert (process.returncode, rest, errors) == (0, "", "")


@pytest.mark.integration
def test_a_program_is_told_in_json_and_no_other_machine_gets_in(runs: Runs) -> None:
    runs.run(FIRST)
    with start_server(runs.root.path, "--json") as (_, line):
        port = int(json.loads(line)["url"].split(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        # Another address of this machine is one of the network's.
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.settimeout(5)
            other.connect(("127.0.0.2", port))


@pytest.mark.integration
def test_a_port_in_use_is_one_line(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = oncall("web", "--port", port)
    message = (
        f"--port {port}: 127.0.0.1:{port} cannot be opened: Address already in use; --port 0 takes any that is free"
    )
    assert (refused.exit_code, refused.stdout, refused.stderr) == (2, "", f"error: {message}\n")


def test_no_run_root_is_one_line(tmp_path: Path, runs: Runs, oncall: Oncall) -> None:
    runs.root.metadata.unlink()
    refused = oncall("web")
    assert refused.exit_code == 6
    assert refused.stderr.startswith(f"error: {runs.root.path}: holds no runs")


def _cpu_seconds(made: Runs, count: int) -> dict[str, float]:
    """Return the CPU time that each kind of page takes on a run root of so many runs."""
    pages = {
        "newest": "/",
        "oldest": f"/?page={count // 25}",
        "crashed run": "/runs/latest",
        "run": f"/runs/20270101T{count // 2:06d}",
        "version": "/artifacts/v1",
    }
    with serve(made.root.path) as site:
        assert f"page 1 of {count // 25}, {count:,} runs" in site.get("/").text
        return {name: min(_cpu_seconds_of(site, path) for _ in range(3)) for name, path in pages.items()}


def _cpu_seconds_of(site: Site, path: str) -> float:
    # CPU time of this process, in which the site runs: others may take theirs meanwhile.
    before = time.process_time()
    assert site.get(path).code == 200
    return time.process_time() - before


@pytest.mark.proof
def test_ten_times_the_runs_take_no_more_than_their_share(runs: Runs, tmp_path: Path) -> None:
    """The times themselves depend on the machine and its load, their ratio does not."""
    few, many = make(tmp_path / "few", RUNS // 10), make(runs.root.path, RUNS)
    before, after = _cpu_seconds(few, RUNS // 10), _cpu_seconds(many, RUNS)
    # A page that reads each run is at 10, one that compares each with each at 100.
    assert {name: after[name] / before[name] for name in before if after[name] > 25 * before[name]} == {}
