"""`log`: what a run, or one of its nodes, wrote."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.run.records import RecordFile, RunRecord
from tests.conftest import ROOT
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs

RUN = "20260101T000000.000000"


def start_run(runs: Runs, run_id: str = RUN) -> RecordFile:
    """Return a run of this process that has begun, and has written a line."""
    runs.run(run_id, crashes_in="ExampleGen")
    record = RunRecord.model_validate_json(runs.root.locate_record(run_id).read_bytes())
    record.nodes.clear()
    return RecordFile(runs.root, record)


def write(file: RecordFile, text: str) -> None:
    with Path(str(file.record.log)).open("ab") as log:
        log.write(text.encode())


def node(file: RecordFile, name: str, text: str, state: str = "complete") -> None:
    file.on_node_start(name)
    write(file, text)
    file.on_node_end(name, state, "")


def three_nodes(runs: Runs) -> RecordFile:
    file = start_run(runs)
    node(file, "ExampleGen", "one\ntwo\n")
    node(file, "SchemaGen", "three\n")
    node(file, "Gate", "four\n", "failed")
    write(file, "Traceback\nfive\n")
    file.end(exit_code=3, error="no", reason="", summary={})
    return file


def test_a_nodes_part_is_its_own_and_a_failure_has_its_traceback(runs: Runs, oncall: Oncall) -> None:
    three_nodes(runs)
    assert oncall("log", RUN, "ExampleGen").output == "one\ntwo\n"
    assert oncall("log", RUN, "SchemaGen").output == "three\n"
    assert oncall("log", RUN, "Gate").output == "four\nTraceback\nfive\n"
    assert oncall("log", RUN).output == oncall("log", "latest", "Gate").output
    assert oncall("log", RUN, "--lines", 2).output == "Traceback\nfive\n"
    assert oncall("log", RUN, "--lines", 0).output == ""


def test_of_a_run_that_did_not_fail_all_is_shown(runs: Runs, oncall: Oncall) -> None:
    runs.run(RUN, until="SchemaGen")
    assert oncall("log", RUN).output == "starting\n"
    runs.run("20260102", crashes_in="Gate", log="last words\n")
    assert oncall("log", "20260102").output == "last words\n"


def test_a_document_has_the_lines_and_their_place(runs: Runs, document: Any) -> None:
    file = three_nodes(runs)
    log = document("log", RUN, "SchemaGen")
    assert log["lines"] == ["three"]
    assert Path(str(file.record.log)).read_bytes()[log["from"] : log["to"]] == b"three\n"
    assert (log["run"], log["node"], log["state"]) == (RUN, "SchemaGen", "FAILED")


def test_control_characters_and_endless_lines_are_harmless(runs: Runs, oncall: Oncall) -> None:
    file = start_run(runs)
    node(file, "ExampleGen", "\x1b[31mred\x07 a\tb\r\n\xff " + "x" * 200_000 + "\n", "failed")
    file.end(exit_code=1, error="", reason="", summary={})
    first, *rest = oncall("log", RUN).output.splitlines()
    assert first == "\\x1b[31mred\\x07 a     b"
    assert "".join(rest).count("x") == 200_000
    assert max(map(len, rest)) <= 1 << 16


def test_what_cannot_be_shown_is_refused_in_one_line(runs: Runs, oncall: Oncall) -> None:
    file = three_nodes(runs)

    def why(*arguments: object) -> tuple[int, str]:
        result = oncall("log", *arguments)
        assert result.output.count("\n") == 1
        return result.exit_code, result.stderr.strip()

    began = "the nodes that began: ExampleGen, SchemaGen, Gate"
    assert why(RUN, "Trainer") == (2, f"error: Trainer: run {RUN} did not reach it; {began}")
    assert why(RUN, "Trainer", "--follow") == (2, f"error: Trainer: run {RUN} did not reach it; {began}")
    assert why(RUN, "Nobody") == (2, f"error: Nobody: run {RUN} has no such node; {began}")
    both = "--follow and --json: give one of them; a document has an end"
    result = oncall("log", RUN, "--follow", "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]) == (2, both)
    Path(str(file.record.log)).unlink()
    assert why(RUN) == (6, f"error: {file.record.log}: is missing; somebody removed the log of run {RUN}")
    file.update(log=None)
    assert why(RUN)[0] == 2
    assert "has no log; it was started with --verbose" in why(RUN)[1]


def test_who_stops_reading_is_no_error(runs: Runs) -> None:
    file = start_run(runs)
    write(file, "a line\n" * 100_000)
    file.end(exit_code=0, error="", reason="", summary={})
    command = f"{sys.executable} -m oncall log {RUN} --run-root {runs.root.path} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("starting\n", "")


def _following(runs: Runs, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "oncall", "log", RUN, *arguments, "--follow", "--run-root", str(runs.root.path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.integration
def test_a_run_that_goes_on_is_followed_to_its_end(runs: Runs) -> None:
    with runs.root.lock():
        file = start_run(runs)
        process = _following(runs)
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        node(file, "ExampleGen", "one\nhalf a")
        assert process.stdout.readline() == "one\n"
        write(file, " line\n")
        assert process.stdout.readline() == "half a line\n"
        write(file, "the end, without a newline")
        file.end(exit_code=1, error="", reason="", summary={})
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("the end, without a newline\n", f"run {RUN} FAILED\n", 0)


@pytest.mark.integration
def test_a_node_that_is_still_to_come_is_waited_for_and_followed_to_its_end(runs: Runs) -> None:
    with runs.root.lock():
        file = start_run(runs)
        process = _following(runs, "SchemaGen")
        node(file, "ExampleGen", "one\n")
        file.on_node_start("SchemaGen")
        write(file, "two\n")
        assert process.stdout is not None
        assert process.stdout.readline() == "two\n"
        write(file, "three\n")
        file.on_node_end("SchemaGen", "complete", "")
        write(file, "of another\n")
        out, err = process.communicate()
    assert (out, err, process.returncode) == ("three\n", f"run {RUN} is running\n", 0)


@pytest.mark.integration
def test_a_run_that_is_killed_ends_what_follows_it(runs: Runs) -> None:
    with runs.root.lock():
        file = start_run(runs)
        write(file, "two\nthree\n")
        process = _following(runs, "--lines", "1")
        assert process.stdout is not None
        assert process.stdout.readline() == "three\n"
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("", f"run {RUN} CRASHED\n", 0)


@pytest.mark.integration
def test_ctrl_c_leaves_it_quietly(runs: Runs) -> None:
    with runs.root.lock():
        start_run(runs)
        process = _following(runs)
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate()
    assert (out, err, process.returncode) == ("", "", 130)
