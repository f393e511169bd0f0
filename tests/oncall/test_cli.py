"""The command line as a whole: quick, read-only, documented."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner

from oncall.__main__ import EPILOG, main
from tests.conftest import ROOT
from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.oncall.traffic_logs import set_log, write_log

pytestmark = pytest.mark.integration

FIRST, SECOND = "20260101T000000.000000", "20260102T000000.000000"
# Of each command, something that it can do on the run root of these tests without changing it.
CALLS = {
    "runs": (),
    "show": ("latest",),
    "why": ("latest",),
    "log": ("latest",),
    "serving": (),
    "lineage": ("v1",),
    "diff": (FIRST, SECOND),
    "anomalies": ("latest",),
    "check": (),
    "traffic": (),
    "doctor": (),
    "resume": (FIRST,),
    "rollback": (),
    "quarantine": (),
    "gc": ("--keep-last", "1"),
    "report": ("latest", "--overwrite"),
}
# Needs a request log: tests/oncall/test_outcomes.py.
READS_LOG = {"outcomes"}
# Commands that need neither arrays nor the config's models.
_QUICK = ("runs", "show", "why", "log", "anomalies")
# Answers until it is told to end: tests/oncall/web/test_server.py.
SERVES = {"web"}


@pytest.fixture
def two_runs(runs: Runs) -> Runs:
    runs.run(FIRST)
    runs.run(SECOND)
    rows = pa.table({"age": [20, 30], "sex": ["Female", None]})
    set_log(runs, SECOND, write_log(runs.root.path.parent / "log", rows, version=2))
    return runs


def test_every_command_is_called_here() -> None:
    assert {*CALLS, *READS_LOG, *SERVES} == set(main.commands)


def test_every_command_prints_text_or_one_document(two_runs: Runs, oncall: Oncall) -> None:
    for command, arguments in CALLS.items():
        text, document = oncall(command, *arguments), oncall(command, *arguments, "--json")
        assert (text.exit_code, document.exit_code) == (0, 0), command
        assert text.output.strip()
        assert isinstance(json.loads(document.stdout), dict)


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_nothing_is_changed_by_asking(two_runs: Runs, oncall: Oncall) -> None:
    before = content(two_runs.root.path)
    for command, arguments in CALLS.items():
        oncall(command, *arguments)
    # The file that `report` is asked for, and nothing else.
    after = content(two_runs.root.path)
    assert after.pop(f"reports/run-{SECOND}.html")
    assert after == before


def test_it_starts_without_what_takes_long_to_load(two_runs: Runs) -> None:
    heavy = ("tensorflow", "tfx", "apache_beam", "keras", "tensorflow_transform", "tensorflow_data_validation")
    arrays = (*heavy, "numpy", "pyarrow")
    program = ["import sys", "from oncall.__main__ import main"]
    # All in one process, the quick ones first: each finds the modules of those before it.
    for command in sorted(CALLS.keys() - {"resume"}, key=lambda name: name not in _QUICK):
        arguments = [command, *CALLS[command], "--run-root", str(two_runs.root.path)]
        program += [
            f"try: main({arguments!r}, standalone_mode=False)",
            "except SystemExit: pass",
            f"print('HEAVY after {command}', [m for m in {arrays if command in _QUICK else heavy} if m in sys.modules])",
        ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("HEAVY after ")]
    assert len(lines) == len(CALLS) - 1
    assert [line for line in lines if not line.endswith(" []")] == []


def test_the_help_starts_without_ml_metadata() -> None:
    program = "import sys, oncall.__main__; print([m for m in ('ml_metadata', 'pyarrow', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_help_has_room_in_80_columns_and_cuts_no_sentence() -> None:
    for arguments in ([], *([name] for name in main.commands)):
        output = CliRunner().invoke(main, [*arguments, "--help"], terminal_width=80).output
        assert max(map(len, output.splitlines())) <= 80, arguments
        assert "..." not in output.replace("[ARGS]...", ""), arguments


def test_a_flag_that_a_command_would_refuse_is_not_in_its_help(two_runs: Runs, oncall: Oncall) -> None:
    for name in main.commands:
        refused = name in ("log", "resume", "rollback", "quarantine", "gc", "web", "report", "traffic")
        output = CliRunner().invoke(main, [name, "--help"]).output
        assert ("--project" in output, "On Vertex AI: " in output) == (not refused, refused), name
    result = CliRunner().invoke(main, ["resume", FIRST, "--project", "p"])
    assert (result.exit_code, "submit the same config again" in result.output) == (2, True)


def test_every_command_flag_and_exit_code_has_its_place_on_the_page() -> None:
    page = (ROOT / "docs" / "oncall.md").read_text()
    for name, command in main.commands.items():
        assert f"python -m oncall {name}" in page, name
        for option in command.params:
            for flag in option.opts if isinstance(option, click.Option) else ():
                assert re.search(rf"{flag}\b", page), (name, flag)
    for code in re.findall(r"^  (\d+) +\w", EPILOG, flags=re.MULTILINE):
        assert f"| {code} |" in page, code
