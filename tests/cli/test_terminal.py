"""The terminal is kept for what a person is to read."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("shown_on", "expected"), [("stdout", ("shown\nafter\n", "")), ("stderr", ("after\n", "shown\n"))]
)
def test_what_libraries_print_goes_to_the_log_and_the_rest_to_the_terminal(
    shown_on: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    code = (
        "import os, pathlib\n"
        "from cli.terminal import redirect_output\n"
        f"with redirect_output(pathlib.Path({str(log)!r}), {shown_on!r}) as terminal:\n"
        "    print('noise'); os.write(2, b'noise of C++\\n'); terminal.write('shown\\n')\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == expected
    assert sorted(log.read_text().splitlines()) == ["noise", "noise of C++"]


def read_stderr(code: str, *, journal: bool) -> str:
    """Return the standard error of a process, which is the journal's or only resembles it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        place = f"{status.st_dev}:{status.st_ino if journal else status.st_ino + 1}"
        environment = {**os.environ, "JOURNAL_STREAM": place}
        subprocess.run([sys.executable, "-c", code], stderr=theirs, env=environment, check=False, cwd=ROOT)
        return ours.recv(10_000).decode()


def test_in_the_journal_every_line_has_its_level() -> None:
    code = (
        "from cli.errors import DataError\n"
        "from cli.terminal import print_error, print_message\n"
        "print_error(DataError('first\\nsecond \\x1b[31m'), as_json=False)\n"
        "print_message('late', 'warning'); print_message('well again', 'notice')"
    )
    assert read_stderr(code, journal=True) == "<3>error: first\n<3>second \\x1b[31m\n<4>late\n<5>well again\n"
    assert read_stderr(code, journal=False) == "error: first\nsecond \\x1b[31m\nlate\nwell again\n"


@pytest.mark.parametrize(
    ("raised", "as_json", "expected"),
    [
        ("DataError('no\\nrows')", False, (3, "", "error: no\nrows\n")),
        ("DataError('no')", True, (3, '{"error": "no", "exit_code": 3}\n', "")),
        ("KeyboardInterrupt", False, (130, "", "stopped\n")),
        ("KeyboardInterrupt", True, (130, '{"error": "stopped", "exit_code": 130}\n', "")),
    ],
)
def test_a_refusal_and_an_interrupt_are_said_in_one_way(
    raised: str, as_json: bool, expected: tuple[int, str, str]
) -> None:
    code = (
        "from cli.errors import DataError\n"
        "from cli.terminal import exit_on_error\n"
        f"with exit_on_error(as_json={as_json}, interrupted='stopped'):\n    raise {raised}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_sigterm_ends_a_command_as_ctrl_c_does() -> None:
    code = (
        "import os, signal\nfrom cli.terminal import exit_on_error\n"
        "with exit_on_error():\n    os.kill(os.getpid(), signal.SIGTERM)\n    print('continued')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
