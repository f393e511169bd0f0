"""Tables: in a terminal ids stay whole and what matters least goes first; what is piped has all of it."""

import fcntl
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from oncall import printing
from oncall.results import ResultTable
from tests.conftest import ROOT
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import GRAPH, Runs
from tests.oncall.test_cli import CALLS, FIRST, SECOND

ERROR = "the data does not fit its schema or has changed:\n  train: age: " + "very " * 40 + "high value"
_ID = re.compile(r"2026010\d{1,2}T000000\.000000")


@pytest.fixture
def three_runs(runs: Runs) -> Runs:
    first = runs.run(FIRST)
    runs.run(SECOND, cached=first)
    runs.run("20260103T000000.000000", cached=first, fails=("Gate", ERROR, 3))
    return runs


def narrow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(printing, "_measure_terminal", lambda: width)


@pytest.mark.integration
def test_no_table_is_wider_than_the_terminal_and_no_id_is_broken(
    three_runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped_outputs = {command: oncall(command, *arguments).output for command, arguments in CALLS.items()}
    for (command, arguments), width in itertools.product(CALLS.items(), (50, 80, 120)):
        piped = piped_outputs[command]
        with monkeypatch.context() as patch:
            narrow(patch, width)
            output = oncall(command, *arguments).output
        table = [line for line in output.splitlines() if line[-1:] in "┓┃┩│┘"]
        assert max(map(len, table), default=0) <= width, (command, width)
        if command != "show":
            assert {*_ID.findall(output)} == {*_ID.findall(piped)}, (command, width)
        for word in ("champion", "as pushed", "FAILED", "version 1"):
            assert (word in output) == (word in piped), (command, width, word)


def test_columns_that_matter_least_are_left_out_and_named(
    three_runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow(monkeypatch, 80)
    heading, *rest = oncall("runs").output.splitlines()[1:]
    assert heading.replace("┃", " ").split() == ["run", "state", "pushed", "cause"]
    assert rest[-1] == "not shown: started, took; a wider terminal has room"
    narrow(monkeypatch, 50)
    assert oncall("runs").output.startswith("run        20260103T000000.000000\nstate      FAILED\nstarted    ")


def test_what_is_piped_is_neither_cut_nor_folded(three_runs: Runs, oncall: Oncall) -> None:
    assert any("high value │" in line and "FAILED" in line for line in oncall("runs").output.splitlines())
    assert any("high value │" in line and "Gate" in line for line in oncall("show", "latest").output.splitlines())
    assert any("high value │" in line and "NOT ok" in line for line in oncall("check").output.splitlines())


@pytest.mark.integration
def test_a_real_terminal_of_80_columns(three_runs: Runs) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "oncall", "runs", "--run-root", str(three_runs.root.path)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    # What is shown has room in the terminal's buffer.
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=theirs, check=False)
    output = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", output).splitlines()
    assert len(lines[0]) == 80
    assert sum(SECOND in line and "version 1" in line for line in lines) == 1


def test_a_wide_letter_takes_its_place() -> None:
    rows = ResultTable(("run", "cause"), [("漢" * 30, "x")], sentences=("cause",))
    assert len(printing._render_table(rows, 80)) == 1
    assert [str(line) for line in printing._render_table(rows, 60)] == [f"run        {'漢' * 30}", "cause      x"]


@pytest.mark.slow
def test_every_list_is_cut_at_25_lines_and_no_command_is_left_out(runs: Runs, oncall: Oncall) -> None:
    first = runs.run(FIRST)
    for number in range(26):
        runs.run(f"20260102T0000{number:02d}.000000", cached={"ExampleGen": first["ExampleGen"]})
        # Of an execution of another node.
        orphan = runs.root.artifacts / "Trainer" / "model" / f"{1 + len(GRAPH) * number}"
        orphan.mkdir()
        (orphan / "half").touch()
    last, config = "20260103T000000.000000", {f"key{number}": number for number in range(30)}
    stops = "".join(f"\n  train: column {number}: very high value" for number in range(30))
    error = f"the data does not fit its schema or has changed:{stops}"
    runs.run(last, overrides={"config": config}, fails=("Gate", error, 3))
    arguments = {
        **CALLS,
        "runs": ("--limit", "40"),
        "lineage": (str(first["ExampleGen"]["examples"].id),),
        "diff": (FIRST, last),
        "gc": ("--keep-last", "1", "--drop-pushed"),
    }
    cut = set()
    for command in (
        "runs",
        "show",
        "why",
        "serving",
        "lineage",
        "diff",
        "anomalies",
        "check",
        "doctor",
        "quarantine",
        "gc",
    ):
        whole = oncall(command, *arguments[command], "--all").output.splitlines()
        output = oncall(command, *arguments[command]).output.splitlines()
        if len(whole) <= 25:
            assert output == whole, command
            continue
        cut.add(command)
        *lines, note = output
        assert note == f"{len(whole) - len(lines)} more lines; --all prints them", command
        tries = [line for line in whole if re.match(r"(try|undo|  +do:) ", line)]
        assert len([line for line in lines if line not in tries]) <= 25, command
        # A table is as wide as the rows that it shows.
        contents = {re.sub(r"\W+", " ", line) for line in whole}
        assert [line for line in lines if re.sub(r"\W+", " ", line) not in contents] == [], command
        assert [line for line in tries if line not in lines] == [], command
    assert cut == {"runs", "why", "serving", "lineage", "diff", "anomalies", "doctor", "quarantine", "gc"}
