"""Runs that were refused after the newest one, and a database that cannot be read: every command says so."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.errors import DataError, PushError, RunRootError
from pipeline.database.database import LOCKED
from pipeline.database.sqlite import SQLiteFile
from pipeline.run import local
from pipeline.run.rejections import RejectionFile
from serving.registry.local.errors import RegistryFault, RegistryFileError
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import NAME, Runs

GOOD, BAD = "20260101T000000.000000", "20260102T000000.000000"
Document = Callable[..., Any]
_DENIED = partial(RegistryFileError, path=Path("registry"), fault=RegistryFault.DENIED)


def refuse(runs: Runs, why: str = "/data/train.csv: no such file", kind: Callable[[str], Any] = DataError) -> None:
    """Record a rejection, as local_runner.py does with --quiet."""
    local.record_rejection(runs.root, NAME, kind(why), ["local_runner.py", "--config", "a b.yaml", "--quiet"])


def test_a_refusal_is_said_by_every_command(runs: Runs, oncall: Oncall, document: Document) -> None:
    runs.run(GOOD)
    refuse(runs, "another file is missing")
    refuse(runs)
    message = document("why", "latest")["refused"]
    assert message.endswith(": /data/train.csv: no such file")
    assert ": no run was started, exit code 3, the last of 2 since 20" in message
    todo = "try        python local_runner.py --config 'a b.yaml' --dry-run    # once it is fixed"
    for command, code in ((("why", "latest"), 0), (("runs",), 0), (("resume", "latest"), 0)):
        result = oncall(*command)
        assert (result.exit_code, f"refused    {message}" in result.output, todo in result.output) == (code, True, True)
    # What keeps the next run from starting comes first.
    why = oncall("why", "latest").output
    assert why.index("refused ") < why.index("nothing went wrong")
    (check,) = [entry for entry in document("check")["checks"] if entry["name"] == "refused"]
    assert (check["ok"], check["message"]) == (False, message)
    assert oncall("check").exit_code == 1


@pytest.mark.parametrize(
    ("kind", "todo"),
    [
        (PushError, "python -m oncall serving "),
        (_DENIED, "python -m oncall doctor "),
        (RunRootError, "python -m oncall doctor "),
    ],
)
def test_what_to_do_depends_on_why_it_was_refused(
    kind: Callable[[str], Any], todo: str, runs: Runs, document: Document
) -> None:
    runs.run(GOOD)
    refuse(runs, "no", kind)
    assert document("why", "latest")["try"][-1].startswith(todo)


def test_a_run_that_was_started_ends_it(runs: Runs, oncall: Oncall, document: Document) -> None:
    runs.run(GOOD)
    refuse(runs)
    runs.run(BAD, fails=("Gate", "no", 3), overrides={"started": time.time()})
    assert document("why", "latest")["refused"] == document("runs")["refused"] == ""
    assert "refused" not in oncall("why", "latest").output
    assert "refused" not in {check["name"] for check in document("check")["checks"]}


def test_a_refusal_is_said_before_a_resume_is_tried(
    runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "run", lambda config, **named: 4)
    runs.run(BAD, crashes_in="Trainer")
    refuse(runs)
    lines = oncall("resume", "latest").stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["refused", "try", "resuming"]


def test_a_database_that_cannot_be_read_is_said_by_every_command(
    runs: Runs, oncall: Oncall, document: Document
) -> None:
    runs.run(GOOD)
    runs.root.metadata.write_bytes(runs.root.metadata.read_bytes()[:5000])
    doctor = f"try        python -m oncall doctor --run-root {runs.root.path}    # what is wrong"
    for command, code in ((("why", "latest"), 0), (("runs",), 6), (("resume", "latest"), 6)):
        result = oncall(*command)
        assert (result.exit_code, "metadata.sqlite: is truncated (" in result.output) == (code, True), command
        assert doctor in result.output, command
    assert "is truncated (" in document("why", "latest")["database"]
    assert oncall("check").exit_code == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"count": 0}', ""])
def test_a_damaged_refusal_is_none_and_is_begun_anew(content: str, runs: Runs, document: Document) -> None:
    runs.run(GOOD)
    (runs.root.path / "refused.json").write_text(content)
    assert document("why", "latest")["refused"] == ""
    refuse(runs)
    rejection = RejectionFile(runs.root).read()
    assert rejection is not None
    assert rejection.count == 1


def test_a_database_that_does_not_answer_is_waited_for_once(
    runs: Runs, oncall: Oncall, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def check(database: SQLiteFile, *, whole: bool = False) -> None:
        asked.append(database.label)
        raise RunRootError(f"{database.label}: {LOCKED}")

    runs.run(BAD, fails=("InfraValidator", "the model missed a threshold", 4))
    monkeypatch.setattr(SQLiteFile, "check", check)
    assert LOCKED in oncall("why", "latest").output
    assert asked == [str(runs.root.metadata)]
