"""`report`: one file, which is never written over another by mistake."""

import json
import re
from pathlib import Path

import pytest

from tests.oncall.conftest import Oncall
from tests.oncall.run_roots import Runs
from tests.oncall.test_cli import FIRST


def test_it_is_one_file_with_nothing_from_elsewhere(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST, fails=("Trainer", "ValueError: see https://example.com/why", 1))
    result = oncall("report", "latest")
    file = runs.root.path / "reports" / f"run-{FIRST}.html"
    assert (result.exit_code, result.stdout.split(": ")[0]) == (0, str(file))
    html = file.read_text()
    assert "ValueError: see https://example.com/why" in html
    assert "No version of census-income serves." in html
    # Links go to places in the file itself; nothing is fetched.
    targets = re.findall(r"""(?:href|src|action|data|srcset)\s*=\s*["']([^"']*)""", html)
    assert {target[0] for target in targets} == {"#", "d"}
    assert [target for target in targets if target.startswith("d")] == ["data:,"]
    assert not re.search(r"<(script|iframe|object|embed|img|form)\b|@import|url\((?!#)", html)
    ids = set(re.findall(r' id="([^"]*)"', html))
    assert {target[1:] for target in targets if target.startswith("#")} <= ids


def test_a_file_that_is_there_stays(runs: Runs, oncall: Oncall, tmp_path: Path) -> None:
    runs.run(FIRST)
    file = tmp_path / "mine.html"
    file.write_text("mine")
    refused = oncall("report", "latest", "--output", file)
    assert refused.exit_code == 2
    assert (
        refused.stderr == f"error: {file}: exists already; give --output another name, or replace it with --overwrite\n"
    )
    assert file.read_text() == "mine"
    replaced = json.loads(oncall("report", "latest", "--output", file, "--overwrite", "--json").stdout)
    assert replaced == {"report": str(file), "run": FIRST, "bytes": file.stat().st_size, "replaced": True}
    assert file.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html", "runs"]


@pytest.mark.parametrize(
    ("output", "message", "code"),
    [
        (".", "is a folder; --output names a file", 2),
        ("no/such/x.html", "cannot be written: No such file or directory; name another with --output", 6),
        ("/proc/x.html", "cannot be written: No such file or directory; name another with --output", 6),
    ],
)
def test_a_place_that_cannot_be_written(output: str, message: str, code: int, runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    refused = oncall("report", "latest", "--output", output)
    assert (refused.exit_code, refused.stderr) == (code, f"error: {output}: {message}\n")


def test_a_run_that_is_not_there(runs: Runs, oncall: Oncall) -> None:
    runs.run(FIRST)
    refused = oncall("report", "1999")
    assert refused.exit_code == 2
    assert not (runs.root.path / "reports").exists()


def test_secrets_that_found_their_way_into_a_log_or_a_config_are_left_out(runs: Runs, oncall: Oncall) -> None:
    config = {"push": {"registry": "ftp://me:hunter2@host/x"}, "database": {"password": "hunter2", "user": "me"}}
    runs.run(
        FIRST,
        fails=("Trainer", "OperationalError: mysql://me:hunter2@db/x refused", 1),
        log="connecting with password=hunter2\nerror: token: hunter2\n",
        overrides={"command": ["local_runner.py", "--set", "database.password=hunter2"], "config": config},
    )
    oncall("report", "latest")
    html = (runs.root.path / "reports" / f"run-{FIRST}.html").read_text()
    assert "hunter2" not in html
    assert "mysql://(hidden)@db/x refused" in html
