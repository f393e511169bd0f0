"""Bad input: each is one clear line with its exit code, and never a traceback; nothing hostile reaches the terminal."""

import json
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.terminal import clean
from oncall.__main__ import main
from oncall.text_format import shorten
from pipeline.database.config import MySQL
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs

RUN, OTHER = "20260101T000000.000000", "20260102T000000.000000"
HOSTILE = "[red]x[/red] \x1b[31m\x1b]0;title\x07 <script>alert(1)</script> \u202e \x00 [/] [link=file:///etc]"


def _truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _text(file: Path) -> None:
    file.write_text("not a database, but long enough to have a header of one hundred bytes " * 3)


def _foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE mine (id INTEGER)")


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE MLMDEnv SET schema_version = 99")


def _garble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096 : 4096 * 20] = b"\xff" * (4096 * 19)
    file.write_bytes(content)


DAMAGES = pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (Path.unlink, "there is none; is --run-root right?"),
        (_truncate, "is truncated ("),
        (_empty, "is empty; restore it from a backup"),
        (_text, "is not an SQLite database, so not a run's"),
        (_foreign, "is an SQLite database, but not ML Metadata's"),
        (_newer, "was written by a newer release of ML Metadata (its schema is 99, expected 10)"),
    ],
    ids=["missing", "truncated", "empty", "text", "foreign", "newer"],
)


@DAMAGES
def test_a_database_that_cannot_be_read_is_one_line_with_its_reason(
    damage: Callable[[Path], None], expected: str, runs: Runs, oncall: Oncall
) -> None:
    runs.run(RUN)
    damage(runs.root.metadata)
    for command in (("lineage", "1"), ("anomalies", RUN), ("diff", RUN, RUN), ("gc", "--keep-last", "1")):
        result = oncall(*command)
        assert result.exit_code == 6, command
        assert result.output.startswith(f"error: {runs.root.metadata}: ")
        assert expected in result.output
        assert result.output.count("\n") == 1
        assert json.loads(oncall(*command, "--json").stdout)["exit_code"] == 6


@DAMAGES
def test_what_the_records_say_is_shown_all_the_same(
    damage: Callable[[Path], None], expected: str, runs: Runs, oncall: Oncall
) -> None:
    runs.run(RUN, fails=("Gate", "the data does not fit", 3))
    damage(runs.root.metadata)
    why = oncall("why", "latest")
    assert (why.exit_code, "the data does not fit" in why.output, expected in why.output) == (0, True, True)
    show = oncall("show", RUN)
    assert (show.exit_code, "not reached" in show.stdout, expected in show.stderr) == (6, True, True)
    listed = oncall("runs")
    assert (listed.exit_code, RUN in listed.stdout, expected in listed.stderr) == (6, True, True)
    doctor = oncall("doctor")
    assert doctor.exit_code == 1
    assert ("check it out, or restore" if damage is _newer else "do: restore ") in doctor.output


def test_a_lost_database_json_is_made_up_for_by_what_the_last_run_recorded(runs: Runs, oncall: Oncall) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    settings = {"kind": "mysql", "host": "127.0.0.1", "port": port, "database": "census", "user": "me"}
    runs.run(RUN)
    runs.run(OTHER)
    record = runs.root.locate_record(RUN)
    values = json.loads(record.read_text())
    values["config"]["metadata"] = MySQL(**settings, password_env="PATH").model_dump(mode="json")
    record.write_text(json.dumps(values))
    runs.root.locate_record(OTHER).write_text("{")
    runs.root.metadata.unlink()
    message = f"mysql://me@127.0.0.1:{port}/census: the connection was refused"
    for command, code in ((("runs",), 6), (("why", RUN), 0), (("doctor",), 1), (("gc", "--keep-last", "1"), 6)):
        result = oncall(*command)
        assert (result.exit_code, message in result.output) == (code, True), command
    assert "metadata.sqlite" not in oncall("doctor").output
    assert 'do: docs/metadata.md, "When it cannot be used"' in oncall("doctor").output


def test_damage_in_the_middle_is_told_by_the_doctor(runs: Runs, oncall: Oncall) -> None:
    runs.run(RUN)
    _garble(runs.root.metadata)
    result = oncall("doctor")
    assert result.exit_code == 1
    assert "is damaged (" in result.output
    assert oncall("lineage", "1").exit_code == 6


@pytest.mark.integration
def test_a_lock_is_told_from_damage(runs: Runs, oncall: Oncall) -> None:
    runs.run(RUN)
    with closing(sqlite3.connect(runs.root.metadata, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = oncall("lineage", "1")
        assert (result.exit_code, "is locked by another process" in result.output) == (6, True)
        doctor = oncall("doctor")
        assert doctor.exit_code == 1
        assert f"do: fuser -v {runs.root.metadata}" in doctor.output
        assert "restore" not in doctor.output
    assert oncall("lineage", "1").exit_code == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": 5}', "\x00\x1b[31m"])
def test_a_damaged_record_is_named_and_hides_no_other(content: str, runs: Runs, oncall: Oncall, document: Any) -> None:
    runs.run(RUN)
    runs.run(OTHER, crashes_in="Gate")
    runs.root.locate_record(OTHER).write_text(content)
    assert [run["state"] for run in document("runs")["runs"]] == ["UNKNOWN", "SUCCEEDED"]
    (finding,) = [finding for finding in document("doctor")["findings"] if finding["kind"] == "record"]
    assert finding["message"].startswith(f"{runs.root.locate_record(OTHER)}: is damaged: ")
    why = oncall("why", "latest")
    assert (why.exit_code, "is damaged" in why.output) == (0, True)
    assert oncall("resume", OTHER).exit_code == 2
    assert oncall("diff", RUN, OTHER).exit_code == 2


def test_hostile_text_neither_colours_nor_breaks_what_is_shown(runs: Runs, oncall: Oncall, document: Any) -> None:
    runs.run(RUN)
    log = f'Traceback (most recent call last):\n  File "/a/{HOSTILE}", line 1, in f\nValueError: {HOSTILE}\n'
    runs.run(OTHER, fails=("Gate", HOSTILE, 3), log=log, overrides={"command": [HOSTILE], "user": HOSTILE})
    record = runs.root.locate_record(OTHER)
    values = json.loads(record.read_text())
    values["nodes"][HOSTILE] = values["nodes"]["Gate"]
    values["expected"].append(HOSTILE)
    values["config"][HOSTILE] = HOSTILE
    record.write_text(json.dumps(values))
    commands = ("runs", ("show", OTHER), ("why", OTHER), ("diff", RUN, OTHER), ("anomalies", OTHER), "check", "doctor")
    for command in commands:
        arguments = (command,) if isinstance(command, str) else command
        for flags in ((), ("--json",)):
            output = oncall(*arguments, *flags).output
            assert not [c for c in output if not c.isprintable() and c != "\n"], command
    assert "[red]x[/red] \\x1b[31m" in oncall("why", OTHER).output
    assert document("why", OTHER)["cause"].endswith(HOSTILE)


def test_a_heading_is_shown_with_what_it_is_the_heading_of() -> None:
    assert shorten("the data does not fit:\n  age: 430\n  more") == "the data does not fit: age: 430"
    assert (shorten("one\ntwo"), shorten(""), shorten("x" * 100, 10)) == ("one", "", "xxxxxxx...")


def test_control_characters_are_shown_as_their_escapes() -> None:
    assert clean("a\x1b[31m\n\u202e\x9b\ud800é[b]") == "a\\x1b[31m\\n\\u202e\\x9b\\ud800é[b]"


def test_a_run_root_that_is_not_there_or_not_one_is_refused(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["runs", "--run-root", str(tmp_path / "no")])
    assert (missing.exit_code, "is missing" in missing.output) == (6, True)
    file = CliRunner().invoke(main, ["runs", "--run-root", "/etc/passwd"])
    assert (file.exit_code, file.output.partition("; ")[0]) == (6, "error: /etc/passwd: is a file")
    strange = CliRunner().invoke(main, ["runs", "--run-root", str(tmp_path)])
    assert (strange.exit_code, "holds no runs" in strange.output) == (6, True)


def test_the_only_run_root_is_found_and_several_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    none = CliRunner().invoke(main, ["runs"])
    assert (none.exit_code, "name the folder of the runs with --run-root" in none.output) == (2, True)
    Runs(tmp_path / "runs" / "a").run(RUN, crashes_in="ExampleGen")
    assert RUN in CliRunner().invoke(main, ["runs"]).output
    Runs(tmp_path / "runs" / "b")
    several = CliRunner().invoke(main, ["runs"])
    assert several.exit_code == 2
    assert several.output == "error: several folders hold runs; choose one: --run-root runs/a or --run-root runs/b\n"
