"""The emulator of Vertex AI as a command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from emulators.vertex.__main__ import main
from tests.conftest import ROOT
from tests.vertex_fixtures import Bench

pytestmark = pytest.mark.integration


@contextmanager
def emulator(state: Path) -> Iterator[str]:
    """Yield a running one; what it printed until it was ready."""
    command = [sys.executable, "-m", "emulators.vertex", "--state", str(state)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            if line.startswith("# ready"):
                break
            lines.append(line)
        try:
            yield "".join(lines)
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0


def test_a_restarted_emulator_is_where_it_was_and_a_second_one_stays_out(tmp_path: Path) -> None:
    state = tmp_path / "vertex"
    with emulator(state) as first:
        second = CliRunner().invoke(main, ["--state", str(state)])
        assert (second.exit_code, second.output.count("\n")) == (1, 1)
        assert f"--state {state}: an emulator runs there already" in second.output
        port = re.search(r"localhost:(\d+)", first)
        assert port is not None
        result = CliRunner().invoke(main, ["--state", str(tmp_path / "other"), "--port", port[1]])
        assert (result.exit_code, f"--port {port[1]}: cannot be opened" in result.output) == (1, True), result.output
        assert (state / "env.sh").read_text() == first
    with emulator(state) as again:
        assert again == first


def test_a_state_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["--state", str(tmp_path / "file" / "vertex")])
    assert (result.exit_code, "cannot be written: Not a directory" in result.output) == (1, True), result.output


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("foo", "'foo': expected KEY=VALUE with one of method, code, "),
        ("methd=UploadModel", "'methd=UploadModel': expected KEY=VALUE"),
        ("method=UploadModell", "method: did you mean 'UploadModel'?, found 'UploadModell'"),
        ("code=UNAVAILABL", "code: did you mean 'UNAVAILABLE'?"),
        ("when=x", "when: expected one of: before, after, operation, found 'x'"),
        ("times=x", "times: expected a number, found 'x'"),
        ("code=UNAVAILABLE", "method: is missing"),
        ("method=UploadModel", "expected a code"),
    ],
)
def test_a_fault_that_could_not_strike_is_refused_in_one_line(fault: str, problem: str) -> None:
    result = CliRunner().invoke(main, ["inject", fault])
    assert (result.exit_code, problem in result.output) == (2, True), result.output


def test_a_fault_needs_an_emulator_that_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTEX_API_ENDPOINT", bench.server.endpoint)
    arguments = ["inject", "method=UploadModel", "code=UNAVAILABLE", "times=2"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert [(fault.method, fault.times) for fault in bench.server.emulator.faults.waiting] == [("UploadModel", 2)]
    assert CliRunner().invoke(main, ["reset"]).output == "no fault is waiting\n"
    assert not bench.server.emulator.faults.waiting
    monkeypatch.setenv("VERTEX_API_ENDPOINT", "localhost:1")
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (
        1,
        "Error: no emulator answers at localhost:1 (UNAVAILABLE); start it, then source its env.sh\n",
    )
    monkeypatch.delenv("VERTEX_API_ENDPOINT")
    assert "is not set" in CliRunner().invoke(main, arguments).output
    assert "VERTEX_API_ENDPOINT" not in os.environ
