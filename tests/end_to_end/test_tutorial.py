"""The commands of a page, run in one shell, print the output of the page.

They run on fewer rows than a reader's, for fewer epochs: numbers are not compared.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, shorten_census
from tests.database_servers import free_port
from tests.forked_shell import open_shell

pytestmark = pytest.mark.proof
_PORT = "8501"


def read_steps(page: str) -> list[tuple[str, list[str]]]:
    """Return each command of the page, with the lines of output below it."""
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            else:
                steps[-1][1].append(line)
    return steps


def run_steps(steps: list[tuple[str, list[str]]], folder: Path) -> list[str]:
    """Run the commands in one shell, in a folder with the data and configs of the repository; return their outputs."""
    for name in ("configs", "schemas", "data/census"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shorten_census(folder)
    (folder / "local_runner.py").symlink_to(ROOT / "local_runner.py")
    mark = "end of a command"
    script = "\n".join(f"{command}\necho; echo '{mark}'" for command, _ in steps)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    with open_shell() as head:
        head += "\nset -e; trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"
        done = subprocess.run(
            ["bash", "-c", f"{head}\n{script.replace(_PORT, str(free_port()))}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=800,
        )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout.replace(f"{folder}/", "").split(f"\n{mark}\n")[:-1]


def normalise(line: str) -> str:
    """Return a line with its numbers, hashes and spaces replaced, which differ from run to run."""
    return " ".join(re.sub(r"\b[0-9a-f]{12,16}\b|\d[\d.,:T]*", "0", line).split())


@pytest.mark.parametrize(
    ("name", "commands"), [("tutorial.md", 16), ("how-to/bigquery.md", 5), ("how-to/example_gen.md", 3)]
)
def test_every_command_of_a_page_prints_the_output_of_the_page(name: str, commands: int, tmp_path: Path) -> None:
    page = (ROOT / "docs" / name).read_text()
    for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL):
        (tmp_path / "data.yaml").write_text(block)
    steps = read_steps(page)
    outputs = run_steps(steps, tmp_path)
    assert len(outputs) == len(steps) >= commands
    for (command, lines), output in zip(steps, outputs, strict=True):
        printed = {normalise(line) for line in output.splitlines()}
        assert [line for line in lines if normalise(line) not in printed] == [], f"{command}\n{output}"
