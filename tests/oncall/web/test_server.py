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
from tests.oncall.big_database import RUNS, make
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import FIRST
from tests.oncall.web.conftest import served


@contextmanager
def started(root: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command, and the first line that it prints."""
    command = [sys.executable, "-m", "oncall", "web", "--port", "0", "--run-root", str(root), *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_quietly_when_told_to(number: signal.Signals, runs: Runs) -> None:
    runs.run(FIRST)
    with started(runs.root.path) as (process, line):
        url = line.split()[0]
        assert line == f"{url}    Ctrl-C ends it\n"
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert FIRST in answer.read().decode()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_a_program_is_told_in_json_and_no_other_machine_gets_in(runs: Runs) -> None:
    runs.run(FIRST)
    with started(runs.root.path, "--json") as (_, line):
        port = int(json.loads(line)["url"].split(":")[2].strip("/"))
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        # Another address of this machine is one of the network's.
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.settimeout(5)
            other.connect(("127.0.0.2", port))


def test_a_port_in_use_is_one_line(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = oncall("web", "--port", port)
    said = f"--port {port}: 127.0.0.1:{port} cannot be listened at: Address already in use; --port 0 takes any that is free"
    assert (refused.exit_code, refused.stdout, refused.stderr) == (2, "", f"error: {said}\n")


def test_no_run_root_is_one_line(tmp_path: Path, runs: Runs, oncall: Oncall) -> None:
    runs.root.metadata.unlink()
    refused = oncall("web")
    assert refused.exit_code == 6
    assert refused.stderr.startswith(f"error: {runs.root.path}: holds no runs")


def test_ten_thousand_runs_are_shown_within_two_seconds(runs: Runs) -> None:
    made = make(runs.root.path, RUNS)
    with served(made.root.path) as site:
        site.get("/versions")
        for path in ("/", "/?page=400", "/runs/latest", "/runs/20270101T005000", "/artifacts/v1"):
            # CPU time of this process, in which the site runs: others may take theirs meanwhile.
            before = time.process_time()
            assert site.get(path).code == 200
            assert time.process_time() - before < 2, path
        assert "page 1 of 400, 10,000 runs" in site.get("/").text
