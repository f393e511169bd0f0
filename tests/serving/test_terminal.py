"""The terminal is kept for what a person is to read."""

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
        "from serving.terminal import own_terminal\n"
        f"with own_terminal(pathlib.Path({str(log)!r}), {shown_on!r}) as terminal:\n"
        "    print('noise'); os.write(2, b'noise of C++\\n'); terminal.write('shown\\n')\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == expected
    assert sorted(log.read_text().splitlines()) == ["noise", "noise of C++"]
